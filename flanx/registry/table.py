"""What is registered, by name; the SeqIO bridge listens here for what comes."""

import contextlib
from collections.abc import Callable, Iterator

from flanx.errors import UserError, did_you_mean
from flanx.registry.mixtures.parts import Mixture
from flanx.registry.spec import TaskSpec

_tasks: dict[str, TaskSpec] = {}
_datasets: dict[str, tuple[TaskSpec, ...]] = {}
_mixtures: dict[str, Mixture] = {}
_listeners: list[Callable[[str], None]] = []


def add_dataset(dataset: str, specs: tuple[TaskSpec, ...], place: str) -> None:
    """Adds a dataset's tasks.

    Raises:
      UserError: one of the names is taken; the message says where.
    """
    for name in (dataset, *(spec.name for spec in specs)):
        if taken := _taken(name):
            raise UserError(
                f"two tasks of one name: '{name}' ({place}) is registered at {taken}; rename one"
            )
    _datasets[dataset] = specs
    _tasks.update((spec.name, spec) for spec in specs)
    for listener in tuple(_listeners):
        listener(dataset)


def add_mixture(mixture: Mixture) -> None:
    """Adds a mixture; raises UserError when its name is taken."""
    if taken := _taken(mixture.name):
        raise UserError(
            f"mixture '{mixture.name}' ({mixture.place}): the name is registered at {taken}; rename one"
        )
    _mixtures[mixture.name] = mixture
    for listener in tuple(_listeners):
        listener(mixture.name)


def _taken(name: str) -> str | None:
    if name in _tasks:
        return _tasks[name].place
    if name in _datasets:
        return _datasets[name][0].place
    if name in _mixtures:
        return _mixtures[name].place
    return None


def tasks() -> dict[str, TaskSpec]:
    """Every task by name, in the order of registration."""
    return _tasks


def datasets() -> dict[str, tuple[TaskSpec, ...]]:
    """Every dataset's tasks, one a template type."""
    return _datasets


def mixtures() -> dict[str, Mixture]:
    """Every flanx mixture by name."""
    return _mixtures


def get_task(name: str) -> TaskSpec:
    """The task `name`; raises UserError with the nearest name when there is none."""
    if name not in _tasks:
        raise UserError(
            f"no task named '{name}'{did_you_mean(name, [*_tasks, *_datasets, *_mixtures])}"
        )
    return _tasks[name]


def get_mixture(name: str) -> Mixture:
    """The flanx mixture `name`; raises UserError with the nearest name when there is none."""
    if name not in _mixtures:
        raise UserError(f"no mixture named '{name}'{did_you_mean(name, _mixtures)}")
    return _mixtures[name]


def listen(listener: Callable[[str], None]) -> None:
    """Calls `listener(name)` for each dataset and mixture: those here now, and those to come."""
    for name in (*_datasets, *_mixtures):
        listener(name)
    _listeners.append(listener)


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """An empty registry for a while, for tests; what was there comes back at the end."""
    tasks_kept, datasets_kept, mixtures_kept = dict(_tasks), dict(_datasets), dict(_mixtures)
    _clear()
    try:
        yield
    finally:
        _clear()
        _tasks.update(tasks_kept)
        _datasets.update(datasets_kept)
        _mixtures.update(mixtures_kept)


def _clear() -> None:
    _tasks.clear()
    _datasets.clear()
    _mixtures.clear()
