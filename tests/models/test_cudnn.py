"""NVIDIA's kernel without an NVIDIA GPU: its arithmetic on the CPU, its conditions, its call in programs for CUDA."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx import models
from flanx.errors import UserError
from flanx.models.common import cudnn, masks, products
from flanx.models.t5.config import T5Config
from flanx.sharding import constraints

NARROW = T5Config(
    emb_dim=32,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=48,
    vocab_size=60,
    dropout_rate=0.1,
    dtype="bfloat16",
)


def attention_inputs(dtype):
    """Packed rows, the last of them all padding; logits of a model that has learnt nothing yet, which round little."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(3, 2, 8, 16)) for _ in range(3))
    query, key, value = (jnp.asarray(x, dtype) for x in (query / 4, key, value))
    bias = jnp.asarray(rng.normal(size=(1, 2, 8, 8)), jnp.float32)
    segments = jnp.asarray([[1] * 3 + [2] * 5, [1] * 6 + [0] * 2, [0] * 8])
    return query, key, value, bias, masks.encoder_mask(segments, segments)


@pytest.mark.parametrize("biased", [False, True])
def test_bias_and_mask_as_one_are_what_xla_adds(monkeypatch, biased):
    """The same call with JAX's own implementation in the kernel's place, in float32: values and gradients."""
    inner = jax.nn.dot_product_attention
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda *a, **k: inner(*a, **{**k, "implementation": "xla"})
    )
    *arrays, bias, mask = attention_inputs(jnp.float32)
    arrays = [*arrays, bias] if biased else arrays

    def run(attention):
        def call(query, key, value, bias=None):
            mixed = attention(query, key, value, bias, mask)
            return jnp.sum(mixed**3), mixed

        numbers = tuple(range(len(arrays)))
        return jax.jit(jax.grad(call, numbers, has_aux=True))(*arrays)

    grads, mixed = run(cudnn.attention)
    want_grads, want = run(products.attention)
    np.testing.assert_allclose(mixed[:2], want[:2], atol=1e-5)
    for got, expected in zip(grads, want_grads, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_a_query_that_may_look_nowhere_stays_finite_in_bfloat16():
    *_, bias, mask = attention_inputs(jnp.bfloat16)
    low = cudnn.combined(bias, mask, jnp.bfloat16)
    assert low.dtype == jnp.bfloat16
    assert low.shape == (3, 2, 8, 8)
    assert np.isfinite(np.asarray(low, np.float32)).all()
    weights = jax.nn.softmax(low.astype(jnp.float32), axis=-1)
    np.testing.assert_allclose(weights[2], 1 / 8, rtol=1e-6)


def test_conditions(monkeypatch):
    def found(dtype="bfloat16", head_dim=64, queries=128, keys=512, mask=None):
        arrays = [jax.ShapeDtypeStruct((4, 2, n, head_dim), dtype) for n in (queries, keys)]
        shape = mask or (4, 1, queries, keys)
        return cudnn.obstacle(*arrays, jax.ShapeDtypeStruct(shape, jnp.float32))

    assert found() == "no NVIDIA GPU"
    monkeypatch.setattr(cudnn, "on_nvidia", lambda: True)
    assert found() is None
    with constraints.compiled_for("tpu"):
        assert found() == "no NVIDIA GPU"
    assert found("float32") == "activations are float32, not bfloat16"
    assert found(head_dim=60) == "head_dim is 60, not a multiple of 8 up to 128"
    assert found(keys=511) == "lengths 128 and 511 are not all even"
    assert found(mask=(4, 1, 1, 512)) == "a mask of 1 x 512 for 128 queries and 512 keys"


def test_cudnn_where_it_cannot_be_is_one_line(monkeypatch):
    cudnn.check(replace(NARROW, attention="auto"), (511, 128), "cpu")
    asked = replace(NARROW, attention="cudnn")
    with pytest.raises(UserError, match="'cudnn' cannot be used here .the devices are CPUs"):
        cudnn.check(asked, (512, 128), "cpu")
    monkeypatch.setattr(cudnn, "on_nvidia", lambda: True)
    cudnn.check(asked, (512, 128), "gpu")
    with pytest.raises(UserError, match="lengths 511 and 128 are not all even.*set it to 'auto'"):
        cudnn.check(asked, (511, 128), "gpu")


@pytest.mark.parametrize(
    ("attention", "remat", "scan", "forwards"),
    [
        ("auto", "none", False, 6),
        ("auto", "names", True, 3),
        ("auto", "full", True, 6),
        ("xla", "none", True, 0),
    ],
)
def test_programs_for_cuda_call_the_kernel(monkeypatch, attention, remat, scan, forwards):
    """Lowered for CUDA, nothing compiled: a forward and a backward call of each attention, a scan holding one layer's.

    Kept by name, the kernel's forward pass runs once; recomputed, twice.
    """
    monkeypatch.setattr(cudnn, "on_nvidia", lambda: True)
    # What asks the machine's cuDNN for its version.
    monkeypatch.setattr(
        "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000
    )
    config = replace(NARROW, attention=attention, remat=remat, scan_layers=scan)
    model = models.build(config)
    params = jax.eval_shape(partial(models.init_params, model), jax.random.key(0))
    inputs, targets = (jax.ShapeDtypeStruct((2, n), jnp.int32) for n in (8, 4))

    def loss(params, inputs, targets):
        rngs = {"dropout": jax.random.key(0)}
        return jnp.sum(
            model.apply(
                {"params": params}, inputs, targets, targets, deterministic=False, rngs=rngs
            )
        )

    traced = jax.jit(jax.grad(loss)).trace(params, inputs, targets)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@__cudnn$fmhaScaleBiasSoftmax(") == forwards
    assert text.count("@__cudnn$fmhaScaleBiasSoftmaxBackward(") == min(forwards, 3 if scan else 6)
