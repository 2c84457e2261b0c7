"""Hugging Face's names for T5's arrays (`T5ForConditionalGeneration`), and flanx's for the same.

Torch keeps a projection as (out, in): such an array is the transpose of flanx's kernel.
"""

import functools
import re

from flanx.models.common.parameters import Parameters
from flanx.models.t5.config import T5Config

SHARED = "shared.weight"
HEAD = "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # of `shared.weight`
# A table of the first T5 that no version of the model reads.
IGNORED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)


def to_flanx(name: str, *, bias_per_layer: bool = False) -> tuple[str, bool] | None:
    """flanx's unrolled name and whether the array is transposed; None for a name that T5 does not have."""
    for gated in (True, False):
        found = _names(gated, bias_per_layer).from_hf(name)
        if found is not None:
            return found
    return None


def from_flanx(name: str) -> tuple[str, bool]:
    """The inverse of `to_flanx`; raises KeyError for a name that is not flanx's."""
    gated = not name.endswith("/mlp/wi/kernel")
    bias_per_layer = re.search(r"layers_\d+/relpos_bias", name) is not None
    return _names(gated, bias_per_layer).to_hf(name)


@functools.cache
def _names(gated: bool, bias_per_layer: bool) -> Parameters:
    """T5's table with all that a T5 of this kind may have; on sizes no name depends."""
    return T5Config(
        emb_dim=1,
        num_heads=1,
        num_encoder_layers=1,
        num_decoder_layers=1,
        mlp_dim=1,
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        relpos_per_layer=bias_per_layer,
    ).parameters()
