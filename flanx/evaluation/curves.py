"""MODEL_DIR/curves.png: training loss, suite scores over the steps, and tuned against untuned and majority answers."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from flanx import atomic_files
from flanx.evaluation import history

if TYPE_CHECKING:
    from flanx.evaluation.summary import Summary, TaskSummary

FILE = "curves.png"
# Okabe and Ito's colours, told apart by readers with any common colour blindness; markers differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
TUNED, UNTUNED, MAJORITY = "#0072B2", "#E69F00", "#999999"
MOST_BARS = 40


def draw(model_dir: str | os.PathLike[str], summary: "Summary | None") -> None:
    """Draws what metrics.jsonl and the summary hold, and writes the file whole.

    Args:
      model_dir: the run's folder.
      summary: from `flanx.evaluation.summary.summarise`; None to draw the training loss alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    past = history.read(model_dir)
    bars = _bars(summary) if summary else []
    height = 3.8 + (0.9 + 0.32 * len(bars) if bars else 0.0)
    figure: Any = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    if bars:
        top, bottom = figure.subfigures(2, 1, height_ratios=[3.8, height - 3.8])
        _draw_bars(bottom.subplots(), bars)
    else:
        top = figure.subfigures(1, 1)
    left, right = top.subplots(1, 2)
    _draw_loss(left, past.loss)
    names = [suite.name for suite in summary.suites] if summary else []
    _draw_scores(right, {name: past.series(f"{name}/score") for name in names}, summary)
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    atomic_files.write(epath.Path(model_dir) / FILE, image.getvalue())


def _draw_loss(axes: Any, loss: Mapping[int, float]) -> None:
    axes.set_title("Training loss", loc="left")
    axes.set_ylabel("nats per token")
    if not loss:
        return
    steps, values = np.array(list(loss)), np.array(list(loss.values()))
    axes.plot(steps, values, color=TUNED, alpha=0.3, linewidth=1)
    window = max(len(values) // 20, 1)
    if window > 1:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, color=TUNED, linewidth=2)


def _draw_scores(
    axes: Any, series: Mapping[str, Mapping[int, float]], summary: "Summary | None"
) -> None:
    axes.set_title("Score (line) and majority answer (dashes)", loc="left")
    axes.set_ylabel("percent")
    axes.set_ylim(0, 100)
    for i, (name, scores) in enumerate(series.items()):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.plot(
            list(scores),
            list(scores.values()),
            color=colour,
            marker=marker,
            linewidth=2,
            label=name,
        )
        constant = summary.suites[i].majority if summary else None
        if constant is not None:
            axes.axhline(constant, color=colour, linestyle="--", linewidth=1, alpha=0.8)
    if series:
        axes.legend(loc="best", frameon=False)


def _bars(summary: "Summary") -> list[tuple[str, Any]]:
    """(label, figures) of each group of bars: tasks where they are few, and every suite's mean."""
    groups: list[tuple[str, Any]] = []
    for suite in summary.suites:
        tasks: Sequence[TaskSummary] = suite.tasks if len(suite.tasks) <= MOST_BARS else ()
        groups += [(f"{task.task} (n={task.examples:,})", task) for task in tasks]
        groups.append((f"{suite.name} (mean, n={suite.examples:,})", suite))
    return groups


def _draw_bars(axes: Any, groups: Sequence[tuple[str, Any]]) -> None:
    places = np.arange(len(groups))
    kinds = (("tuned", TUNED), ("untuned", UNTUNED), ("majority", MAJORITY))
    for offset, (kind, colour) in enumerate(kinds):
        values = [getattr(figures, kind) for _, figures in groups]
        shown = [0.0 if value is None else value for value in values]
        axes.barh(places + 0.27 * (offset - 1), shown, height=0.25, color=colour, label=kind)
    axes.set_yticks(places, [label for label, _ in groups])
    axes.invert_yaxis()
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("percent")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
