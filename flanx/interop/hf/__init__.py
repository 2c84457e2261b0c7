"""Hugging Face's folders, read and written: which model of theirs is which family of flanx's.

A family's module says what a folder of its models holds (`read`), and what one has in it (`settings`, `hf_name`,
`generation`). `folder.py` has what all folders share. Modules are imported when they are asked for.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flanx.errors import UserError
from flanx.interop.source import StoredArray, View
from flanx.models.config import ModelConfig

# Hugging Face's model_type -> the module of its family. A family's first is what it is called where nothing says.
MODEL_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("t5", "mt5", "umt5"), "t5"),
    **dict.fromkeys(
        (
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "gemma",
            "gemma2",
            "gemma3_text",
            "gemma3",
            "olmo2",
        ),
        "decoder",
    ),
}


@dataclass(frozen=True)
class Contents:
    """What a folder holds.

    Attributes:
      stored: arrays by their own names.
      views: what of them flanx's parameters are, by flanx's unrolled names.
      config: the network.
      model_type: Hugging Face's name of it, under which it is written again.
      notes: one line each on what was chosen or left out, for the user.
      kept: settings that no number depends on, which are written back as they were: special ids, for instance.
    """

    stored: Mapping[str, StoredArray]
    views: dict[str, View]
    config: ModelConfig
    model_type: str
    notes: tuple[str, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)


class Family(Protocol):
    """A module of a family."""

    def read(
        self, folder: Path, settings: Mapping[str, Any], stored: Mapping[str, StoredArray]
    ) -> Contents:
        """What a folder with this config.json and these arrays holds."""
        ...

    def model_type(self, config: ModelConfig, known: str | None) -> str:
        """What a network is called that was read as `known`; raises UserError where Hugging Face has no such model."""
        ...

    def hf_name(self, config: ModelConfig, name: str) -> tuple[str, bool]:
        """Hugging Face's name of a parameter, and whether it keeps the transpose."""
        ...

    def settings(
        self, config: ModelConfig, dtype: str, model_type: str, kept: Mapping[str, Any]
    ) -> dict[str, Any]:
        """config.json."""
        ...

    def generation(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """generation_config.json."""
        ...


def of_type(model_type: Any, where: Path) -> Family:
    """The module for a config.json's `model_type`.

    Raises:
      UserError: a model that flanx does not have.
    """
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        raise UserError(
            f"{where} is of a model of type '{str(model_type)[:80]}': flanx converts {', '.join(MODEL_TYPES)}"
        )
    return _module(MODEL_TYPES[model_type])


def of_config(config: ModelConfig) -> Family:
    """The module for a network of flanx's.

    Raises:
      UserError: a family whose networks Hugging Face does not have.
    """
    if config.family not in MODEL_TYPES.values():
        raise UserError(f"Hugging Face's folders hold no model of the family '{config.family}'")
    return _module(config.family)


def _module(family: str) -> Any:
    return importlib.import_module(f"flanx.interop.hf.{family}")
