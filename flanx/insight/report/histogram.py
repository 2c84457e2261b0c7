"""A histogram of lengths as shapes to draw: bars, percentile marks and axis, in the units of an SVG view box."""

import math
from dataclasses import dataclass

from flanx.insight.distribution import Lengths

WIDTH, HEIGHT = 460, 224
LEFT, RIGHT, TOP, BOTTOM = 8, 452, 66, 194
BARS = 44
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Bar:
    """A bar and what it says on hovering; `cut` where it holds the examples that were cut."""

    x: float
    y: float
    width: float
    height: float
    label: str
    cut: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line with a label of its own height, so that labels do not run into each other."""

    x: float
    label: str
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Histogram:
    """Everything that the page draws of one feature."""

    name: str
    summary: str
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str, str], ...]


def histogram(name: str, lengths: Lengths) -> Histogram:
    """The histogram of a feature's lengths, weighted as training meets them."""
    used = int(lengths.shares.nonzero()[0].max(initial=1))
    step = max(math.ceil(used / BARS), 1)
    count = math.ceil(used / step)
    end = count * step
    scale = (RIGHT - LEFT) / end
    shares = [float(lengths.shares[i * step + 1 : (i + 1) * step + 1].sum()) for i in range(count)]
    tallest = max(shares, default=0.0) or 1.0
    bars = []
    for i, share in enumerate(shares):
        height = (BOTTOM - TOP) * share / tallest
        last = i == count - 1 and lengths.clipped > 0
        words = f"{i * step + 1:,} to {(i + 1) * step:,} tokens: {share:.2%}"
        words += f", {lengths.clipped:.2%} of all cut" if last else ""
        bars.append(
            Bar(
                round(LEFT + i * step * scale, 1),
                round(BOTTOM - height, 1),
                round(max(step * scale - 1, 0.5), 1),
                round(height, 1),
                words,
                last,
            )
        )
    marks = []
    for row, percent in enumerate(PERCENTILES):
        at = lengths.percentile(percent)
        x = LEFT + at * scale
        anchor = "start" if x < WIDTH * 0.6 else "end"
        marks.append(Mark(round(x, 1), f"{percent}% up to {at:,}", TOP - 50.0 + 20 * row, anchor))
    ends = f"{lengths.percentile(50):,}, 95% up to {lengths.percentile(95):,}"
    summary = (
        f"Lengths of {name}: half up to {ends}, 99% up to {lengths.percentile(99):,} tokens; "
        f"{lengths.clipped:.2%} cut to {lengths.limit:,}"
    )
    return Histogram(name, summary, tuple(bars), tuple(marks), _ticks(end, scale))


def _ticks(end: int, scale: float) -> tuple[tuple[float, str, str], ...]:
    """About four round numbers along the axis: place, label, text anchor."""
    rough = max(end / 4, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    values = range(0, end + 1, int(step))
    return tuple(
        (
            round(LEFT + v * scale, 1),
            f"{v:,}",
            "start" if v == 0 else "end" if v * scale + LEFT > WIDTH - 20 else "middle",
        )
        for v in values
    )
