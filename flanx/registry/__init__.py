"""Registering datasets and mixtures. Imports no TensorFlow: SeqIO is told when somebody imports it."""

import wrapt

from flanx.registry import names, sources, table
from flanx.registry.draws import Draws
from flanx.registry.loading import load_for
from flanx.registry.mixtures.mixing_rates import rates
from flanx.registry.mixtures.parts import Mixture, Part
from flanx.registry.mixtures.registration import mixture
from flanx.registry.mixtures.selected import Selected
from flanx.registry.mixtures.selection import resolve, specs_of
from flanx.registry.registration import register
from flanx.registry.rendering.few_shot import FewShot
from flanx.registry.rendering.renderer import Dropped, Rendered
from flanx.registry.rendering.template import Template
from flanx.registry.sources import (
    Generated,
    HeldOut,
    Jsonl,
    NaturalInstructions,
    Parquet,
    RowSource,
    Tsv,
)
from flanx.registry.spec import TYPES, TaskSpec
from flanx.registry.table import get_mixture, get_task, isolated

__all__ = [
    "TYPES",
    "Draws",
    "Dropped",
    "FewShot",
    "Generated",
    "HeldOut",
    "Jsonl",
    "Mixture",
    "NaturalInstructions",
    "Parquet",
    "Part",
    "Rendered",
    "RowSource",
    "Selected",
    "TaskSpec",
    "Template",
    "Tsv",
    "dataset_names",
    "get_mixture",
    "get_task",
    "isolated",
    "load_for",
    "mixture",
    "mixture_names",
    "rates",
    "register",
    "resolve",
    "sources",
    "specs_of",
    "task_names",
]


def task_names(glob: str | None = None) -> list[str]:
    """Names of the registered tasks, sorted; of those that a name or glob of tasks or datasets stands for."""
    return sorted(table.tasks() if glob is None else names.match(glob))


def dataset_names(glob: str | None = None) -> list[str]:
    """Names of the registered datasets, sorted; of those that have a task `glob` stands for."""
    return sorted({table.tasks()[name].dataset for name in task_names(glob)})


def mixture_names() -> list[str]:
    """Names of the registered mixtures, sorted."""
    return sorted(table.mixtures())


@wrapt.when_imported("seqio")
def _tell_seqio(seqio: object) -> None:
    from flanx.registry.seqio import bridge

    bridge.attach()
