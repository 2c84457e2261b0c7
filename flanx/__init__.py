"""flanx: instruction tuning of language models the Flan way.

Importing flanx is cheap: the names below load what they need when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "UserError": "flanx.errors",
    "FewShot": "flanx.registry",
    "Generated": "flanx.registry",
    "HeldOut": "flanx.registry",
    "Jsonl": "flanx.registry",
    "NaturalInstructions": "flanx.registry",
    "Parquet": "flanx.registry",
    "Part": "flanx.registry",
    "Template": "flanx.registry",
    "Tsv": "flanx.registry",
    "mixture": "flanx.registry",
    "register": "flanx.registry",
}

if TYPE_CHECKING:
    from flanx.errors import UserError
    from flanx.evaluation import metrics
    from flanx.registry import (
        FewShot,
        Generated,
        HeldOut,
        Jsonl,
        NaturalInstructions,
        Parquet,
        Part,
        Template,
        Tsv,
        mixture,
        register,
    )

__all__ = [
    "FewShot",
    "Generated",
    "HeldOut",
    "Jsonl",
    "NaturalInstructions",
    "Parquet",
    "Part",
    "Template",
    "Tsv",
    "UserError",
    "__version__",
    "metrics",
    "mixture",
    "register",
]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("flanx.evaluation.metrics")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    # Imported here: flanx itself imports nothing before a name is asked for.
    from flanx.errors import no_attribute

    raise no_attribute("flanx", name, [one for one in __all__ if not one.startswith("_")])
