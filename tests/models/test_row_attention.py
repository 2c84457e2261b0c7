"""Attention row by row, as one CPU trains, against all rows together."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx.models.common import products, row_attention
from flanx.sharding import constraints


@pytest.mark.parametrize(
    ("queries", "biased", "dtype", "close"),
    [(6, True, "float32", 1e-5), (3, False, "float32", 1e-5), (6, True, "bfloat16", 4e-2)],
)
def test_values_and_gradients_are_those_of_all_rows_together(queries, biased, dtype, close):
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.normal(size=(4, 2, n, 5)), dtype) for n in (queries, 6, 6))
    mask = jnp.where(jnp.asarray(rng.random((4, 1, queries, 6)) < 0.3), -1e10, 0.0)
    arrays = [query, key, value]
    arrays += [jnp.asarray(rng.normal(size=(1, 2, queries, 6)), jnp.float32)] if biased else []

    def run():
        def call(query, key, value, bias=None):
            mixed = products.attention(query, key, value, bias, mask)
            return jnp.sum(mixed.astype(jnp.float32) ** 2), mixed

        numbers = tuple(range(len(arrays)))
        return jax.jit(jax.grad(call, numbers, has_aux=True))(*arrays)

    want = run()
    with (
        mock.patch.object(products, "KEPT", 0),
        mock.patch.object(row_attention, "forward", wraps=row_attention.forward) as rows,
    ):
        with constraints.compiled_for("tpu"):
            run()
        assert not rows.called  # where it will not run on one CPU
        got = run()
        assert rows.called
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert ours.dtype == theirs.dtype
        ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
        np.testing.assert_allclose(ours, theirs, atol=close * np.abs(theirs).max())
