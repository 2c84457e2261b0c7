"""Rows of the playground: drawn by `Draws` alone, and dealt to the splits by what they ask.

A row belongs to a split by the hash of its question (`key`), whatever its number: so train and validation never
share a question, however many rows of each are drawn.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flanx.registry.draws import Draws, fraction

Item = TypeVar("Item")
Row = dict[str, Any]

# Where each split lies among the fractions that questions hash to.
SPLITS = {"train": (0.0, 0.8), "validation": (0.8, 1.0)}
_TRIES = 2000


def between(draws: Draws, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both counted in."""
    return low + draws.integer(high - low + 1)


def some(draws: Draws, items: Sequence[Item], k: int) -> list[Item]:
    """k of the items in random order, none twice."""
    return [items[i] for i in draws.sample(len(items), k)]


def choices(draws: Draws, answer: str, pool: Sequence[str], n: int = 4) -> list[str]:
    """The answer and n - 1 others of the pool, in random order."""
    others = [word for word in dict.fromkeys(pool) if word != answer]
    return draws.shuffled([answer, *some(draws, others, n - 1)])


def split_of(question: str) -> str:
    """The split that a question belongs to."""
    place = fraction(question, "playground split")
    return next(name for name, (low, high) in SPLITS.items() if low <= place < high)


def draw(
    make: Callable[[Draws], Row], name: str, split: str, index: int, whole: bool = False
) -> Row:
    """Row `index` of `split`: the next of a fixed stream of candidates that is of the split and not yet asked.

    Rows are made in order and kept, so that no question is asked twice. With `whole` the split may ask anything: for
    tasks that have no other split.
    """
    rows, asked = _kept(make, name, split)
    while len(rows) <= index:
        rows.append(_next_row(make, name, split, len(rows), asked, whole))
    return rows[index]


@functools.cache
def _kept(make: Callable[[Draws], Row], name: str, split: str) -> tuple[list[Row], set[str]]:
    return [], set()


def _next_row(
    make: Callable[[Draws], Row],
    name: str,
    split: str,
    number: int,
    asked: set[str],
    whole: bool,
) -> Row:
    for attempt in range(_TRIES):
        row = make(Draws(0, f"playground.{name}", number, f"{split} {attempt}"))
        if row["key"] not in asked and (whole or split_of(f"{name}: {row['key']}") == split):
            asked.add(row["key"])
            return row
    raise ValueError(f"playground.{name}: no more than {number} questions in the split {split}")
