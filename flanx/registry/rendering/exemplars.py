"""Where exemplars come from: the train split's pool, or the row itself; never the query nor its double."""

import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flanx.registry.draws import Draws, fraction
from flanx.registry.rendering.template import RESERVED, Template
from flanx.registry.rendering.texts import plain
from flanx.registry.sources import Row, RowSource

_PIECE = 1 << 20  # characters that are split into words at once
_SPACE = re.compile(r"\s")


@dataclass(frozen=True)
class PoolRow:
    """A train row that may stand as an exemplar: its place in the split, its fields and what tells it apart."""

    index: int
    fields: Mapping[str, Any]
    identity: tuple[str, ...]


def identity_names(templates: Sequence[Template]) -> tuple[str, ...]:
    """Fields that the inputs show and no target does: two rows equal in them ask the same thing."""
    inputs: set[str] = set()
    targets: set[str] = set()
    for template in templates:
        inputs |= template.input_fields - RESERVED
        targets |= template.target_fields
    return tuple(sorted(inputs - targets or inputs))


def answer_names(templates: Sequence[Template]) -> tuple[str, ...]:
    """Fields that the targets show."""
    return tuple(sorted({name for template in templates for name in template.target_fields}))


def identity(fields: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The values of the named fields, white space evened out."""
    return tuple(_even(str(fields.get(name, ""))) for name in names)


def _even(text: str) -> str:
    """White space evened out, piece by piece: the words of a long text take many times its memory."""
    if len(text) <= _PIECE:
        return " ".join(text.split())
    pieces = []
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + _PIECE)
        end = space.start() if space else len(text)
        pieces.append(" ".join(text[start:end].split()))
        start = end
    return " ".join(filter(None, pieces))


def read_pool(
    source: RowSource,
    to_fields: Callable[[int, Row], Mapping[str, Any] | None],
    names: Sequence[str],
    *,
    size: int,
    dataset: str,
    seed: int,
    data_dir: str | None,
) -> list[PoolRow]:
    """At most `size` rows of the train split, a random subset fixed by (seed, dataset), in order of place.

    Args:
      to_fields: (index, row) to the fields, or None where the row cannot be an exemplar.
      names: fields that make the identity.
    """
    row_at = getattr(source, "row_at", None)
    if row_at is not None:
        count = source.count("train", data_dir)
        places = sorted(Draws(seed, dataset, 0, "pool").sample(count, size))
        chosen: Iterable[tuple[int, Row]] = ((i, row_at("train", i, data_dir)) for i in places)
    else:
        ranked = (
            (fraction(f"{seed} {dataset} {index}", "pool"), index, row)
            for index, row in enumerate(source.rows("train", data_dir))
        )
        kept = heapq.nsmallest(size, ranked, key=lambda item: item[:2])
        chosen = sorted(((index, row) for _, index, row in kept), key=lambda item: item[0])
    pool = []
    for index, row in chosen:
        fields = to_fields(index, row)
        if fields is not None:
            pool.append(PoolRow(index, fields, identity(fields, names)))
    return pool


def draw_from_pool(
    pool: Sequence[PoolRow], query: tuple[str, ...], query_index: int | None, k: int, draws: Draws
) -> list[Mapping[str, Any]]:
    """Fields of `k` rows of the pool, or of as many as there are, all different from each other and from the query.

    Args:
      query: the query's identity; rows that share it are passed over.
      query_index: the query's place in the train split, or None where it stands in another.
    """
    seen = {query}
    chosen: list[Mapping[str, Any]] = []
    for place in draws.order(len(pool)):
        if len(chosen) == k:
            break
        row = pool[place]
        if row.index != query_index and row.identity not in seen:
            seen.add(row.identity)
            chosen.append(row.fields)
    return chosen


def draw_from_row(
    given: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Any],
    names: Sequence[str],
    k: int,
    draws: Draws,
) -> list[Mapping[str, Any]]:
    """Fields of `k` of the row's own exemplars, or of as many as there are, but for those that ask what the row asks.

    An exemplar's fields stand over the row's, so that what all share (a definition, say) need not be in each.
    """
    chosen: list[Mapping[str, Any]] = []
    for place in draws.order(len(given)):
        if len(chosen) == k:
            break
        shared = [name for name in names if name in given[place]]
        if not shared or identity(given[place], shared) != identity(fields, shared):
            chosen.append({**fields, **plain(given[place])})
    return chosen
