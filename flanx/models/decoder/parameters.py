"""A decoder's parameters: T5X's names where it has them, and Hugging Face's (`LlamaForCausalLM` and its kin).

PaLM's settings (a parallel block, LayerNorm) have no Hugging Face names: no model of its library has them.
"""

from collections.abc import Iterator

from flanx.models.common.parameters import (
    Parameter,
    Parameters,
    mlp_branches,
    output_projection,
)
from flanx.models.decoder.config import DecoderConfig

# Norms of a layer by `norm_places`: flanx's name -> Hugging Face's.
NORMS = {
    "pre": {
        "pre_self_attention_layer_norm": "input_layernorm",
        "pre_mlp_layer_norm": "post_attention_layernorm",
    },
    "post": {
        "post_self_attention_layer_norm": "post_attention_layernorm",
        "post_mlp_layer_norm": "post_feedforward_layernorm",
    },
    "both": {
        "pre_self_attention_layer_norm": "input_layernorm",
        "post_self_attention_layer_norm": "post_attention_layernorm",
        "pre_mlp_layer_norm": "pre_feedforward_layernorm",
        "post_mlp_layer_norm": "post_feedforward_layernorm",
    },
}
PARALLEL_NORM = "layer_norm"
_LAYER, _HF_LAYER = "decoder/layers_{}", "model.layers.{}"
_BRANCHES = {"wi_0": "gate_proj", "wi_1": "up_proj"}


def parameters(config: DecoderConfig) -> Parameters:
    """All parameters of a decoder."""
    embed, vocab = config.emb_dim, config.vocab_size
    table = [
        Parameter(
            "token_embedder/embedding",
            (vocab, embed),
            ("vocab", "embed"),
            hf="model.embed_tokens.weight",
        ),
        *_norms(config),
        *_attention(config),
        *_mlp(config),
        Parameter("decoder/decoder_norm/scale", (embed,), ("norm",), hf="model.norm.weight"),
    ]
    if not config.logits_via_embedding:
        table.append(output_projection(embed, vocab))
    return Parameters(tuple(table))


def _norms(config: DecoderConfig) -> Iterator[Parameter]:
    layers, shape = config.num_layers, (config.emb_dim,)
    if config.parallel:
        yield Parameter(f"{_LAYER}/{PARALLEL_NORM}/scale", shape, ("norm",), layers)
        return
    for name, theirs in NORMS[config.norm_places].items():
        yield Parameter(
            f"{_LAYER}/{name}/scale", shape, ("norm",), layers, f"{_HF_LAYER}.{theirs}.weight"
        )


def _attention(config: DecoderConfig) -> Iterator[Parameter]:
    embed, layers = config.emb_dim, config.num_layers
    path, hf = f"{_LAYER}/self_attention", f"{_HF_LAYER}.self_attn"
    grouped = config.num_kv_heads < config.num_heads
    # One head that all share is split over nothing: it would be cut through its width.
    shared = "kv" if config.num_kv_heads == 1 else "joined_kv_heads"
    of_keys = (config.joined_kv_dim, shared if grouped else "joined_kv")
    inwards = {
        "query": ((config.joined_dim, "joined_kv"), "q"),
        "key": (of_keys, "k"),
        "value": (of_keys, "v"),
    }
    for name, ((width, axis), letter) in inwards.items():
        theirs = f"{hf}.{letter}_proj"
        yield Parameter(
            f"{path}/{name}/kernel",
            (embed, width),
            ("embed", axis),
            layers,
            f"{theirs}.weight",
            transposed=True,
        )
        if config.qkv_bias:
            yield Parameter(f"{path}/{name}/bias", (width,), (axis,), layers, f"{theirs}.bias")
    yield Parameter(
        f"{path}/out/kernel",
        (config.joined_dim, embed),
        ("joined_kv", "embed"),
        layers,
        f"{hf}.o_proj.weight",
        transposed=True,
    )
    if config.qk_norm == "none":
        return
    for name in ("query", "key"):
        width = inwards[name][0][0] if config.qk_norm == "full" else config.head_dim
        yield Parameter(
            f"{path}/{name}_norm/scale", (width,), ("norm",), layers, f"{hf}.{name[0]}_norm.weight"
        )


def _mlp(config: DecoderConfig) -> Iterator[Parameter]:
    embed, mlp, layers = config.emb_dim, config.mlp_dim, config.num_layers
    path, hf = f"{_LAYER}/mlp", f"{_HF_LAYER}.mlp"
    for branch in mlp_branches(config.mlp_activations):
        theirs = f"{hf}.{_BRANCHES[branch]}.weight" if branch in _BRANCHES else None
        yield Parameter(
            f"{path}/{branch}/kernel", (embed, mlp), ("embed", "mlp"), layers, theirs, True
        )
    yield Parameter(
        f"{path}/wo/kernel", (mlp, embed), ("mlp", "embed"), layers, f"{hf}.down_proj.weight", True
    )
