"""What the backward pass of a layer computes again. The settings' names import no JAX: configurations read them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flanx.models.config import ModelConfig

# What the backward pass may find ready, from everything to the least: memory falls down the list, work grows.
REMAT = ("none", "minimal", "names", "full")

# The tensors of a layer that `remat="names"` can keep, a row of the batch having L tokens; J = num_heads * head_dim:
#   query, key, value   attention's projections, L * J each (of the encoder's output, key and value have its L; with
#                       fewer heads for keys and values, so much less)
#   attention           the weighted sum of values before `out`, L * J; its weights too are then not computed again
#   attention_out       attention's output, L * E
#   mlp_branch          each branch of the feed-forward block before its activation, L * F each
# The block's own output is not among them: nothing in the layer's backward pass asks for it.
CHECKPOINT_NAMES = ("query", "key", "value", "attention", "attention_out", "mlp_branch")


def policy(config: "ModelConfig") -> Callable[..., bool]:
    """What of a layer is kept for its backward pass, by `config.remat` and `config.remat_names`."""
    import jax

    from flanx.models.common import cudnn

    policies = jax.checkpoint_policies
    if config.remat == "minimal":
        return policies.dots_with_no_batch_dims_saveable
    if config.remat == "full":
        return policies.nothing_saveable
    named = policies.save_only_these_names(*config.remat_names)
    if "attention" not in config.remat_names:
        return named
    # The fused kernel's output bears no name: what it keeps for its own backward pass is known by the operation.
    return policies.save_from_both_policies(named, cudnn.is_kernel)
