"""The versions of flanx's parts that decide what is in a store: each a constant in the module that it versions.

A store's key has the versions of the parts that made it, so that a change of one part makes the stores anew that it
concerns, and no others, and a change that moves no byte (a comment, a new name, a faster loop) makes none.
`tests/golden/test_versions.py` fails when a part makes other bytes under the same version.
"""

from types import ModuleType

from flanx.data import store
from flanx.prep import render, seqio_tasks
from flanx.prep.filtering import content, ngrams, overlap_index, row_filters, sketching
from flanx.registry import draws
from flanx.registry.mixtures import mixing_rates
from flanx.registry.rendering import few_shot, renderer
from flanx.registry.sources import held_out, natural_instructions, row_sources, seqio_rows

PARTS: dict[str, ModuleType] = {
    "draws": draws,
    "sources": row_sources,
    "natural_instructions": natural_instructions,
    "held_out": held_out,
    "seqio_rows": seqio_rows,
    "rendering": renderer,
    "few_shot": few_shot,
    "tokens": render,
    "seqio_tokens": seqio_tasks,
    "ngrams": ngrams,
    "content": content,
    "row_filters": row_filters,
    "overlap": overlap_index,
    "sketches": sketching,
    "rates": mixing_rates,
}


def versions() -> dict[str, int]:
    """Every part's version; "store" is that of the layout of its files."""
    of_parts = {name: int(module.VERSION) for name, module in PARTS.items()}
    return {**of_parts, "store": store.FORMAT_VERSION}
