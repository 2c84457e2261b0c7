"""Draws docs/stream.svg: one small block of a real stream, from counts to batches.

python docs/stream_figure.py
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from flanx.data import mixing
from flanx.data.stream import Stream

COLOURS = ("#3b6fb6", "#d98a2b", "#4c9a6a", "#a4559a")
NAMES, SIZES, RATES = ("a", "b", "c", "d"), (9, 7, 14, 5), (6.0, 4.0, 8.0, 2.0)
LENGTHS = {"inputs": 30, "targets": 9}
BLOCK, BLOCK_SIZE, SEED, BATCH = 2, 20, 4, 4
CELL = 15  # pixels of a square
UNIT = 13  # pixels of a token


def store_of(task: int) -> Any:
    draw = np.random.default_rng(task)
    features = {}
    for name, (low, high) in {"inputs": (3, 14), "targets": (1, 5)}.items():
        offsets = np.concatenate([[0], np.cumsum(draw.integers(low, high, SIZES[task]))])
        features[name] = (np.zeros(offsets[-1], np.uint16), offsets)
    return SimpleNamespace(
        num_examples=SIZES[task], example_ids=np.arange(SIZES[task]), feature=features.__getitem__
    )


def stream_of(pack: bool) -> Stream:
    entries = [
        SimpleNamespace(task=name, examples=size, rate=rate)
        for name, size, rate in zip(NAMES, SIZES, RATES, strict=True)
    ]
    return Stream(
        entries, store_of, feature_lengths=LENGTHS, seed=SEED, block_size=BLOCK_SIZE, pack=pack
    )


def box(x: float, y: float, width: float, height: float, colour: str, extra: str = "") -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}" {extra}/>'
    )


def text(x: float, y: float, words: str, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" {extra}>{words}</text>'


def counts(top: int) -> list[str]:
    """Each task's endless sequence, with the places of the block full."""
    counted = mixing.endless(NAMES, RATES, BLOCK_SIZE, SEED)
    before, after = counted.before(BLOCK), counted.before(BLOCK + 1)
    parts = [text(0, top - 12, f"1  places N(b) to N(b + 1) of each task, b = {BLOCK}", BOLD)]
    for task, name in enumerate(NAMES):
        y = top + task * 22
        parts.append(text(0, y + 12, f"{name}, {SIZES[task]} examples"))
        for place in range(28):
            x = 110 + place * (CELL + 3)
            inside = before[task] <= place < after[task]
            extra = 'stroke="#fff"' if inside else 'fill-opacity="0.18"'
            parts.append(box(x, y, CELL, CELL, COLOURS[task], extra))
            if place % SIZES[task] == 0 and place:
                parts.append(box(x - 2.5, y - 3, 1.6, CELL + 6, "#222"))
        parts.append(text(110 + 28 * (CELL + 3) + 2, y + 12, "..."))
    parts.append(
        text(110, top + 100, "| an epoch ends: the next one has an order of its own", SMALL)
    )
    return parts


def shuffled(top: int) -> list[str]:
    """The block's examples in the order of the unpacked stream."""
    rows = stream_of(pack=False).block(BLOCK)
    parts = [
        text(0, top - 12, "2  shuffled: which example stands at a place is a keyed bijection", BOLD)
    ]
    x = 0.0
    for task, index in zip(rows.tasks.tolist(), rows.indices.tolist(), strict=True):
        parts.append(box(x, top, 28, 20, COLOURS[task], 'rx="2"'))
        parts.append(text(x + 14, top + 14, f"{NAMES[task]}{index}", INSIDE))
        x += 31
    return parts


def packed(top: int) -> list[str]:
    """Rows of inputs and targets, with the cuts into batches and hosts."""
    rows = stream_of(pack=True).block(BLOCK)
    gap = LENGTHS["inputs"] * UNIT + 20
    parts = [
        text(0, top - 26, "3  packed, inputs and targets together; rows shuffled", BOLD),
        text(0, top - 8, f"inputs, {LENGTHS['inputs']} cells", SMALL),
        text(gap, top - 8, f"targets, {LENGTHS['targets']} cells", SMALL),
    ]
    for row in range(len(rows)):
        y = top + row * 24
        for feature, (left, length) in enumerate(zip((0, gap), LENGTHS.values(), strict=True)):
            parts.append(box(left, y, length * UNIT, 18, "#eee"))
            x = float(left)
            for place in range(rows.offsets[row], rows.offsets[row + 1]):
                task, width = int(rows.tasks[place]), int(rows.lengths[place, feature]) * UNIT
                parts.append(box(x + 0.5, y, width - 1, 18, COLOURS[task], 'rx="2"'))
                if feature == 0:
                    label = f"{NAMES[task]}{rows.indices[place]}"
                    parts.append(text(x + width / 2, y + 13, label, INSIDE))
                x += width
        right = gap + LENGTHS["targets"] * UNIT
        parts.append(text(right + 12, y + 13, f"row {row}", SMALL))
        batch, inside = divmod(row, BATCH)
        shade = "#444" if batch % 2 == 0 else "#999"
        parts.append(box(right + 62, y - 3, 3, 24, shade))
        label = f"batch {'i + 1' if batch else 'i'}, host {inside * 2 // BATCH} of 2"
        parts.append(text(right + 72, y + 13, label, SMALL))
    bottom = top + len(rows) * 24 + 16
    words = (
        f"{len(rows)} rows; the batch that they leave open goes on with row 0 of block {BLOCK + 1}"
    )
    if len(rows) % BATCH:
        parts.append(text(0, bottom, words, SMALL))
    return parts


BOLD, SMALL = 'font-weight="600"', 'font-size="11" fill="#555"'
INSIDE = 'font-size="10" fill="#fff" text-anchor="middle"'


def main() -> None:
    parts = [*counts(30), *shuffled(180), *packed(262)]
    rows = len(stream_of(pack=True).block(BLOCK))
    height = 262 + rows * 24 + 40
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-16 -8 760 {height}" width="760" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="#222">'
    )
    background = box(-16, -8, 760, height, "#fff")
    lines = [head, background, *parts, "</svg>"]
    Path(__file__).with_name("stream.svg").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
