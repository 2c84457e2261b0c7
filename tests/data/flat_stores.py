"""Rows and tokens of a store made by hand."""

import numpy as np

from flanx.data.batches import Rows
from flanx.data.tokens import Tokens, span


def rows_of(spec, store):
    """Rows from lists of example indices, all of one task."""
    flat = [index for row in spec for index in row]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in spec])]).astype(np.int64)
    starts = np.stack([store[name][1][flat] for name in ("inputs", "targets")], axis=1)
    ends = [store[name][1][np.array(flat, int) + 1] for name in ("inputs", "targets")]
    lengths = np.stack(ends, axis=1) - starts
    return Rows(offsets, np.zeros(len(flat), np.int32), np.array(flat, np.int64), starts, lengths)


def flat_store(inputs, targets, dtype=np.uint16):
    store = {}
    for name, examples in (("inputs", inputs), ("targets", targets)):
        offsets = np.concatenate([[0], np.cumsum([len(e) for e in examples])]).astype(np.int64)
        store[name] = (np.array([t for e in examples for t in e], dtype), offsets)
    return store


def tokens_of(store, tasks=1):
    """The same store for each of some tasks."""
    return {
        name: Tokens.over(np.array([span(flat)] * tasks), flat.dtype)
        for name, (flat, _) in store.items()
    }
