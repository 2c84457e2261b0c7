"""Small pieces against the slow obvious version: position buckets, their layout, products, gradients, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx.models.common import masks, products
from flanx.models.t5 import relative_bias


def test_buckets_by_hand():
    def buckets(distances, bidirectional):
        return relative_bias.bucket(
            np.array(distances), bidirectional=bidirectional, buckets=32, max_distance=128
        ).tolist()

    # Bidirectional: 16 buckets a side, 8 of them exact, the last from distance 91 or so on.
    assert buckets([0, -1, -7, -8, -127, -500], True) == [0, 1, 7, 8, 15, 15]
    assert buckets([1, 7, 8, 127, 500], True) == [17, 23, 24, 31, 31]
    # Causal: the future is distance 0; 16 exact, 16 logarithmic.
    assert buckets([3, 0, -1, -15, -16, -127, -128, -900], False) == [0, 0, 1, 15, 16, 31, 31, 31]


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 5), (6, 2), (4, 4)])
def test_toeplitz_equals_indexing(queries, keys):
    values = np.random.default_rng(0).normal(size=(2, queries + keys - 1)).astype(np.float32)
    index = np.arange(keys)[None] - np.arange(queries)[:, None] + queries - 1
    np.testing.assert_array_equal(
        relative_bias.toeplitz(jnp.asarray(values), queries, keys), values[:, index]
    )


def test_matmul_gradients_equal_autodiff():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5))
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    want = jax.grad(lambda x, k: jnp.sum(jnp.sin(x @ k)), argnums=(0, 1))(x, kernel)
    got = jax.grad(lambda x, k: jnp.sum(jnp.sin(products.matmul(x, k))), argnums=(0, 1))(x, kernel)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("with_bias", [True, False])
def test_attention_and_its_gradients_equal_autodiff(with_bias):
    rng = np.random.default_rng(1)
    query, key, value = (jnp.asarray(rng.normal(size=(2, 3, n, 4)), jnp.float32) for n in (5, 6, 6))
    bias = jnp.asarray(rng.normal(size=(1, 3, 5, 6)), jnp.float32) if with_bias else None
    allowed = rng.random((2, 1, 5, 6)) < 0.7
    mask = jnp.where(allowed, 0.0, masks.BLOCKED).astype(jnp.float32)

    def plain(query, key, value, bias):
        logits = jnp.einsum("bhqd,bhkd->bhqk", query, key) + mask
        logits = logits if bias is None else logits + bias
        return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(logits), value)

    def ours(query, key, value, bias):
        return products.attention(query, key, value, bias, mask)

    arguments = (query, key, value, bias)
    np.testing.assert_allclose(ours(*arguments), plain(*arguments), atol=1e-5)
    which = (0, 1, 2, 3) if with_bias else (0, 1, 2)
    want = jax.grad(lambda *a: jnp.sum(jnp.sin(plain(*a))), argnums=which)(*arguments)
    got = jax.grad(lambda *a: jnp.sum(jnp.sin(ours(*a))), argnums=which)(*arguments)
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("mask_rows", [1, 3])
def test_attention_row_by_row_equals_all_at_once(monkeypatch, mask_rows):
    q_key, k_key, bias_key = jax.random.split(jax.random.key(0), 3)
    query = jax.random.normal(q_key, (3, 2, 5, 4))
    keys = jax.random.normal(k_key, (3, 2, 7, 4))
    bias = jax.random.normal(bias_key, (1, 2, 5, 7))
    lengths = jnp.asarray([7, 4, 2])[:mask_rows]
    mask = jnp.where(jnp.arange(7) < lengths[:, None], 0.0, masks.BLOCKED)[:, None, None]
    together = products.attention(query, keys, keys, bias, mask)
    monkeypatch.setattr(products, "IN_CACHE", 0)
    by_row = products.attention(query, keys, keys, bias, mask)
    np.testing.assert_allclose(by_row, together, rtol=1e-6)


def test_masks_by_hand():
    tokens, segments = jnp.array([[5, 6, 7, 0]]), jnp.array([[1, 1, 2, 0]])
    open_ = masks.encoder_mask(tokens, segments)[0, 0] == 0
    assert open_.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    open_ = masks.decoder_mask(4, tokens, segments)[0, 0] == 0
    assert open_.astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    open_ = masks.cross_mask(tokens, jnp.array([[9, 9]]), segments, jnp.array([[1, 2]]))[0, 0] == 0
    assert open_.astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]
    assert masks.cross_mask(tokens, None, None, None).shape == (1, 1, 1, 4)
