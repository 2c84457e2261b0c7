"""Floating-point operations of T5, by arithmetic.

Only matrix products are counted, a multiplication and an addition each: [m, k] @ [k, n] is 2 m k n. Everything else
(norms, softmax, dropout, the embedding's gather) is a few operations a number, below one per cent at the published
sizes, and is left out as is usual for model FLOPs.

With E = emb_dim, J = heads * head_dim, F = mlp_dim, k activations, Li and Lt the row lengths, forward per row:

    encoder layer     Li (8 E J + 2 (k + 1) E F)  projections and feed-forward block
                      + 4 Li^2 J                  logits and weighted sum, each 2 Li^2 J
    decoder layer     Lt (8 E J + 2 (k + 1) E F) + 4 Lt^2 J
                      + 4 Lt E J + 4 Li E J       cross: query and out over Lt, key and value over Li
                      + 4 Lt Li J
    output            2 Lt E V

Masked positions count, for the hardware computes them: causal attention is not halved, nor packed attention divided.
The position bias's 2 H buckets (2 L - 1) a batch is left out.

Backward, each product needs two of the same size, one for each operand's gradient, and no product is spared: even the
first layers pass a gradient on to the embedding. So a step is three forwards. Recomputation (remat) is not counted:
model FLOPs are what the result needs, and a setting that works more for it must not look faster.
"""

from flanx.models.t5.config import T5Config


def encoder_flops(config: T5Config, rows: int, inputs_length: int) -> int:
    """FLOPs of encoding `rows` rows of `inputs_length` tokens."""
    joined = config.joined_dim
    per_token = 8 * config.emb_dim * joined + _mlp(config)
    attention = 4 * inputs_length**2 * joined
    return rows * config.num_encoder_layers * (inputs_length * per_token + attention)


def decoder_flops(config: T5Config, rows: int, inputs_length: int, targets_length: int) -> int:
    """FLOPs of the decoder over `rows` teacher-forced rows, its cross-attention and output projection included."""
    emb, joined = config.emb_dim, config.joined_dim
    self_part = targets_length * 8 * emb * joined + 4 * targets_length**2 * joined
    cross_part = 4 * (targets_length + inputs_length) * emb * joined
    cross_part += 4 * targets_length * inputs_length * joined
    layer = self_part + cross_part + targets_length * _mlp(config)
    return rows * (config.num_decoder_layers * layer + 2 * targets_length * emb * config.vocab_size)


def forward_flops(config: T5Config, rows: int, inputs_length: int, targets_length: int) -> int:
    """FLOPs of one forward pass over a batch [rows, inputs_length] and [rows, targets_length]."""
    return encoder_flops(config, rows, inputs_length) + decoder_flops(
        config, rows, inputs_length, targets_length
    )


def train_step_flops(config: T5Config, rows: int, inputs_length: int, targets_length: int) -> int:
    """Model FLOPs of forward and backward over a batch: three forwards."""
    return 3 * forward_flops(config, rows, inputs_length, targets_length)


def _mlp(config: T5Config) -> int:
    """FLOPs a token of the feed-forward block."""
    return 2 * (len(config.mlp_activations) + 1) * config.emb_dim * config.mlp_dim
