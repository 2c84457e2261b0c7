"""What a name or glob stands for, of all that is registered by now. Imports no module that could register more."""

import fnmatch
import re

from flanx.registry import table
from flanx.registry.seqio import external_tasks

_GLOB = re.compile(r"[*?\[]")


def is_glob(pattern: str) -> bool:
    """Whether the name has a wildcard."""
    return _GLOB.search(pattern) is not None


def known(pattern: str) -> bool:
    """Whether a name or glob stands for anything that is registered by now."""
    return (
        pattern in table.mixtures()
        or bool(match(pattern))
        or external_tasks.known(pattern)
        or bool(external_tasks.names(pattern))
    )


def match(pattern: str) -> list[str]:
    """Names of the flanx tasks that a name or glob of datasets or tasks stands for."""
    tasks, datasets = table.tasks(), table.datasets()
    if not is_glob(pattern):
        if pattern in tasks:
            return [pattern]
        return [spec.name for spec in datasets.get(pattern, ())]
    matches = re.compile(fnmatch.translate(pattern)).match
    found = [spec.name for name in datasets if matches(name) for spec in datasets[name]]
    known = set(found)
    found += [name for name in tasks if name not in known and matches(name)]
    return found
