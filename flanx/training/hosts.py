"""Joining the other processes of a run: one process a host, under JAX's own multi-controller runtime.

Who takes part is said by flags, or by what started the processes: the metadata of a TPU slice, SLURM, or Open MPI. A
process that nothing says this of is alone.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import util
from pathlib import Path
from typing import Any

import flanx
from flanx.errors import UserError
from flanx.hardware import present
from flanx.training import coordinator_loss, rendezvous

JOIN_SECONDS = 300  # how long the first process waits for the last
# After which JAX aborts all processes of a run when one is not heard of, and it may do so after half of that. The
# watchdog, which says who is gone and ends with status 75, takes up to 100 s and must be first.
HEARTBEAT_SECONDS = 300
# Settings that may be each host's own: where things lie there, and what runs there.
OWN = (
    "model_dir",
    "cache_dir",
    "data_dir",
    "vocabulary",
    "initial_checkpoint_path",
    "compile_cache",
    "cache_workers",
)
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# (number of processes, number of this one) as their launchers tell them
_SLURM = ("SLURM_NTASKS", "SLURM_PROCID")
_OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")


@dataclass(frozen=True)
class Hosts:
    """What a command line says of the processes of a run; all None where it says nothing.

    Attributes:
      coordinator_address: `host:port` of process 0 (T5X: --coordinator_address).
      process_count: number of processes (T5X: --process_count).
      process_index: which of them this one is, from 0 (T5X: --process_index).
      join_timeout: seconds to wait for the others; None for JOIN_SECONDS.
    """

    coordinator_address: str | None = None
    process_count: int | None = None
    process_index: int | None = None
    join_timeout: float | None = None


@dataclass(frozen=True)
class Place:
    """This process among those of its run.

    Attributes:
      how: what said so, for messages.
      address, count, index: arguments of `jax.distributed.initialize`; None where JAX finds them itself.
    """

    how: str
    address: str | None = None
    count: int | None = None
    index: int | None = None


class Apart(UserError):
    """The processes that a launcher started did not meet: a host is late or lost, and started again they may."""

    status = 75


def join(hosts: Hosts, settings: Mapping[str, str] | None = None) -> None:
    """Joins the run's other processes; to be called once, before any use of a device. Alone it does nothing.

    Args:
      hosts: what the command line says.
      settings: of the run, by name; all processes must have the same.

    Raises:
      UserError: what is said is incomplete or cannot be, or the processes do not fit together.
      Apart: they did not find each other, and it was a launcher that told them of each other.
    """
    place = find_place(hosts, os.environ, _on_tpu)
    if place is None:
        return
    import jax

    if jax.distributed.is_initialized():
        return
    seconds = hosts.join_timeout or JOIN_SECONDS
    try:
        address, count, index, devices = _settled(place, seconds)
        facts = {
            "the version of flanx": flanx.__version__,
            "the version of jax": jax.__version__,
            **(settings or {}),
        }
        rendezvous.meet(address, count, index, facts=facts, seconds=seconds, say=_say)
        jax.distributed.initialize(
            address,
            count,
            index,
            local_device_ids=devices,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        kind = Apart if place.address is None else UserError
        raise kind(
            f"the processes of this run did not find each other ({place.how}): {reason}"
        ) from error
    if index:
        coordinator_loss.end_with_status(address, Apart.status)


def _settled(place: Place, seconds: float) -> tuple[str, int, int, int | Sequence[int] | None]:
    """Address, number of processes, number of this one and its devices; JAX asks the launcher for what is not said."""
    if place.address is not None and place.count is not None and place.index is not None:
        return place.address, place.count, place.index, None
    from jax._src import clusters  # what jax.distributed.initialize itself asks

    address, count, index, devices = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(seconds)
    )
    if address is None or count is None or index is None:
        raise ValueError("JAX does not learn of this launcher where process 0 runs")
    return address, count, index, devices


def shared_settings(config: Any) -> dict[str, str]:
    """A configuration's settings that all processes must have alike, by name: all but those of `OWN`."""
    found: dict[str, str] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in OWN:
            continue
        if is_dataclass(value):
            found |= shared_settings(value)
        else:
            found[f"{type(config).__name__}.{field.name}"] = _short(repr(value))
    return found


def _short(text: str) -> str:
    if len(text) <= 80:
        return text
    return f"{text[:60]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _say(text: str) -> None:
    print(f"flanx: {text}", file=sys.stderr, flush=True)


