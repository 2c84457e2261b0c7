"""Floating-point operations of a decoder, by arithmetic.

Matrix products alone are counted, a multiplication and an addition each, as for T5 (`flanx.models.t5.flops`, which
argues it). With E = emb_dim, J = heads * head_dim, G = heads of keys * head_dim, F = mlp_dim, k activations and L the
row's length, forward per row:

    layer     L (4 E J + 4 E G + 2 (k + 1) E F)   projections of queries and output, of keys and values; feed-forward
              + 4 L^2 J                           logits and weighted sum, each 2 L^2 J, however keys are shared
    output    2 L E V

Masked positions count, those outside of a window too: the hardware computes them. A step is three forwards.
"""

from flanx.models.decoder.config import DecoderConfig


def forward_flops(config: DecoderConfig, rows: int, length: int) -> int:
    """FLOPs of one forward pass over a batch [rows, length]."""
    emb = config.emb_dim
    per_token = 4 * emb * (config.joined_dim + config.joined_kv_dim)
    per_token += 2 * (len(config.mlp_activations) + 1) * emb * config.mlp_dim
    layer = length * per_token + 4 * length**2 * config.joined_dim
    return rows * (config.num_layers * layer + 2 * length * emb * config.vocab_size)


def train_step_flops(config: DecoderConfig, rows: int, length: int) -> int:
    """Model FLOPs of forward and backward over a batch: three forwards."""
    return 3 * forward_flops(config, rows, length)
