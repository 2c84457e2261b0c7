"""The processes of a run meet before JAX joins them, so that a mistake in how they were started is one line.

JAX's runtime aborts the process, minutes later and with a C++ trace, where its port is taken, process 0 cannot be
reached or two processes have one number, and it does not notice that they disagree on how many they are. Here each
process says in a line of JSON at the coordinator's address who it is and what it runs; process 0 answers all of them
once everyone is there, or says what does not fit, and then leaves the port to JAX.
"""

import contextlib
import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from flanx.errors import UserError

BIND = "JAX_COORDINATOR_BIND_ADDRESS"  # as JAX reads it
ATTEMPT_SECONDS = 5.0  # of one try to connect
PORT_SECONDS = 5.0  # for the process that had the port before to be gone
ADDRESS_SECONDS = (
    30.0  # for process 0 to find itself at the address, which a name server may not know yet
)
SAY_SECONDS = 10.0  # without the others, before the user is told
LINGER_SECONDS = 3.0  # in which processes that start at the same time still hear what is wrong
PAUSE_SECONDS = 0.1
MOST_BYTES = 1 << 16  # of a line


class Mismatch(UserError):
    """The processes were started in a way that cannot work, however often it is tried."""


class NotMet(Exception):
    """Not everyone came in time; the text says who, why as far as it shows, and what to do."""


@dataclass(frozen=True)
class Member:
    """What a process says of itself.

    Attributes:
      index, count: its number, and how many it believes there are.
      host, pid: where it is, for messages.
      facts: what must be the same everywhere: versions and settings, by name.
    """

    index: int
    count: int
    host: str
    pid: int
    facts: Mapping[str, str]

    def text(self) -> str:
        return f"process {self.index} ({self.host}, pid {self.pid})"


def meet(
    address: str,
    count: int,
    index: int,
    *,
    facts: Mapping[str, str],
    seconds: float,
    say: Callable[[str], None],
) -> None:
    """Returns once all `count` processes are known to have started and to fit together.

    Args:
      address: `host:port` of process 0.
      count, index: as for `jax.distributed.initialize`.
      facts: what must be the same in all of them; the first that differs is named.
      seconds: to wait for the others.
      say: told, once, whom it waits for.

    Raises:
      Mismatch: two processes have one number, they disagree on their number or a fact, or the address is not process
        0's.
      NotMet: somebody did not come, or the port stays taken.
    """
    me = Member(index, count, socket.gethostname(), os.getpid(), dict(facts))
    deadline = time.monotonic() + seconds
    if index == 0:
        with _listening(address, me) as listener:
            _Reception(listener, address, me, deadline, seconds, say).run()
    else:
        _Visit(address, me, deadline, seconds, say).run()


def mismatch(primary: Member, other: Member) -> str | None:
    """Why the two cannot be of one run, in words; None where they can."""
    if other.count != primary.count:
        return (
            f"{other.text()} was started as one of {other.count} processes and {primary.text()} as one of "
            f"{primary.count}: give all of them the same --process_count"
        )
    if not 0 <= other.index < primary.count:
        return (
            f"{other.text()}: there are processes 0 to {primary.count - 1}; check --process_index"
        )
    for name in sorted({*primary.facts, *other.facts}):
        mine, theirs = primary.facts.get(name), other.facts.get(name)
        if mine != theirs:
            return (
                f"{name} is {theirs} for {other.text()} and {mine} for {primary.text()}: start all processes "
                "with the same command, in the same environment"
            )
    return None


@contextlib.contextmanager
def _listening(address: str, me: Member) -> Iterator[socket.socket]:
    """The coordinator's port, held as nobody else can: JAX would share it with another run, or die."""
    bound = os.environ.get(BIND) or f"[::]:{address.rpartition(':')[2]}"
    host, port = _split(bound)
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            server = _server(host, port)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                _refuse_twin(address, me)
                raise NotMet(
                    f"port {port} of this machine ({me.host}) cannot be had: {_reason(error)}; end what holds it (a "
                    "run that is still ending?), or give another port"
                ) from error
        time.sleep(PAUSE_SECONDS)
    with server:
        yield server


def _server(host: str, port: int) -> socket.socket:
    if host in ("::", "") and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # no IPv6 here after all
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    if host in ("::", ""):
        return socket.create_server(("", port))
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


