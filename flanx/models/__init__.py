"""Networks and what is known about them: parameters, sharding axes, cost.

`build` and `init_params` are the only doors other parts need. Importing this package imports no JAX.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax

    from flanx.models.t5.config import T5Config
    from flanx.models.t5.network import T5

__all__ = ["build", "init_params"]


def build(config: "T5Config") -> "T5":
    """The network that `config` describes, without parameters."""
    from flanx.models.t5.network import T5

    return T5(config)


def init_params(model: "T5", key: "jax.Array") -> dict[str, Any]:
    """Fresh float32 parameters, a nested dict with T5X's names.

    Pure and traceable: `jax.jit(init_params, static_argnums=0, out_shardings=...)` makes them sharded from the
    start, and `jax.eval_shape(functools.partial(init_params, model), key)` gives shapes alone.
    """
    import jax.numpy as jnp

    tokens = jnp.ones((1, 1), jnp.int32)
    return model.init({"params": key}, tokens, tokens)["params"]
