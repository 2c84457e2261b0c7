"""Hugging Face's names for T5's arrays (`T5ForConditionalGeneration`), and flanx's for the same.

Torch keeps a projection as (out, in): such an array is the transpose of flanx's kernel.
"""

import re

_PARTS = {"q": "query", "k": "key", "v": "value", "o": "out"}
_NORMS = {
    "encoder": ("pre_attention_layer_norm", "pre_mlp_layer_norm"),
    "decoder": (
        "pre_self_attention_layer_norm",
        "pre_cross_attention_layer_norm",
        "pre_mlp_layer_norm",
    ),
}
_ATTENTIONS = {
    ("encoder", "SelfAttention"): ("attention", 0),
    ("decoder", "SelfAttention"): ("self_attention", 0),
    ("decoder", "EncDecAttention"): ("encoder_decoder_attention", 1),
}
SHARED = "shared.weight"
HEAD = "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # of `shared.weight`
# A table of the first T5 that no version of the model reads.
IGNORED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)


def to_flanx(name: str, *, bias_per_layer: bool = False) -> tuple[str, bool] | None:
    """flanx's unrolled name and whether the array is transposed; None for a name that T5 does not have."""
    fixed = {
        SHARED: ("token_embedder/embedding", False),
        HEAD: ("decoder/logits_dense/kernel", True),
        "encoder.final_layer_norm.weight": ("encoder/encoder_norm/scale", False),
        "decoder.final_layer_norm.weight": ("decoder/decoder_norm/scale", False),
    }
    if name in fixed:
        return fixed[name]
    found = re.fullmatch(r"(encoder|decoder)\.block\.(\d{1,9})\.layer\.(\d)\.(.+)\.weight", name)
    if not found:
        return None
    stack, block, place, rest = (
        found.group(1),
        int(found.group(2)),
        int(found.group(3)),
        found.group(4),
    )
    layer, last = f"{stack}/layers_{block}", len(_NORMS[stack]) - 1
    if rest == "layer_norm" and place <= last:
        return f"{layer}/{_NORMS[stack][place]}/scale", False
    if place == last and (mlp := re.fullmatch(r"DenseReluDense\.(wi|wi_0|wi_1|wo)", rest)):
        return f"{layer}/mlp/{mlp.group(1)}/kernel", True
    if rest == "SelfAttention.relative_attention_bias" and place == 0:
        if bias_per_layer:
            return f"{layer}/relpos_bias/rel_embedding", True
        return (f"{stack}/relpos_bias/rel_embedding", True) if block == 0 else None
    if attention := re.fullmatch(r"(SelfAttention|EncDecAttention)\.([qkvo])", rest):
        kind, number = _ATTENTIONS.get((stack, attention.group(1)), ("", -1))
        if place == number:
            return f"{layer}/{kind}/{_PARTS[attention.group(2)]}/kernel", True
    return None


def from_flanx(name: str) -> tuple[str, bool]:
    """The inverse of `to_flanx`; raises KeyError for a name that is not flanx's."""
    fixed = {
        "token_embedder/embedding": (SHARED, False),
        "decoder/logits_dense/kernel": (HEAD, True),
        "encoder/encoder_norm/scale": ("encoder.final_layer_norm.weight", False),
        "decoder/decoder_norm/scale": ("decoder.final_layer_norm.weight", False),
    }
    if name in fixed:
        return fixed[name]
    if found := re.fullmatch(
        r"(encoder|decoder)/(?:layers_(\d+)/)?relpos_bias/rel_embedding", name
    ):
        block = f"{found.group(1)}.block.{found.group(2) or 0}"
        return f"{block}.layer.0.SelfAttention.relative_attention_bias.weight", True
    found = re.fullmatch(r"(encoder|decoder)/layers_(\d+)/(\w+)/(?:(\w+)/)?(kernel|scale)", name)
    if not found:
        raise KeyError(name)
    stack, block, kind, part, _ = found.groups()
    layer = f"{stack}.block.{block}.layer"
    if kind in _NORMS[stack]:
        return f"{layer}.{_NORMS[stack].index(kind)}.layer_norm.weight", False
    if kind == "mlp":
        return f"{layer}.{len(_NORMS[stack]) - 1}.DenseReluDense.{part}.weight", True
    letters = {word: letter for letter, word in _PARTS.items()}
    for (side, theirs), (ours, place) in _ATTENTIONS.items():
        if (side, ours) == (stack, kind):
            return f"{layer}.{place}.{theirs}.{letters[part]}.weight", True
    raise KeyError(name)
