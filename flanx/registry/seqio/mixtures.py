"""Mixtures that other code registered with SeqIO, in flanx's terms: their tasks, and how each weighs."""

import functools
from collections.abc import Iterator
from typing import Any

import seqio

from flanx.errors import UserError
from flanx.registry.mixtures.selected import Group, Rule


def external_rules(name: str, rule: Rule, occurrence: str) -> list[tuple[str, Rule]]:
    """The tasks that other code registered with SeqIO under `name`, a task or a mixture, and how they weigh.

    A mixture's rates are SeqIO's, worked out in linear time however its parts nest; `rule.rate` is its whole weight.

    Raises:
      UserError: a rate is no number, or a function of the task that fails.
    """
    if name in seqio.MixtureRegistry.names():
        groups = rule.groups
        if rule.rate is not None:
            groups = (*groups, Group(occurrence, rule.rate))
        return list(_mixture_rules(seqio.MixtureRegistry.get(name), groups, occurrence))
    return [(name, rule)]


def _mixture_rules(
    mixture: seqio.Mixture, groups: tuple[Group, ...], occurrence: str
) -> Iterator[tuple[str, Rule]]:
    for name, rate in mixture.rate_per_task_name.items():
        part = mixture._task_map[name] if hasattr(mixture, "_task_map") else None
        if isinstance(part, seqio.Mixture):
            inner = f"{occurrence}/{name}"
            weight = _number(mixture, name, rate, part)
            yield from _mixture_rules(part, (*groups, Group(inner, weight)), inner)
        else:
            yield name, _task_rule(mixture, name, rate, part, groups)


def _task_rule(
    mixture: seqio.Mixture, name: str, rate: Any, task: Any, groups: tuple[Group, ...]
) -> Rule:
    """SeqIO's own rate of a task; where SeqIO does not know how many examples there are, by those that flanx stores."""
    settings = _by_examples(rate)
    if (
        settings is not None
        and not task.cache_dir
        and task.num_input_examples(settings["split"]) is None
    ):
        scale, most = settings["scale"], settings["maximum"]
        temperature = settings["temperature"]
        cap = None if not most else most / scale
        return Rule(None, cap, scale ** (1 / temperature), groups, temperature)
    return Rule(_number(mixture, name, rate, task), None, 1.0, groups)


def _by_examples(rate: Any) -> dict[str, Any] | None:
    """The settings of a rate that is `seqio.mixing_rate_num_examples`, bare or with some given; None for any other."""
    given: dict[str, Any] = {}
    while isinstance(rate, functools.partial) and not rate.args:
        given = {**rate.keywords, **given}
        rate = rate.func
    if rate is not seqio.mixing_rate_num_examples:
        return None
    return {"maximum": None, "scale": 1.0, "temperature": 1.0, "split": "train", **given}


def _number(mixture: seqio.Mixture, name: str, rate: Any, part: Any) -> float:
    try:
        return float(rate(_Counted(part)) if callable(rate) else rate)
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(
            f"SeqIO mixture '{mixture.name}': the rate of '{name}' is no number ({type(error).__name__}: {text}); "
            "give a number, or a function of the task that returns one"
        ) from error


class _Counted:
    """A SeqIO task or mixture that counts its source's rows where the source does not say how many they are."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def num_input_examples(self, split: str) -> int:
        return num_examples(self._part, split)


def num_examples(part: Any, split: str) -> int:
    """Rows of a task's or mixture's split: what its source says, else counted, once a process."""
    if isinstance(part, seqio.Mixture):
        return sum(num_examples(task, split) for task in part.tasks if split in task.splits)
    known = part.num_input_examples(split)
    return int(known) if known is not None else _counted(part, split)


@functools.cache
def _counted(task: seqio.Task, split: str) -> int:
    dataset = task.source.get_dataset(split=split, shuffle=False)
    return sum(1 for _ in dataset)
