"""Projection and loss together, a part at a time, against the whole logits; and that these are never there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from flanx.errors import UserError
from flanx.models.common.cross_entropy import token_loss
from flanx.models.common.projection import Projection
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import make_mesh
from flanx.training.config import LossConfig
from flanx.training.projected_loss import parts_of, projected_loss

ROWS, LENGTH, EMB, VOCAB = 8, 7, 6, 40


def arrays(dtype=jnp.float32, tied=False):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(ROWS, LENGTH, EMB)), dtype)
    kernel = jnp.asarray(rng.normal(size=(VOCAB, EMB) if tied else (EMB, VOCAB)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, VOCAB, (ROWS, LENGTH)), jnp.int32)
    weights = jnp.asarray(rng.uniform(size=(ROWS, LENGTH)) * (rng.random((ROWS, LENGTH)) < 0.8))
    return hidden, kernel, targets, weights.astype(jnp.float32)


def whole(hidden, kernel, targets, weights, loss, tied):
    """The loss as one would write it: all logits, then automatic differentiation."""
    product = jnp.matmul(
        hidden,
        (kernel.T if tied else kernel).astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )
    each = token_loss(
        product * (0.5 if tied else 1.0),
        targets,
        z_loss=loss.z_loss,
        label_smoothing=loss.label_smoothing,
    )
    return jnp.sum(each.loss * weights), each


def parted(hidden, kernel, targets, weights, loss, tied, parts):
    projection = Projection(hidden, kernel, 0, 0.5) if tied else Projection(hidden, kernel)
    return projected_loss(projection, targets, weights, loss, parts)


@pytest.mark.parametrize(
    ("tied", "smoothing", "parts"), [(False, 0.0, 1), (True, 0.1, 3), (False, 0.1, 100)]
)
def test_values_and_gradients_are_those_of_whole_logits(tied, smoothing, parts):
    *inputs, targets, weights = arrays(tied=tied)
    loss = LossConfig(z_loss=1e-2, label_smoothing=smoothing)

    def tripled(function, *options):
        def call(*x):
            total, each = function(*x, targets, weights, loss, tied, *options)
            return 3 * total, each

        return jax.jit(jax.value_and_grad(call, (0, 1), has_aux=True))(*inputs)

    (want, want_each), want_grads = tripled(whole)
    (got, each), grads = tripled(parted, parts)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), each, want_each
    )
    for ours_grad, grad in zip(grads, want_grads, strict=True):
        np.testing.assert_allclose(ours_grad, grad, rtol=1e-5, atol=1e-5)
    forward = jax.jit(lambda *x: 3 * parted(*x, targets, weights, loss, tied, parts)[0])
    np.testing.assert_allclose(forward(*inputs), want, rtol=1e-6)


def test_bfloat16_adds_up_the_kernels_gradient_in_float32():
    hidden, kernel, targets, weights = arrays(jnp.bfloat16)

    def grads_of(parts):
        def loss(*x):
            return parted(*x, targets, weights, LossConfig(), False, parts)[0]

        return jax.jit(jax.grad(loss, (0, 1)))(hidden, kernel)

    grads = [grads_of(1), grads_of(7)]
    assert [grad.dtype for grad in grads[1]] == [jnp.bfloat16, jnp.float32]
    np.testing.assert_array_equal(grads[0][0].astype(np.float32), grads[1][0].astype(np.float32))
    np.testing.assert_allclose(grads[0][1], grads[1][1], rtol=1e-4, atol=1e-5)


def compiled(rows, length, vocab, parts, sharding=None):
    """Forward and backward of a loss whose logits take rows * length * vocab * 4 bytes."""
    shapes = [((rows, length, 16), jnp.bfloat16), ((16, vocab), jnp.float32)]
    places = sharding or [None, None]
    inputs = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=place)
        for (shape, dtype), place in zip(shapes, places, strict=True)
    ]
    targets, weights = jnp.zeros((rows, length), jnp.int32), jnp.ones((rows, length))

    def loss(hidden, kernel):
        return parted(hidden, kernel, targets, weights, LossConfig(), False, parts)[0]

    return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*inputs).compile()


def test_float32_logits_of_the_whole_batch_are_never_there():
    logits = 8 * 128 * 4096 * 4
    assert compiled(8, 128, 4096, 1).memory_analysis().temp_size_in_bytes > logits
    in_parts = compiled(8, 128, 4096, 16).memory_analysis().temp_size_in_bytes
    assert in_parts < logits / 4  # logits, weights and gradient of a sixteenth


def test_a_vocabulary_spread_over_devices_stays_spread():
    mesh = make_mesh(MeshConfig(data=2, model=4))
    places = [NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("data",), (None, "model"))]
    program = compiled(8, 128, 4096, 8, places)
    assert program.memory_analysis().temp_size_in_bytes < 8 * 128 * 4096 * 4 / 8
    assert "all-gather" not in program.as_text()

    *inputs, targets, weights = arrays()
    placed = [jax.device_put(x, place) for x, place in zip(inputs, places, strict=True)]
    loss = LossConfig(z_loss=1e-2)

    def grads(parts):
        return jax.jit(
            jax.grad(lambda h, k: parted(h, k, targets, weights, loss, False, parts)[0], (0, 1))
        )

    for one, many in zip(grads(1)(*inputs), grads(3)(*placed), strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-5)


def test_parts_are_as_few_as_the_size_allows():
    assert parts_of(LossConfig(), 64, 24, 1500) == 1
    assert parts_of(LossConfig(), 8, 128, 32128) == 4
    mesh = make_mesh(MeshConfig(data=2, model=4))
    assert parts_of(LossConfig(), 64, 128, 32128, mesh) == 4
    assert parts_of(LossConfig(), 1 << 20, 16, 32128) == 16  # no more than positions
    assert parts_of(LossConfig(chunks=5), 8, 128, 32128) == 5
    with pytest.raises(UserError, match=r"LossConfig\.chunks is 0"):
        LossConfig(chunks=0)
