"""What `flanx lengths` prints: the candidates side by side, and the line to paste."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flanx.data.manifest import Manifest
from flanx.insight.distribution import Lengths
from flanx.insight.lengths import Advice, Candidate, Material
from flanx.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

PERCENTILES = (50, 90, 95, 99)
_NARROWEST = 100  # a table that goes to a file is not folded


@dataclass(frozen=True)
class Found:
    """Everything there is to say.

    Attributes:
      manifest: the store measured.
      material: what was measured with.
      advice: the best candidates.
      compared: lengths to compare with; the first is the gin file's own where `batch_size` is given.
      clip_rate: what was asked for.
      batch_size: rows of a batch, where a gin file says it together with lengths.
    """

    manifest: Manifest
    material: Material
    advice: Advice
    compared: Sequence[Candidate]
    clip_rate: float
    batch_size: int | None = None

    @property
    def gin(self) -> str:
        """The recommendation as it stands in a gin file."""
        best = self.advice.best[0]
        return f'TASK_FEATURE_LENGTHS = {{"inputs": {best.inputs}, "targets": {best.targets}}}'

    @property
    def same_batch(self) -> int | None:
        """Rows that hold as many examples as the gin file's batch does at its own lengths."""
        if self.batch_size is None:
            return None
        ratio = self.compared[0].examples_per_row / self.advice.best[0].examples_per_row
        return max(round(self.batch_size * ratio), 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        manifest, material = self.manifest, self.material
        features = (("inputs", material.inputs), ("targets", material.targets))
        return {
            "mixture": manifest.mixture,
            "split": manifest.split,
            "tasks": len(manifest.entries),
            "examples": manifest.num_examples,
            "measured_at": dict(manifest.feature_lengths),
            "sampled_examples": sum(len(block) for block in material.blocks),
            "clip_rate": self.clip_rate,
            "pack": material.packed,
            "lengths": {name: _spread(lengths) for name, lengths in features},
            "recommended": self.advice.best[0].to_json(),
            "gin": self.gin,
            "same_examples_batch_size": self.same_batch,
            "best": [one.to_json() for one in self.advice.best],
            "compared": [one.to_json() for one in self.compared],
            "candidates": self.advice.considered,
            "candidates_packed": self.advice.measured,
        }


def show(found: Found) -> None:
    """Prints lengths, candidates and the recommendation to standard output."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _NARROWEST))
    manifest, material = found.manifest, found.material
    console.print(
        f"{printable(manifest.mixture)} {printable(manifest.split)}: {manifest.num_examples:,} examples of "
        f"{len(manifest.entries):,} tasks, weighted by their rates",
        markup=False,
    )
    console.print(_length_table(material))
    console.print()
    console.print(_candidate_table(found))
    console.print()
    console.print(f"Recommended, at a clip rate of {found.clip_rate:g}:", markup=False)
    # Never folded: it is there to be pasted.
    console.print(f"  {found.gin}", markup=False, soft_wrap=True, style="bold")
    if found.same_batch not in (None, found.batch_size):
        console.print(
            f"  BATCH_SIZE = {found.same_batch} holds as many examples as {found.batch_size} rows do now",
            markup=False,
        )
    for name, lengths in (("inputs", material.inputs), ("targets", material.targets)):
        if lengths.clipped:
            console.print(
                f"{lengths.clipped:.2%} of the {name} are longer than {lengths.limit:,} (the longest "
                f"{lengths.longest:,}): a larger --measure sees them whole",
                markup=False,
            )
    if any(entry.type.startswith("fs") for entry in manifest.entries):
        console.print(
            "Few-shot examples that are too long lose exemplars rather than their end.",
            markup=False,
        )


@contextlib.contextmanager
def counting() -> Iterator[Callable[[], None]]:
    """A spinner on a terminal that counts the candidates packed; silent elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("FLANX_PROGRESS") == "off":
        yield lambda: None
        return
    from rich.console import Console

    done = 0
    with Console(stderr=True).status("lengths: bounds of all candidates") as status:

        def advance() -> None:
            nonlocal done
            done += 1
            status.update(f"lengths: {done:,} candidates packed")

        yield advance


def _spread(lengths: Lengths) -> dict[str, float]:
    percentiles = {f"p{percent}": lengths.percentile(percent) for percent in PERCENTILES}
    return {
        "mean": round(lengths.mean, 2),
        **percentiles,
        "longest": lengths.longest,
        "beyond_measured": lengths.clipped,
    }


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", vertical="bottom")
    return table


def _length_table(material: Material) -> "Table":
    table = _table("", "mean", *(f"{percent}%" for percent in PERCENTILES), "longest")
    for name, lengths in (("inputs", material.inputs), ("targets", material.targets)):
        percentiles = [f"{lengths.percentile(percent):,}" for percent in PERCENTILES]
        table.add_row(name, f"{lengths.mean:,.1f}", *percentiles, f"{lengths.longest:,}")
    return table


def _candidate_table(found: Found) -> "Table":
    best = found.advice.best[0]
    table = _table(
        *(
            "",
            "inputs",
            "targets",
            "inputs\ncut",
            "targets\ncut",
            "inputs\nfilled",
            "targets\nfilled",
        ),
        *("examples\na row", "MFLOPs\na token", "wasted", "cost"),
    )

    def add(label: str, one: Candidate, style: str = "") -> None:
        table.add_row(
            *(label, f"{one.inputs:,}", f"{one.targets:,}"),
            *(_cut(one.inputs_cut, found.clip_rate), _cut(one.targets_cut, found.clip_rate)),
            *(f"{one.inputs_fill:.1%}", f"{one.targets_fill:.1%}"),
            *(f"{one.examples_per_row:.2f}", _millions(one.flops_per_token)),
            *(f"{one.wasted:.1%}", f"{one.flops_per_token / best.flops_per_token:.2f}"),
            style=style,
        )

    for place, one in enumerate(found.advice.best, 1):
        add("recommended" if place == 1 else f"{place}", one, "bold" if place == 1 else "")
    table.add_section()
    for place, one in enumerate(found.compared):
        now = place == 0 and found.batch_size is not None
        usual = "Flan 2022's" if (one.inputs, one.targets) == (2048, 512) else "common"
        add("now" if now else usual, one, "dim")
    return table


def _millions(value: float) -> str:
    return f"{value / 1e6:,.{0 if value >= 1e8 else 1}f}"


def _cut(share: float, clip_rate: float) -> str:
    """A share in per cent, marked where it is more than was asked for."""
    return f"{share:.2%}{' !' if share > clip_rate else ''}"
