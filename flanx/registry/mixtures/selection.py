"""From a mixture or a glob to the tasks that it selects, each with its weighing rules."""

import fnmatch
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flanx.errors import UserError, did_you_mean
from flanx.registry import loading, table
from flanx.registry.draws import rank
from flanx.registry.mixtures import present_data
from flanx.registry.mixtures.parts import Mixture, Part
from flanx.registry.mixtures.selected import Group, Rule, Selected
from flanx.registry.names import is_glob, known, match
from flanx.registry.seqio import external_tasks
from flanx.registry.spec import TYPES, TaskSpec

TYPE_SHARES = {"inv": 0.3}  # Flan 2022; every other type weighs 1


@dataclass
class _Found:
    """A task met while a mixture is expanded, before its fraction is known."""

    task: str
    spec: TaskSpec | None
    rule: Rule
    occurrence: str  # one part of one expansion: a dataset's weight spreads within it
    present_only: bool = False


def resolve(
    name: str,
    *,
    num_tasks: int | None = None,
    template_types: Iterable[str] | Mapping[str, float] | None = None,
    seed: int = 0,
    split: str | None = "train",
    data_dir: str | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Selected]:
    """The tasks that a mixture, dataset, task or glob selects, sorted by name.

    Args:
      name: name of a mixture (flanx's or SeqIO's), dataset or task, or a glob over datasets and tasks.
      num_tasks: keep so many datasets, each with all its selected types. The datasets of a smaller number are among
        those of every larger one, for one seed.
      template_types: keep these types; a mapping also gives their shares of a dataset's weight. None, or names alone:
        every type weighs 1 but for `inv`, which weighs 0.3 (TYPE_SHARES), whichever of them are kept.
      seed: order in which `num_tasks` takes datasets.
      split: tasks without this split are left out; None keeps them all.
      data_dir: where the files of `present_only` parts are looked for; None for FLANX_DATA_DIR.
      say: told in a line how much of such parts is there.

    Raises:
      UserError: nothing matches (the nearest name is offered), no task has the split or a type asked for, nothing of
        a `present_only` part is there, or there are fewer datasets than `num_tasks`.
    """
    shares = _type_shares(template_types)
    found = _expand(name)
    of_type = [one for one in found if one.spec is None or one.spec.type in shares]
    if not of_type:
        raise UserError(
            f"'{name}': no task of template type {', '.join(shares)} (there are "
            f"{', '.join(sorted({one.spec.type for one in found if one.spec}))})"
        )
    kept = of_type if split is None else [one for one in of_type if split in _splits(one)]
    if not kept:
        splits = sorted({known for one in of_type for known in _splits(one)})
        raise UserError(
            f"'{name}': no task has the split '{split}' (they have {', '.join(splits)})"
        )
    if any(one.present_only for one in kept):
        here = present_data.PresentData(split, data_dir)
        there = [one for one in kept if not (one.present_only and one.spec and not here(one.spec))]
        if there or split is not None:  # SeqIO may ask for names before the data is there
            here.report(name, say)
            kept = there
    if num_tasks is not None:
        names = sorted({_dataset(one) for one in kept}, key=lambda dataset: rank(seed, dataset))
        if not 0 < num_tasks <= len(names):
            raise UserError(
                f"'{name}': num_tasks {num_tasks} is not between 1 and its {len(names)} datasets"
            )
        chosen = set(names[:num_tasks])
        kept = [one for one in kept if _dataset(one) in chosen]
    return _with_fractions(kept, shares)


def _with_fractions(kept: Sequence[_Found], shares: Mapping[str, float]) -> list[Selected]:
    """Spreads each dataset's weight over its types, and joins the rules of each task."""
    sums: dict[tuple[str, str], float] = {}
    for one in kept:
        key = (one.occurrence, _dataset(one))
        sums[key] = sums.get(key, 0.0) + _share(one, shares)
    rules: dict[str, list[Rule]] = {}
    specs: dict[str, TaskSpec | None] = {}
    for one in kept:
        rule = one.rule
        part = _share(one, shares) / sums[one.occurrence, _dataset(one)]
        rules.setdefault(one.task, []).append(replace(rule, fraction=rule.fraction * part))
        specs[one.task] = one.spec
    return [Selected(task, specs[task], tuple(rules[task])) for task in sorted(rules)]


def _type_shares(types: Iterable[str] | Mapping[str, float] | None) -> dict[str, float]:
    if types is None:
        return {kind: TYPE_SHARES.get(kind, 1.0) for kind in TYPES}
    names = [types] if isinstance(types, str) else list(types)
    for kind in names:
        if kind not in TYPES:
            raise UserError(
                f"unknown template type '{kind}'{did_you_mean(kind, TYPES)} (there are {', '.join(TYPES)})"
            )
    if isinstance(types, Mapping):
        if wrong := next((kind for kind in names if not 0 < types[kind] < math.inf), None):
            raise UserError(
                f"template type '{wrong}': share {types[wrong]} is not above 0 and finite"
            )
        return {kind: float(types[kind]) for kind in names}
    return {kind: TYPE_SHARES.get(kind, 1.0) for kind in names}