def find_place(
    hosts: Hosts, environment: Mapping[str, str], on_tpu: Callable[[], bool]
) -> Place | None:
    """This process's place, from flags, the variables of the same meaning, or its launcher; None for a process alone.

    Args:
      hosts: flags.
      environment: environment variables.
      on_tpu: whether this machine has TPU chips, asked last.

    Raises:
      UserError: an address without numbers or the reverse, numbers that cannot be, or a launcher that gives no address.
    """
    address = hosts.coordinator_address or environment.get(ADDRESS)
    launcher = _launcher(environment)
    count = _number(hosts.process_count, COUNT, environment)
    index = _number(hosts.process_index, INDEX, environment)
    if address is not None:
        if launcher is not None and count is None and index is None:
            count, index = (int(environment[name]) for name in launcher)
        return _checked(address, count, index)
    if count is not None or index is not None:
        raise UserError(
            "--process_count and --process_index want --coordinator_address=HOST:PORT, where process 0 runs"
        )
    if launcher == _OPEN_MPI and "OMPI_MCA_orte_hnp_uri" not in environment:
        raise UserError(
            "this Open MPI does not say where its first process runs: give --coordinator_address=HOST:PORT"
        )
    if launcher is not None:
        return Place("SLURM" if launcher == _SLURM else "Open MPI")
    return Place("TPU metadata") if on_tpu() else None


def _launcher(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The variables of the launcher that started several processes, this among them."""
    for names in (_OPEN_MPI, _SLURM):
        if all(environment.get(name, "").isdecimal() for name in names):
            return names if int(environment[names[0]]) > 1 else None
    return None


def _number(flag: int | None, name: str, environment: Mapping[str, str]) -> int | None:
    if flag is not None or name not in environment:
        return flag
    if not environment[name].isdecimal():
        raise UserError(f"{name}={environment[name]}: not a number of processes")
    return int(environment[name])


def _checked(address: str, count: int | None, index: int | None) -> Place:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--coordinator_address={address}: write HOST:PORT, say 10.0.0.2:8476")
    if count is None or index is None:
        raise UserError(
            f"--coordinator_address={address} wants --process_count=N and --process_index=I, from 0, as well"
        )
    if not 0 <= index < count:
        raise UserError(
            f"--process_index={index} is not among 0..{count - 1} (--process_count={count})"
        )
    return Place(f"process {index} of {count}, coordinator {address}", address, count, index)


def _on_tpu() -> bool:
    """Whether this machine has TPU chips, and the library that drives them."""
    platforms = os.environ.get("JAX_PLATFORMS", "tpu")
    return present.has_tpu() and "tpu" in platforms and util.find_spec("libtpu") is not None


def check_shared(folder: str) -> None:
    """Refuses a MODEL_DIR that is not one and the same for all processes, each of which saves its part there.

    Raises:
      UserError: on every process, naming those for which it is another folder.
    """
    import jax

    if jax.process_count() == 1:
        return
    import numpy as np
    from jax.experimental import multihost_utils

    primary, number = jax.process_index() == 0, secrets.randbits(32)
    failure = None
    if primary:
        try:
            _mark(folder, number).touch()
        except OSError as error:
            failure = error
    number = int(multihost_utils.broadcast_one_to_all(np.uint32(number)))
    seen = multihost_utils.process_allgather(np.int32(_mark(folder, number).exists()))
    if failure is not None:
        raise UserError(f"MODEL_DIR = {folder} cannot be written to: {failure}") from failure
    if primary:
        _mark(folder, number).unlink(missing_ok=True)
    if not seen[0]:
        raise UserError(f"process 0 cannot write to MODEL_DIR = {folder}; its message says why")
    strangers = [str(index) for index, found in enumerate(seen) if not found]
    if strangers:
        raise UserError(
            f"MODEL_DIR = {folder} is not the same folder for all processes (process {', '.join(strangers)} cannot see "
            "what process 0 writes): it must lie in a file system that they share (docs/launching.md)"
        )


def _mark(folder: str, number: int) -> Path:
    return Path(folder) / f".shared-{number:08x}"


def agree(what: str, work: Callable[[], Any]) -> Any:
    """Runs `work` on process 0 first, then on the others, who may rely on what it left behind.

    Args:
      what: names the point where the processes meet.
      work: called once on every process.

    Raises:
      UserError: process 0's work failed; the others are told to end, instead of waiting for it for ever.
    """
    import jax

    if jax.process_count() == 1:
        return work()
    import numpy as np
    from jax.experimental import multihost_utils

    result, failure = None, None
    if jax.process_index() == 0:
        try:
            result = work()
        except Exception as error:
            failure = error
    failed = multihost_utils.broadcast_one_to_all(np.int32(failure is not None))
    if failure is not None:
        raise failure
    if failed:
        raise UserError(f"process 0 ended while it was {what}; its message says why")
    return result if jax.process_index() == 0 else work()
