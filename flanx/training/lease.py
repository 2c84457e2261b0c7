"""One run at a time in a MODEL_DIR: a lease that its holder keeps fresh, and that the next takes over from the dead.

MODEL_DIR/lease.json names the holder. It is made in one act that only one process can win, touched every few seconds,
and removed at the end. Whether a holder still lives is asked of the kernel where both run on one machine, at once: a
process that was killed delays nobody. Of another machine's holder nothing is known but its lease, so that is watched:
touched again, the holder lives; untouched for a minute of this machine's clock, it is dead. No two clocks are compared.

A holder that stood still for so long (a stopped process, a machine that slept) may have been taken for dead. It asks
`check` before it deletes or overwrites anything.
"""

import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flanx import temporary
from flanx.errors import UserError

FILE = "lease.json"
BEAT_SECONDS = 5.0  # between two touches
STALE_SECONDS = 60.0  # untouched for so long, a holder on another machine is dead
SETTLE_SECONDS = 2.0  # until two that took over the same dead holder's lease both see whose it is
TRIES = 5  # of taking a lease that changes while it is looked at


class Lost(UserError):
    """Another process has taken the lease over: whatever this one wrote now would damage the other's run."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
      id: of this taking, random.
      host, process, since: for people; `since` is UTC.
      machine: boot id of the kernel that it runs on, or the host's name where there is none.
      namespace: in which its process number counts (containers have their own).
      born: when its process began, in the kernel's ticks: process numbers come round again.
      locked: whether it also holds the kernel's lock on the file.
    """

    id: str
    host: str
    process: int
    since: str
    machine: str
    namespace: str
    born: str
    locked: bool

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"


class Lease:
    """A lease that is held, kept fresh by a thread until `release`."""

    def __init__(self, path: Path, mine: Holder, descriptor: int):
        """`take` makes these."""
        self._path, self._mine, self._descriptor = path, mine, descriptor
        self._taken_by: Holder | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flanx-lease", daemon=True)
        self._thread.start()

    def check(self, *, read: bool = True) -> None:
        """Asks whether the lease is still this process's; to be called before anything is deleted or overwritten.

        Args:
          read: look at the file now; else what the thread saw last is enough.

        Raises:
          Lost: another process has it.
        """
        if read:
            self.beat()
        if self._taken_by is not None:
            raise Lost(
                f"MODEL_DIR = {self._path.parent} was taken over by {self._taken_by}, because this process stood "
                "still for too long: it ends here and writes nothing more; give each run a MODEL_DIR of its own"
            )

    def beat(self) -> None:
        """Looks whose the lease is, and touches it if it is this process's; what cannot be reached is tried again."""
        try:
            there = _read(self._path)
            if there is None and self._path.parent.is_dir():  # somebody has removed it
                _make_again(self._path, self._mine)
            elif there is not None and there.id != self._mine.id:
                self._taken_by = there
            else:
                os.utime(self._path)
        except OSError:
            pass

    def release(self) -> None:
        """Gives the lease back; one that is lost is left alone."""
        self._done.set()
        self._thread.join()
        try:
            there = _read(self._path)
            if there is not None and there.id == self._mine.id:
                self._path.unlink(missing_ok=True)
        except OSError:
            pass  # the next one finds this process dead
        os.close(self._descriptor)

    def _run(self) -> None:
        while not self._done.wait(BEAT_SECONDS) and self._taken_by is None:
            self.beat()


def take(
    model_dir: str | Path,
    *,
    say: Callable[[str], None],
    wait: Callable[[float], object] = time.sleep,
) -> Lease:
    """Takes the lease of a MODEL_DIR, from a dead holder if need be.

    Args:
      model_dir: a folder that is there.
      say: told in one line that a holder on another machine is watched.
      wait: sleeps.

    Raises:
      UserError: another process holds it; names host, process and since when.
      OSError: the file system refuses.
    """
    path = Path(model_dir) / FILE
    if path.is_dir():
        raise UserError(f"{path} is a folder, where flanx keeps a file: remove it")
    for number in range(TRIES):
        mine, own, descriptor = _prepare(path)
        try:
            taken = _make(own, path, mine) or _take_over(
                path, mine, own, say, wait, last=number == TRIES - 1
            )
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            own.unlink(missing_ok=True)
        if taken:
            return Lease(path, mine, descriptor)
        os.close(descriptor)
    raise UserError(f"MODEL_DIR = {path.parent}: {_in_use(_read(path))}")