def _share(one: _Found, shares: Mapping[str, float]) -> float:
    return 1.0 if one.spec is None else shares[one.spec.type]


def _dataset(one: _Found) -> str:
    return one.spec.dataset if one.spec is not None else one.task


def _splits(one: _Found) -> Sequence[str]:
    if one.spec is not None:
        return one.spec.splits
    return sys.modules["seqio"].TaskRegistry.get(one.task).splits


def _expand(name: str) -> list[_Found]:
    """Every task that `name` stands for; loads the modules that could define it where nothing is known of it."""
    if not known(name):
        loading.load_for(name)
    if name in table.mixtures():
        return _expand_mixture(name, (), Rule(), ())
    return _expand_part(Part(name), name, (), Rule(), ())


def _expand_mixture(
    name: str, groups: tuple[Group, ...], outer: Rule, inside: tuple[str, ...]
) -> list[_Found]:
    if name in inside:
        raise UserError(f"mixture '{name}' contains itself: {' > '.join((*inside, name))}")
    mixture = table.get_mixture(name)
    found = []
    rule = _within(mixture, outer)
    for number, part in enumerate(mixture.parts):
        occurrence = f"{'/'.join(group.name for group in groups[-1:])}{name}/{number}"
        found += _expand_part(part, occurrence, groups, rule, (*inside, name))
    return found


def _expand_part(
    part: Part,
    occurrence: str,
    groups: tuple[Group, ...],
    outer: Rule,
    inside: tuple[str, ...],
) -> list[_Found]:
    rule = _within(part, outer)
    pattern = part.pattern
    if not known(pattern):
        loading.load_for(pattern)
    if pattern in table.mixtures():
        total = part.share if part.share is not None else part.rate
        inner = (*groups, Group(occurrence, total))
        found = _expand_mixture(pattern, inner, rule, inside)
    else:
        if part.share is not None:
            groups = (*groups, Group(occurrence, part.share))
        specs = [table.tasks()[task] for task in match(pattern)]
        rule = replace(rule, rate=part.rate, groups=groups)
        found = [_Found(spec.name, spec, rule, occurrence) for spec in specs]
        found += _expand_external(part, occurrence, rule)
        if not found:
            raise UserError(_nothing_matches(pattern, inside))
    if part.present_only:
        found = [replace(one, present_only=True) for one in found]
    if part.exclude:
        out = _out(part.exclude)
        found = [one for one in found if not (out(one.task) or out(_dataset(one)))]
        if not found:
            raise UserError(f"part '{pattern}': exclude {part.exclude} leaves nothing of it")
    return found


def _within(inner: Mixture | Part, outer: Rule) -> Rule:
    """How numbers of examples weigh inside a mixture or part: by its own cap and temperature, else those around it."""
    temperature = outer.temperature if inner.temperature is None else inner.temperature
    return Rule(cap=outer.cap if inner.cap is None else inner.cap, temperature=temperature)


def _expand_external(part: Part, occurrence: str, rule: Rule) -> list[_Found]:
    """What others registered with SeqIO under the part's pattern; a name of flanx's own comes first."""
    if match(part.pattern) and not is_glob(part.pattern):
        return []
    if external_tasks.known(part.pattern):
        from flanx.registry.seqio import mixtures as seqio_mixtures

        rules = seqio_mixtures.external_rules(part.pattern, rule, occurrence)
    else:
        rules = [(task, rule) for task in external_tasks.names(part.pattern)]
    return [
        _Found(task, table.tasks().get(task), rule, f"{occurrence}/{number}")
        for number, (task, rule) in enumerate(rules)
    ]


def specs_of(name: str) -> list[TaskSpec]:
    """The tasks that a mixture, dataset, task or glob stands for, of all splits, by dataset and type.

    A task that other code registered with SeqIO is shown through `external_tasks.view`.

    Raises:
      UserError: nothing matches; the nearest name is offered.
    """
    specs = {one.task: one.spec or external_tasks.view(one.task) for one in _expand(name)}
    order = {kind: place for place, kind in enumerate(TYPES)}
    return sorted(specs.values(), key=lambda spec: (spec.dataset, order.get(spec.type, -1)))


def _out(patterns: Sequence[str]) -> Any:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)).match


def _nothing_matches(pattern: str, inside: tuple[str, ...]) -> str:
    collections = {f"{name.partition('.')[0]}.*" for name in table.datasets()}
    known = [*table.mixtures(), *table.datasets(), *sorted(collections), *table.tasks()]
    what = "glob" if is_glob(pattern) else "name"
    of = f" of mixture '{inside[-1]}'" if inside else ""
    return f"{what} '{pattern}'{of} matches no task or mixture{did_you_mean(pattern, known)}"
