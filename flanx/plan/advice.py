"""What makes a step too large, and which setting makes it fit."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from flanx.models.t5.config import REMAT
from flanx.plan import settings
from flanx.plan.estimate import estimate
from flanx.plan.facts import Facts
from flanx.plan.report import gib
from flanx.plan.topology import Topology
from flanx.training.config import TrainConfig

# Of the settings that promise to fit, how many are tried in earnest.
_TRIES = 2
# What an estimate must leave free before it counts as decided.
_SPARE = 1.3


def with_largest(config: TrainConfig, facts: Facts) -> Facts:
    """The facts with the largest buffers: by arithmetic where the compiler names none (far beyond the limit)."""
    if facts.memory.largest:
        return facts
    largest = estimate(config, facts.topology).memory.largest
    note = "XLA names no buffers; those below are by arithmetic"
    return replace(facts, memory=replace(facts.memory, largest=largest), notes=(*facts.notes, note))


def mend(
    config: TrainConfig, facts: Facts, measure: Callable[[TrainConfig, Topology], Facts]
) -> str:
    """One sentence with the first setting that fits: one change before two, cheap ones before dear ones.

    Arithmetic chooses among them, corrected by how far it is off for the step that does not fit; `measure` (the
    compiler, where there is one) has the last word.
    """
    where = facts.topology
    off = facts.memory.total / max(estimate(config, where).memory.total, 1)
    tried = 0
    for other in _changes(config, where):
        promised = estimate(other, where).memory
        if promised.total * off > promised.usable:
            continue
        found = measure(other, where)
        if found.memory.fits:
            return (
                f"{settings.in_words(other, config)} {_certainty(found)} make it fit: {gib(found.memory.total)} of "
                f"{gib(found.memory.usable)} GiB"
            )
        tried += 1
        if tried == _TRIES:
            break
    return ""


def _certainty(found: Facts) -> str:
    """An estimate that comes near the limit has not decided anything."""
    sure = found.compiled or found.memory.total * _SPARE <= found.memory.usable
    return "would" if sure else "may"


def _changes(config: TrainConfig, where: Topology) -> Iterator[TrainConfig]:
    """Other settings of the same run on the same devices, from the least change on."""
    sharded = [] if config.mesh.parameters == "fully_sharded" else ["fully_sharded"]
    leaner = list(REMAT[REMAT.index(config.model.remat) + 1 :])
    smaller = [config.microbatches * n for n in (2, 4, 8, 16, 32)]
    wider = [config.mesh.model * n for n in (2, 4, 8, 16)]
    every = [
        *(settings.changed(config, parameters=p) for p in sharded),
        *(settings.changed(config, remat=r) for r in leaner),
        *(settings.changed(config, microbatches=m) for m in smaller),
        *(settings.changed(config, model=m) for m in wider),
        *(settings.changed(config, parameters=p, remat=r) for p in sharded for r in leaner),
        *(settings.changed(config, remat="full", microbatches=m) for m in smaller),
        *(
            settings.changed(
                config, parameters="fully_sharded", remat="full", microbatches=m, model=w
            )
            for w in (config.mesh.model, *wider)
            for m in (config.microbatches, *smaller)
        ),
    ]
    whole = settings.splits(config, where)
    yield from (other for other in every if settings.splits(other, where, whole=whole))
