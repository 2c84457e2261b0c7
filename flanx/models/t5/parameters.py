"""T5's parameters (T5X: `t5x/examples/t5/network.py`; Hugging Face: `T5ForConditionalGeneration`)."""

from collections.abc import Iterator

from flanx.models.common.parameters import (
    Parameter,
    Parameters,
    mlp_branches,
    output_projection,
)
from flanx.models.t5.config import T5Config

# flanx's name of each attention and norm of a layer, in the order of Hugging Face's `layer.<n>`.
_ATTENTIONS = {
    "encoder": (("attention", "SelfAttention"),),
    "decoder": (
        ("self_attention", "SelfAttention"),
        ("encoder_decoder_attention", "EncDecAttention"),
    ),
}
_NORMS = {
    "encoder": ("pre_attention_layer_norm", "pre_mlp_layer_norm"),
    "decoder": (
        "pre_self_attention_layer_norm",
        "pre_cross_attention_layer_norm",
        "pre_mlp_layer_norm",
    ),
}
_BIAS = "relpos_bias/rel_embedding"
_HF_BIAS = "SelfAttention.relative_attention_bias.weight"
_PARTS = {"query": "q", "key": "k", "value": "v", "out": "o"}


def parameters(config: T5Config) -> Parameters:
    """All parameters of a T5."""
    embed, vocab = config.emb_dim, config.vocab_size
    table = [
        Parameter(
            "token_embedder/embedding", (vocab, embed), ("vocab", "embed"), hf="shared.weight"
        )
    ]
    for stack, layers in (
        ("encoder", config.num_encoder_layers),
        ("decoder", config.num_decoder_layers),
    ):
        if not config.relpos_per_layer:
            table.append(_bias(config, f"{stack}/{_BIAS}", f"{stack}.block.0.layer.0.{_HF_BIAS}"))
        table += _layer(config, stack, layers)
        final = f"{stack}.final_layer_norm.weight"
        table.append(Parameter(f"{stack}/{stack}_norm/scale", (embed,), ("norm",), hf=final))
    if not config.logits_via_embedding:
        table.append(output_projection(embed, vocab))
    return Parameters(tuple(table))


def _bias(config: T5Config, path: str, hf: str, layers: int | None = None) -> Parameter:
    shape = (config.num_heads, config.relpos_buckets)
    return Parameter(path, shape, ("heads", "relpos_buckets"), layers, hf, transposed=True)


def _layer(config: T5Config, stack: str, layers: int) -> Iterator[Parameter]:
    """What each layer of a stack has."""
    embed, joined, mlp = config.emb_dim, config.joined_dim, config.mlp_dim
    path, hf = f"{stack}/layers_{{}}", f"{stack}.block.{{}}.layer"
    last = len(_NORMS[stack]) - 1
    if config.relpos_per_layer:
        yield _bias(config, f"{path}/{_BIAS}", f"{hf}.0.{_HF_BIAS}", layers)
    for place, norm in enumerate(_NORMS[stack]):
        name = f"{hf}.{place}.layer_norm.weight"
        yield Parameter(f"{path}/{norm}/scale", (embed,), ("norm",), layers, name)
    for place, (attention, theirs) in enumerate(_ATTENTIONS[stack]):
        for part, letter in _PARTS.items():
            outwards = part == "out"
            yield Parameter(
                f"{path}/{attention}/{part}/kernel",
                (joined, embed) if outwards else (embed, joined),
                ("joined_kv", "embed") if outwards else ("embed", "joined_kv"),
                layers,
                f"{hf}.{place}.{theirs}.{letter}.weight",
                transposed=True,
            )
    dense = f"{hf}.{last}.DenseReluDense"
    for branch in mlp_branches(config.mlp_activations):
        yield Parameter(
            f"{path}/mlp/{branch}/kernel",
            (embed, mlp),
            ("embed", "mlp"),
            layers,
            f"{dense}.{branch}.weight",
            transposed=True,
        )
    yield Parameter(
        f"{path}/mlp/wo/kernel",
        (mlp, embed),
        ("mlp", "embed"),
        layers,
        f"{dense}.wo.weight",
        transposed=True,
    )