def _take_over(
    path: Path,
    mine: Holder,
    own: Path,
    say: Callable[[str], None],
    wait: Callable[[float], object],
    *,
    last: bool,
) -> bool:
    """Whether the lease of a dead holder is taken; False where it changed meanwhile, and may be tried again.

    Raises:
      UserError: the holder lives.
    """
    before = _stamp(path)
    if before is None:
        return False
    holder = _read(path)
    alive = None if holder is None else _alive(holder, path)
    watched = alive is None
    if watched:
        say(
            f"MODEL_DIR is held by {holder or 'a process whose name cannot be read'}: watching for up to "
            f"{STALE_SECONDS:.0f} seconds whether it still lives"
        )
        alive = not _stands_still(path, before, wait)
    if alive:
        raise UserError(f"MODEL_DIR = {path.parent}: {_in_use(holder)}")
    try:
        dead = path.open("rb+")
    except FileNotFoundError:  # given back meanwhile
        return False
    with dead:
        # Others of this machine that take over the same lease wait for this one, and then see whose it is.
        if _lock(dead.fileno()) is False and not last:
            wait(0.2)
            return False
        if _stamp(path) != before:
            return False
        os.replace(own, path)
    if watched:
        wait(SETTLE_SECONDS)  # those of other machines: the last one has it
    there = _read(path)
    if there is None or there.id != mine.id:
        raise UserError(f"MODEL_DIR = {path.parent}: {_in_use(there)}")
    return True


def _in_use(holder: Holder | None) -> str:
    return (
        f"in use by {holder or 'another process'}: two runs in one folder would delete each other's checkpoints; wait "
        "for that one to end, or choose another MODEL_DIR"
    )


def _prepare(path: Path) -> tuple[Holder, Path, int]:
    """This process's lease in a file beside `path`, and the descriptor that holds the kernel's lock on it."""
    own = path.parent / f"{temporary.prefix()}{path.name}"
    descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        mine = _this_process(_lock(descriptor) is True)
        os.write(descriptor, _text(mine))
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        own.unlink(missing_ok=True)
        raise
    return mine, own, descriptor


def _make(own: Path, path: Path, mine: Holder) -> bool:
    """Gives the file its name; False where somebody has it."""
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links (buckets that are mounted)
        try:
            with path.open("xb") as file:
                file.write(_text(replace(mine, locked=False)))
        except FileExistsError:
            return False
    return True


def _make_again(path: Path, mine: Holder) -> None:
    """The same lease once more, where somebody has removed it; another's is left alone."""
    own = path.parent / f"{temporary.prefix()}{path.name}"
    try:
        own.write_bytes(_text(replace(mine, locked=False)))
        _make(own, path, mine)
    finally:
        own.unlink(missing_ok=True)


def _this_process(locked: bool) -> Holder:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    number = os.getpid()
    return Holder(
        id=uuid.uuid4().hex,
        host=os.uname().nodename,
        process=number,
        since=now,
        machine=_machine(),
        namespace=_namespace(),
        born=temporary.started(number),
        locked=locked,
    )


def _alive(holder: Holder, path: Path) -> bool | None:
    """Whether a holder on this machine lives; None where its machine is another, or the kernel does not tell."""
    if holder.machine != _machine():
        return None
    if holder.namespace == _namespace():
        return temporary.alive(holder.process) and temporary.started(holder.process) == holder.born
    if not holder.locked:
        return None
    try:
        descriptor = os.open(path, os.O_RDWR)  # in another container: its lock went with it
    except FileNotFoundError:  # given back since it was read
        return False
    try:
        return _lock(descriptor) is False
    finally:
        os.close(descriptor)


def _stands_still(path: Path, before: tuple[bytes, int], wait: Callable[[float], object]) -> bool:
    """Whether nobody touches the lease for `STALE_SECONDS`, or it goes; looks are counted, no clock is read."""
    waited = 0.0
    while waited < STALE_SECONDS:
        wait(BEAT_SECONDS)
        waited += BEAT_SECONDS
        now = _stamp(path)
        if now != before:
            return now is None
    return True


def _stamp(path: Path) -> tuple[bytes, int] | None:
    """Contents and time of change; the file is opened anew, so that a network file system asks its server."""
    try:
        with path.open("rb") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _read(path: Path) -> Holder | None:
    """Who holds the lease; None where there is none, or nothing that can be read."""
    try:
        fields = json.loads(path.read_bytes())
        return Holder(**fields)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _text(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder), indent=1) + "\n").encode()


def _lock(descriptor: int) -> bool | None:
    """Whether the kernel's lock could be had; None where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
