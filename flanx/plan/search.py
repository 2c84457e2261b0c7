"""Many settings of one run, ranked: all of them by arithmetic, the most promising by the compiler.

Each compilation has a process of its own, so that the memory of one is back before the next begins.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from flanx import child_process
from flanx.errors import UserError
from flanx.plan import roofline, settings
from flanx.plan.estimate import estimate
from flanx.plan.facts import Facts
from flanx.plan.report import ms
from flanx.plan.topology import Topology
from flanx.sharding.mesh_shape import mesh_shape
from flanx.training.config import TrainConfig

# Arithmetic may be wrong by a quarter about memory: a setting so much too large is not yet ruled out.
_DOUBT = 1.25
# Where none of those compiled fits, as many again are: the fastest that still fit if arithmetic is as wrong about them.
_ROUNDS = 2

Tried = tuple[TrainConfig, Facts]
Say = Callable[[str], None]


def search(config: TrainConfig, where: Topology, *, compiled: int, say: Say) -> list[Tried]:
    """Settings that fit, the best first.

    Args:
      config: the run; its batch, lengths and network stay as they are.
      where: the devices.
      compiled: how many settings the compiler is asked about, and once more as many if none of them fits; 0 for
        arithmetic alone.
      say: told what is going on.

    Raises:
      UserError: no setting splits the batch over the devices, or none could be compiled.
    """
    candidates = list(settings.every(config, where))
    if not candidates:
        mesh_shape(settings.changed(config, model=1).mesh, where.devices, where.slices)
        fewest = where.devices // (where.per_slice & -where.per_slice)
        raise UserError(
            f"no mesh splits BATCH_SIZE = {config.batch_size} over {where.devices} devices, of which at most "
            f"{where.devices // fewest} can share a row: give a multiple of {fewest}"
        )
    say(f"{len(candidates)} settings split the batch over {where.devices} devices")
    guesses: list[Tried] = []
    for number, one in enumerate(candidates, 1):
        guesses.append((one, estimate(one, where)))
        if number % 50 == 0:
            say(f"estimated {number} of {len(candidates)}")
    doubt = _DOUBT if compiled else 1.0
    likely = [one for one in guesses if one[1].memory.total <= doubt * one[1].memory.usable]
    likely.sort(key=_rank)
    if not compiled:
        return likely
    for _ in range(_ROUNDS):
        tried = _compiled(likely[:compiled], where, say)
        found = [(one, facts) for one, _, facts in tried if facts.memory.fits]
        if found:
            return sorted(found, key=_rank)
        off = max((facts.memory.total / guess.memory.total for _, guess, facts in tried), default=1)
        likely = [
            one for one in likely[compiled:] if one[1].memory.total * off <= one[1].memory.usable
        ]
    return []


def _compiled(
    chosen: Sequence[Tried], where: Topology, say: Say
) -> list[tuple[TrainConfig, Facts, Facts]]:
    """Each setting with what arithmetic and the compiler say; without those that the compiler cannot do.

    Raises:
      UserError: it can do none of them.
    """
    found: list[tuple[TrainConfig, Facts, Facts]] = []
    for number, (one, guess) in enumerate(chosen, 1):
        try:
            facts = compile_apart(one, where)
        except UserError as error:
            if number == len(chosen) and not found:
                raise
            say(f"compiled {number} of {len(chosen)}: {describe(one, guess)}: {error}")
            continue
        verdict = "fits" if facts.memory.fits else "does not fit"
        say(
            f"compiled {number} of {len(chosen)} in {facts.seconds:.0f} s: {describe(one, facts)}: {verdict}"
        )
        found.append((one, guess, facts))
    return found


def compile_apart(config: TrainConfig, where: Topology) -> Facts:
    """`compile_step` in a fresh process.

    Raises:
      UserError: as `compile_step` does; or the process was ended from outside, for want of memory as a rule.
    """
    context = multiprocessing.get_context("spawn")
    path = [os.path.abspath(entry) for entry in sys.path]
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=child_process.import_from, initargs=(path,)
    ) as pool:
        try:
            with child_process.safe_start():
                compiled = pool.submit(_compile, config, where)
            return compiled.result()
        except BrokenProcessPool as error:
            raise UserError(
                "the compiling process was ended from outside, perhaps for want of memory; close other programs, or "
                "try again with --estimate"
            ) from error


def describe(config: TrainConfig, facts: Facts) -> str:
    """A setting in a few words."""
    mesh = " ".join(f"{axis}={size}" for axis, size in facts.mesh.items())
    return f"{mesh} {config.mesh.parameters}, microbatches={config.microbatches}, remat={config.model.remat}"


def _rank(one: Tried) -> tuple[float, float]:
    """Sooner is better, even if nothing overlaps; then smaller."""
    times = roofline.roofline(one[1])
    return times.serial, float(one[1].memory.total)


def _compile(config: TrainConfig, where: Topology) -> Facts:
    from flanx.plan import topology

    topology.prepare_environment()
    from flanx.plan.compiled import compile_step

    return compile_step(config, where)


def shown(found: Sequence[Tried]) -> list[str]:
    """A table, the best first."""
    lines = [f"{'GiB':>8} {'bound':>10} {'serial':>10} {'MFU':>6}  setting"]
    for config, facts in found:
        times = roofline.roofline(facts)
        lines.append(
            f"{facts.memory.total / 2**30:>8.2f} {ms(times.bound):>10} {ms(times.serial):>10} "
            f"{roofline.mfu(facts, times.bound):>6.1%}  {describe(config, facts)}"
        )
    return lines