def _refuse_twin(address: str, me: Member) -> None:
    """Where the port is held by a process 0 that waits as well, that one says so."""
    with contextlib.suppress(OSError, ValueError):
        with socket.create_connection(_split(address), ATTEMPT_SECONDS) as connection:
            connection.sendall(_line(asdict(me)))
            answer = _answer(connection, time.monotonic() + ATTEMPT_SECONDS)
        if isinstance(answer, dict) and "mistake" in answer:
            raise Mismatch(str(answer["mistake"]))


class _Reception:
    """Process 0's side: takes down who comes, until all are there."""

    def __init__(
        self,
        listener: socket.socket,
        address: str,
        me: Member,
        deadline: float,
        seconds: float,
        say: Callable[[str], None],
    ):
        self._listener, self._address, self._me = listener, address, me
        self._deadline, self._seconds, self._say = deadline, seconds, say
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytes] = {}
        self._present: dict[int, tuple[Member, socket.socket]] = {}
        self._found_myself = False
        self._expected = me.count - 1  # connections of others; more where one of them believes so

    def run(self) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        try:
            self._wait()
            # The port is JAX's before anybody is told to go there.
            self._selector.unregister(self._listener)
            self._listener.close()
            self._tell({"go": True})
        except Mismatch as mistake:
            self._linger({"mistake": str(mistake)})
            raise
        except NotMet as failure:
            self._tell({"gave_up": str(failure)})
            raise
        finally:
            for connection in self._buffers:
                connection.close()
            self._selector.close()

    def _wait(self) -> None:
        began = time.monotonic()
        look, told = began, False
        while len(self._present) < self._me.count - 1 or not self._found_myself:
            now = time.monotonic()
            if now > self._deadline:
                self._look_for_myself(now - began)
                raise NotMet(
                    f"{self._missing()} did not come within {self._seconds:g} s; check that every one was started, and "
                    "that process 0 can be reached from all"
                )
            if not self._found_myself and now >= look:
                self._look_for_myself(now - began)
                look = now + 1.0
            if not told and now > began + SAY_SECONDS:
                told = True
                self._say(
                    f"process 0 of {self._me.count} waits at {self._address} for {self._missing()}, at most "
                    f"{self._seconds:g} s"
                )
            self._serve(PAUSE_SECONDS)

    def _missing(self) -> str:
        gone = [str(i) for i in range(1, self._me.count) if i not in self._present]
        return f"process{'es' if len(gone) > 1 else ''} {', '.join(gone)}"

    def _look_for_myself(self, waited: float) -> None:
        """Connects to the address as the others will, and as JAX's own client will in this process."""
        try:
            connection = socket.create_connection(_split(self._address), ATTEMPT_SECONDS)
        except OSError as error:
            self._check_address(waited, error)
            return
        with connection:
            connection.sendall(_line({"self": self._me.pid, "host": self._me.host}))
            self._serve(PAUSE_SECONDS)
            self._serve(0.0)
        self._check_address(waited, None)

    def _check_address(self, waited: float, error: OSError | None) -> None:
        if self._found_myself or waited < min(ADDRESS_SECONDS, self._seconds):
            return
        why = "another program answers" if error is None else _reason(error)
        raise Mismatch(
            f"process 0 ({self._me.host}) cannot reach itself at --coordinator_address={self._address} ({why}): give "
            "an address of the machine on which process 0 runs"
        )

    def _serve(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listener:
                with contextlib.suppress(OSError):
                    connection, _ = self._listener.accept()
                    connection.setblocking(False)
                    self._buffers[connection] = b""
                    self._selector.register(connection, selectors.EVENT_READ)
            else:
                assert isinstance(key.fileobj, socket.socket)
                self._read(key.fileobj)

    def _read(self, connection: socket.socket) -> None:
        try:
            content = connection.recv(MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            content = b""
        buffer = self._buffers[connection] + content
        self._buffers[connection] = buffer
        if not content or len(buffer) > MOST_BYTES:
            self._forget(connection)
        elif buffer.endswith(b"\n"):
            self._hear(connection, buffer)

    def _forget(self, connection: socket.socket) -> None:
        """A process that ended while it waited may be started again."""
        self._selector.unregister(connection)
        del self._buffers[connection]
        connection.close()
        gone = [i for i, (_, its) in self._present.items() if its is connection]
        for index in gone:
            del self._present[index]

    def _hear(self, connection: socket.socket, line: bytes) -> None:
        try:
            said = json.loads(line)
            if "self" in said:
                self._found_myself |= said == {"self": self._me.pid, "host": self._me.host}
                return
            other = Member(**said)
            self._expected = max(self._expected, other.count - 1)
            mistake = mismatch(self._me, other)
        except (ValueError, TypeError, AttributeError):  # not one of ours: a scan of ports, say
            self._forget(connection)
            return
        if other.index == 0 and mistake is None:
            self._send(connection, {"mistake": _twins(self._me, other)})
            return
        if mistake is None and other.index in self._present:
            mistake = _twins(self._present[other.index][0], other)
        if mistake is not None:
            raise Mismatch(mistake)
        self._present[other.index] = (other, connection)

    def _tell(self, answer: Mapping[str, Any]) -> None:
        for connection in self._buffers:
            self._send(connection, answer)

    def _send(self, connection: socket.socket, answer: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(_line(answer))

    def _linger(self, answer: Mapping[str, Any]) -> None:
        """Tells the others, those too that are about to come."""
        self._tell(answer)
        heard = len(self._buffers)
        until = time.monotonic() + LINGER_SECONDS
        while heard < self._expected and time.monotonic() < until:
            for key, _ in self._selector.select(PAUSE_SECONDS):
                if key.fileobj is self._listener:
                    with contextlib.suppress(OSError):
                        connection, _ = self._listener.accept()
                        self._buffers[connection] = b""
                        self._send(connection, answer)
                        heard += 1
                else:
                    self._selector.unregister(key.fileobj)


class _Visit:
    """Another process's side: goes to process 0 until it answers."""

    def __init__(
        self,
        address: str,
        me: Member,
        deadline: float,
        seconds: float,
        say: Callable[[str], None],
    ):
        self._address, self._me = address, me
        self._deadline, self._seconds, self._say = deadline, seconds, say
        self._reason = "no answer"

    def run(self) -> None:
        began, told = time.monotonic(), False
        while not self._attempt():
            now = time.monotonic()
            if now > self._deadline:
                self._give_up()
            if not told and now > began + SAY_SECONDS:
                told = True
                self._say(
                    f"process {self._me.index} of {self._me.count} waits for process 0 at {self._address}, at most "
                    f"{self._seconds:g} s ({self._reason})"
                )
            time.sleep(PAUSE_SECONDS)
        self._await_port()

    def _attempt(self) -> bool:
        try:
            left = max(self._deadline - time.monotonic(), PAUSE_SECONDS)
            with socket.create_connection(
                _split(self._address), min(ATTEMPT_SECONDS, left)
            ) as connection:
                self._reason = "it does not answer"
                connection.sendall(_line(asdict(self._me)))
                # Process 0 has a deadline of its own, and says more than a connection that ends.
                answer = _answer(connection, self._deadline + LINGER_SECONDS)
        except OSError as error:
            self._reason = _reason(error)
            return False
        except ValueError:
            self._reason = (
                "what answers there is no process 0 that waits: another program, or a run that has begun without "
                "this process"
            )
            return False
        if "mistake" in answer:
            raise Mismatch(str(answer["mistake"]))
        if "gave_up" in answer:
            raise NotMet(str(answer["gave_up"]))
        return bool(answer.get("go"))

    def _await_port(self) -> None:
        """JAX's client waits longer after a first refusal than its service takes to start."""
        until = time.monotonic() + ATTEMPT_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection(_split(self._address), ATTEMPT_SECONDS).close()
                return
            time.sleep(PAUSE_SECONDS / 5)

    def _give_up(self) -> NoReturn:
        raise NotMet(
            f"process 0 cannot be reached at {self._address} within {self._seconds:g} s: {self._reason}; check that "
            "it was started, and that this is its address"
        )


def _twins(first: Member, second: Member) -> str:
    return (
        f"two processes say that they are process {first.index} ({first.host}, pid {first.pid}; {second.host}, pid "
        f"{second.pid}): give each its own --process_index"
    )


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _answer(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """The line that the other side sends.

    Raises:
      OSError: it ended, or said nothing until `deadline`.
      ValueError: it is not a line of ours.
    """
    buffer = b""
    while not buffer.endswith(b"\n"):
        connection.settimeout(max(deadline - time.monotonic(), PAUSE_SECONDS))
        content = connection.recv(MOST_BYTES)
        if not content:
            raise ConnectionResetError(None, "the connection was closed")
        buffer += content
        if not buffer.startswith(b"{") or len(buffer) > MOST_BYTES:
            raise ValueError("not a rendezvous")
    answer = json.loads(buffer)
    if not isinstance(answer, dict):
        raise ValueError("not a rendezvous")
    return answer


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "no answer"
    return os.strerror(error.errno).lower() if error.errno else str(error)
