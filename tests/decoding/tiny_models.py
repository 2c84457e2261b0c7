"""Networks of a few thousand parameters, made here or read from transformers' files."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from flanx import models
from flanx.models.t5.config import T5Config

TINY = T5Config(
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
    vocab_size=1024,
    dropout_rate=0.0,
    dtype="float32",
)
CONFIG = replace(TINY, emb_dim=32, num_heads=2, head_dim=8, mlp_dim=48, vocab_size=12)


def small_model(seed: int = 0, layers: int = 2):
    config = replace(CONFIG, num_encoder_layers=layers, num_decoder_layers=layers)
    model = models.build(config)
    params = jax.jit(models.init_params, static_argnums=0)(model, jax.random.key(seed))
    inputs = np.random.default_rng(seed).integers(2, 12, (6, 9)).astype(np.int32)
    inputs[1, 5:] = 0
    inputs[4, 2:] = 0
    return model, params, jnp.asarray(inputs)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    raw = path.read_bytes()
    (header_size,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + header_size]), raw[8 + header_size :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"])
        for name, entry in header.items()
    }


def from_transformers(arrays: dict[str, np.ndarray]) -> dict:
    """Two layers of T5 v1.1 under T5X's names; transformers' kernels are (outputs, inputs)."""
    flat = {
        "token_embedder/embedding": arrays["shared.weight"],
        "decoder/logits_dense/kernel": arrays["lm_head.weight"].T,
    }
    for stack in ("encoder", "decoder"):
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        flat[f"{stack}/relpos_bias/rel_embedding"] = arrays[bias].T
        flat[f"{stack}/{stack}_norm/scale"] = arrays[f"{stack}.final_layer_norm.weight"]
        own = "attention" if stack == "encoder" else "self_attention"
        blocks = [("SelfAttention", own), ("EncDecAttention", "encoder_decoder_attention")]
        blocks = blocks[: 1 if stack == "encoder" else 2]
        for index in range(2):
            theirs, ours = f"{stack}.block.{index}.layer", f"{stack}/layers_{index}"
            for place, (their_block, our_block) in enumerate(blocks):
                norm = our_block.replace("encoder_decoder", "cross")
                norm_weight = arrays[f"{theirs}.{place}.layer_norm.weight"]
                flat[f"{ours}/pre_{norm}_layer_norm/scale"] = norm_weight
                for letter, name in zip("qkvo", ("query", "key", "value", "out"), strict=True):
                    kernel = arrays[f"{theirs}.{place}.{their_block}.{letter}.weight"].T
                    flat[f"{ours}/{our_block}/{name}/kernel"] = kernel
            place = len(blocks)
            flat[f"{ours}/pre_mlp_layer_norm/scale"] = arrays[f"{theirs}.{place}.layer_norm.weight"]
            for name in ("wi_0", "wi_1", "wo"):
                kernel = arrays[f"{theirs}.{place}.DenseReluDense.{name}.weight"].T
                flat[f"{ours}/mlp/{name}/kernel"] = kernel
    return unflatten_dict(flat, sep="/")
