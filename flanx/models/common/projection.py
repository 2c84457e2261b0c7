"""What a network hands to a loss that makes the logits itself, a part at a time."""

from typing import NamedTuple

import jax


class Projection(NamedTuple):
    """logits = `scale` * hidden @ kernel, in float32, the kernel cast to the activations' dtype.

    Attributes:
      hidden: [B, L, E], in the activations' dtype.
      kernel: float32 [E, V], or [V, E] where `vocab_axis` is 0 (an embedding that is shared).
      vocab_axis: the kernel's axis of tokens.
      scale: what the products are multiplied by.
    """

    hidden: jax.Array
    kernel: jax.Array
    vocab_axis: int = 1
    scale: float = 1.0
