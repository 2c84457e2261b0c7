"""The distribution of lengths as a picture: histograms, percentiles, and the recommended row lengths."""

import io
import os
from typing import Any

import numpy as np
from etils import epath

from flanx import atomic_files
from flanx.errors import UserError
from flanx.insight.distribution import Lengths
from flanx.insight.lengths import Candidate

# Okabe and Ito's colours, told apart by readers with any common colour blindness; line styles differ as well.
BARS, CUMULATIVE, CHOSEN = "#56B4E9", "#0072B2", "#D55E00"
PERCENTILES = (50, 90, 95, 99)
BINS = 60


def draw(
    path: str | os.PathLike[str], title: str, inputs: Lengths, targets: Lengths, chosen: Candidate
) -> None:
    """Writes a PNG.

    Args:
      path: the file.
      title: what the examples are of.
      inputs, targets: their lengths.
      chosen: the recommendation to mark.

    Raises:
      UserError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(11, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for axes, name, lengths, row, over in zip(
        figure.subplots(1, 2),
        ("inputs", "targets"),
        (inputs, targets),
        (chosen.inputs, chosen.targets),
        (chosen.inputs_cut, chosen.targets_cut),
        strict=True,
    ):
        _panel(axes, name, lengths, row, over)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    try:
        atomic_files.write(epath.Path(path), image.getvalue())
    except OSError as error:
        raise UserError(f"--plot {os.fspath(path)}: cannot write it ({error.strerror})") from error


def _panel(axes: Any, name: str, lengths: Lengths, row: int, over: float) -> None:
    """Bars of equal ratio on a logarithmic axis, the share of examples up to each length, and the lines."""
    used = np.flatnonzero(lengths.shares)
    shortest, longest = max(int(used[0]), 1), max(int(used[-1]), 2)
    end = max(longest, row) * 1.12
    edges = np.unique(np.geomspace(shortest, longest + 1, BINS + 1).round().astype(int))
    counts, _ = np.histogram(
        np.arange(len(lengths.shares)), bins=edges, weights=100 * lengths.shares
    )
    # Bins hold whole lengths, so a short one may hold one length and its neighbour two: show shares by length.
    heights = counts / np.diff(edges)
    axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=BARS, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xlim(shortest * 0.93, end)
    axes.set_title(f"{name}: mean {lengths.mean:,.0f}, longest {lengths.longest:,}", loc="left")
    axes.set_xlabel("tokens, end-of-sequence included")
    axes.set_ylabel("% of examples, per length")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    share = axes.twinx()
    share.plot(
        np.arange(shortest, longest + 1),
        100 * np.cumsum(lengths.shares)[shortest : longest + 1],
        color=CUMULATIVE,
        linewidth=1.8,
        label="up to this length",
    )
    share.set_ylim(0, 104)
    share.set_ylabel("% of examples, up to this length")
    for percent in PERCENTILES:
        at = lengths.percentile(percent)
        share.plot([at], [percent], marker="o", color=CUMULATIVE, markersize=5)
        share.annotate(
            f"{percent}%: {at:,}",
            (at, percent),
            xytext=(-7, -3 if percent < 99 else 2),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )
    share.axvline(
        row, color=CHOSEN, linestyle="--", linewidth=2, label=f"rows of {row:,}: {over:.2%} cut"
    )
    share.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
    for each in (axes, share):
        each.spines["top"].set_visible(False)
