"""Small decoders with the settings of each family, their parameters, and forward passes in one call."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from flanx import models
from flanx.models.decoder.config import DecoderConfig

# Compiled once for a few tiny batches: the compiler's care would cost more than it saves.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = partial(jax.jit, compiler_options=FAST)

BASE = DecoderConfig(
    emb_dim=32,
    num_heads=4,
    num_kv_heads=2,
    num_layers=2,
    head_dim=8,
    mlp_dim=48,
    vocab_size=60,
    dtype="float32",
)
GEMMA = {"norm_offset": True, "embed_scale": True, "logits_via_embedding": True}
GEMMA |= {"mlp_activations": ("gelu", "linear")}
FAMILIES = {
    "palm": replace(
        BASE,
        num_kv_heads=1,
        parallel=True,
        norm="layer",
        logits_via_embedding=True,
        logit_scale=32**-0.5,
    ),
    "llama": replace(
        BASE, rope_scaling="llama3", rope_factor=8.0, rope_original_length=16, rope_theta=5e5
    ),
    "mistral": replace(BASE, window=4),
    "qwen2": replace(BASE, qkv_bias=True, logits_via_embedding=True, rope_theta=1e6),
    "qwen3": replace(
        BASE, qk_norm="head", rope_scaling="yarn", rope_factor=4.0, rope_original_length=16
    ),
    "gemma2": replace(
        BASE,
        **GEMMA,
        norm_places="both",
        attn_softcap=5.0,
        final_softcap=3.0,
        query_scale=0.3,
        window=4,
        window_pattern=("local", "global"),
    ),
    "gemma3": replace(
        BASE,
        **GEMMA,
        norm_places="both",
        qk_norm="head",
        window=4,
        window_pattern=("local", "global"),
        rope_theta=1e6,
        rope_local_theta=1e4,
        rope_scaling="linear",
        rope_factor=8.0,
    ),
    "olmo2": replace(BASE, norm_places="post", qk_norm="full"),
}


def tokens(seed: int, *shape: int) -> np.ndarray:
    """Ids from 0 on, which is a token like any other."""
    return np.random.default_rng(seed).integers(0, BASE.vocab_size, shape).astype(np.int32)


def params_of(config: DecoderConfig):
    """Parameters of seed 0, norms and biases not at their first values; drawn once for all that share shapes."""
    return jax.tree.map(lambda leaf: leaf, _draw(replace(config, dropout_rate=0.0, remat="none")))


@cache
def _draw(config: DecoderConfig):
    tree = compiled(models.init_params, static_argnums=0)(models.build(config), jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: (
            leaf + rng.normal(0, 0.2, leaf.shape).astype(np.float32) if leaf.ndim == 1 else leaf
        ),
        tree,
    )


def forward(config: DecoderConfig, params, *arrays, seed=None, **options) -> jax.Array:
    """Logits, compiled; with a seed, under dropout."""
    rngs = None if seed is None else {"dropout": jax.random.key(seed)}
    return _apply(config, seed is None)({"params": params}, *arrays, rngs=rngs, **options)


@cache
def _apply(config: DecoderConfig, deterministic: bool):
    return compiled(partial(models.build(config).apply, deterministic=deterministic))


@cache
def method(config: DecoderConfig, name: str, **options):
    """A compiled method of the network: (params, *arrays)."""
    model = models.build(config)

    def call(params, *arrays):
        return model.apply({"params": params}, *arrays, method=name, **options)

    return compiled(call)


def packed(examples: list[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """One row of examples end to end: tokens, segment ids, and positions that start over."""
    row = {name: np.zeros((1, length), np.int32) for name in ("tokens", "segments", "positions")}
    at = 0
    for segment, example in enumerate(examples, start=1):
        here = slice(at, at + len(example))
        row["tokens"][0, here] = example
        row["segments"][0, here] = segment
        row["positions"][0, here] = np.arange(len(example))
        at += len(example)
    return row


def steps(
    config: DecoderConfig, params, prompt, lengths, answers, *, both_ways=False
) -> np.ndarray:
    """Logits [B, T, V] of each token of an answer, by prefill and single steps, a row's first of its prompt's end."""
    prefill = method(config, "prefill", both_ways=both_ways)
    first, state = prefill(params, prompt, jnp.asarray(lengths))
    cache = models.build(config).empty_cache(len(prompt), answers.shape[1])
    given, out = first, []
    for index in range(answers.shape[1]):
        step = method(config, "step")
        logits, cache = step(params, given, jnp.int32(index), cache, state)
        out.append(logits)
        given = answers[:, index]
    return np.stack(out, axis=1)
