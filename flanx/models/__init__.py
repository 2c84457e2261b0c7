"""Networks and what is known about them. This package is the only door: nothing outside names a family.

A family is a folder: configuration, network, table of parameters, cost. `FAMILIES` lists them. Importing this package
imports no JAX.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flanx.errors import UserError, did_you_mean
from flanx.models.config import ModelConfig

if TYPE_CHECKING:
    import jax

__all__ = [
    "FAMILIES",
    "ModelConfig",
    "answers",
    "build",
    "check_answers",
    "config_from_dict",
    "init_params",
]

# The tag of each family's saved configurations -> its configuration class and its network class.
FAMILIES: Mapping[str, tuple[str, str]] = {
    "t5": ("flanx.models.t5.config:T5Config", "flanx.models.t5.network:T5"),
    "decoder": (
        "flanx.models.decoder.config:DecoderConfig",
        "flanx.models.decoder.network:DecoderLm",
    ),
}
UNTAGGED = "t5"  # what was saved before there were tags


def build(config: ModelConfig) -> Any:
    """The network that `config` describes, without parameters."""
    return _import(FAMILIES[config.family][1])(config)


def answers(config: ModelConfig) -> bool:
    """Whether the network answers questions, and so can be evaluated; every one can be trained and converted."""
    return hasattr(_import(FAMILIES[config.family][1]), "answers_hidden")


def check_answers(config: ModelConfig) -> None:
    """Refuses a network that answers no questions yet.

    Raises:
      UserError: naming its family.
    """
    if not answers(config):
        raise UserError(
            f"models of the family '{config.family}' are converted and trained, but neither evaluated nor asked yet: "
            "train without suites (--gin.TrainConfig.evals='()'), and export to ask elsewhere (flanx convert)"
        )


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The configuration that `ModelConfig.to_dict` made `values` of.

    Raises:
      UserError: a family that this flanx does not have, or settings that are not the family's.
    """
    settings = dict(values)
    family = settings.pop("family", UNTAGGED)
    if family not in FAMILIES:
        raise UserError(
            f"model family '{family}' is not one of {', '.join(FAMILIES)}"
            f"{did_you_mean(str(family), FAMILIES)}; a later flanx may have it"
        )
    config: ModelConfig = _import(FAMILIES[family][0])(**settings)
    return config


def init_params(model: Any, key: "jax.Array") -> dict[str, Any]:
    """Fresh float32 parameters, a nested dict; a T5's have T5X's names.

    Pure and traceable: `jax.jit(init_params, static_argnums=0, out_shardings=...)` makes them sharded from the
    start, and `jax.eval_shape(functools.partial(init_params, model), key)` gives shapes alone.
    """
    return model.init({"params": key}, method="example_forward")["params"]


def _import(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found
