"""What a network hands to a loss that makes the logits itself, a part at a time."""

from typing import NamedTuple

import jax


class Projection(NamedTuple):
    """logits = `scale` * hidden @ kernel, in float32, the kernel cast to the activations' dtype; then the softcap.

    Attributes:
      hidden: [B, L, E], in the activations' dtype.
      kernel: float32 [E, V], or [V, E] where `vocab_axis` is 0 (an embedding that is shared).
      vocab_axis: the kernel's axis of tokens.
      scale: what the products are multiplied by.
      softcap: c, where logits become c tanh(logits / c); None for logits as they are.
    """

    hidden: jax.Array
    kernel: jax.Array
    vocab_axis: int = 1
    scale: float = 1.0
    softcap: float | None = None
