"""One row to one example: template, options, exemplars, target. Pure Python; every draw by (seed, task, index)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol

from flanx.errors import UserError, did_you_mean
from flanx.registry.draws import Draws
from flanx.registry.rendering import choices, exemplars, few_shot
from flanx.registry.rendering.options import OptionStyle, draw_style
from flanx.registry.rendering.template import EXEMPLARS, Template, placeholders
from flanx.registry.rendering.texts import NotText, has_half_pair, plain, refusal
from flanx.registry.rendering.values import HALF_PAIR, Drop, Values
from flanx.registry.row_errors import LEAVE_OUT, RowError, fields_failed
from flanx.registry.sources import Row, RowSource

# In the key of every store that flanx renders. Raise it when an unchanged row gives other texts, options or references,
# is dropped where it was kept, or for another reason. `field_names`, `values`, `choices`, `texts`, `options` and
# `template` belong to it; what only few-shot examples have is versioned in `few_shot`, random draws in `draws`.
VERSION = 1
LEFT_OUT = "left out by `fields`"


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example as text.

    Attributes:
      index: place of its row in the split.
      template: place of its template among the type's templates.
      inputs, targets: the texts.
      references: every acceptable target, the drawn one first, no two alike.
      options: what a target may read as, one an option, in the row's order; None where the task has no options.
    """

    index: int
    template: int
    inputs: str
    targets: str
    references: tuple[str, ...]
    options: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that makes no example, and why; counted in the manifest."""

    index: int
    reason: str


class Task(Protocol):
    """What rendering needs of a `flanx.registry.spec.TaskSpec`, which stands above it."""

    @property
    def name(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def source(self) -> RowSource: ...
    @property
    def to_fields(self) -> Callable[[Row], Mapping[str, Any]]: ...
    @property
    def templates(self) -> tuple[Template, ...]: ...
    @property
    def few_shot(self) -> few_shot.FewShot: ...
    @property
    def is_few_shot(self) -> bool: ...
    @property
    def shows_options(self) -> bool: ...


class Renderer:
    """Renders rows of one split of one task; reads the exemplar pool when it is first needed.

    Args:
      spec: the task.
      split: the split that the rows come from.
      feature_lengths: most tokens of `inputs`; None, or no vocabulary, for no limit on exemplars.
      vocabulary: anything with `encode(text)`; counts tokens of few-shot examples.
      seed: all draws depend on (seed, task name, row) alone.
      data_dir: where the exemplars' files are looked up.
    """

    def __init__(
        self,
        spec: Task,
        split: str,
        *,
        feature_lengths: Mapping[str, int] | None = None,
        vocabulary: Any = None,
        seed: int = 0,
        data_dir: str | None = None,
    ) -> None:
        self._spec = spec
        self._split = split
        self._vocabulary = vocabulary
        self._inputs_length = (feature_lengths or {}).get("inputs")
        self._seed = seed
        self._data_dir = data_dir
        self._templates = spec.templates
        self._needs = [sorted(template.fields) for template in spec.templates]
        self._answers = [sorted(template.target_fields) for template in spec.templates]
        self._lists_options = [
            spec.shows_options and template.lists_options for template in spec.templates
        ]
        self._identity_names = exemplars.identity_names(spec.templates)
        self._alike = _alike_targets(spec.templates)
        self._pool: list[exemplars.PoolRow] | None = None
        self._pool_error: RowError | None = None
        self._sizes: dict[str, int] = {}

    def __call__(self, index: int, row: Row) -> Rendered | Dropped:
        """Renders the row at place `index`; raises RowError naming file:line where it lacks a field, or a text."""
        draws = Draws(self._seed, self._spec.name, index, "render")
        number = draws.integer(len(self._templates))
        style = draw_style(draws) if self._lists_options[number] else None
        try:
            fields = self.fields(index, row)
            values = self._values(number, fields, draws, index)
            if not values.options and self._spec.type != "inv" and choices.contradicted(fields):
                raise Drop(choices.NOT_AMONG)
            if self._spec.is_few_shot:
                inputs = self._few_shot_inputs(index, number, fields, values, style)
            else:
                template = self._templates[number]
                block = ""
                if style is not None:
                    block = style.block(values.options, with_end=template.ends_with_options)
                inputs = values.inputs(template, options=block)
            return self._example(index, number, inputs, values, style)
        except Drop as drop:
            return Dropped(index, drop.args[0])

    def fields(self, index: int, row: Row, split: str | None = None) -> dict[str, Any]:
        """The row's fields: texts, lists of alternatives, and whatever else `fields` gives.

        Raises:
          Drop: `fields` returns None, which leaves the row out.
          RowError: `fields` fails on the row, gives no mapping, or options that are no list of texts; the message says
            where the row stands in `split` (None: the renderer's).
        """
        try:
            given = self._spec.to_fields(row)
            if given is None:
                raise Drop(LEFT_OUT)
            if type(given) is not dict and not isinstance(given, Mapping):
                raise _not_fields(given)
            fields = plain(given)
            if "options" in fields:
                choices.settle(fields, given)
            return fields
        except Drop:
            raise
        except Exception as error:
            raise self._about_row(error, index, row, split or self._split) from error

    def _values(
        self, number: int, fields: Mapping[str, Any], draws: Draws | None, index: int
    ) -> Values:
        return Values(
            fields,
            self._needs[number],
            draws,
            needs_options=self._lists_options[number],
            refuse=partial(self._refuse, index, fields),
        )

    def _example(
        self, index: int, number: int, inputs: str, values: Values, style: OptionStyle | None
    ) -> Rendered:
        template = self._templates[number]
        targets = values.target(template, style)
        if not targets.strip():
            raise Drop("empty target")
        for name in self._answers[number]:
            if not values.texts[name].strip():  # "The answer is ." teaches nothing
                raise Drop(f"empty {name} in the target")
        if not inputs.strip():
            raise Drop("empty input")
        options = None if self._spec.type == "inv" else values.answer_options(template, style)
        references = values.references(template, style)
        return Rendered(index, number, inputs, targets, references, options)

    def _few_shot_inputs(
        self,
        index: int,
        number: int,
        fields: Mapping[str, Any],
        values: Values,
        style: OptionStyle | None,
    ) -> str:
        """Exemplars and query as one text, with as many exemplars as fit."""
        settings = self._spec.few_shot
        template = self._templates[number]
        draws = Draws(self._seed, self._spec.name, index, "exemplars")
        shown = number
        if settings.counts is not None:
            k = draws.choice(settings.counts)
        elif draws.integer(2):
            k = draws.choice(settings.own)
        else:
            k = settings.max_exemplars
            shown = draws.choice(self._alike[number])
        chosen = self._draw_exemplars(index, fields, k, draws)
        if not chosen:
            raise Drop("no exemplar")
        forms = template.exemplars or settings.items
        if forms:
            dress = few_shot.Dress("", "", "", draws.choice(settings.separators))
            form = _usable_form(forms, chosen, draws)
            pairs = [(self._in_form(form, one, index), "") for one in chosen]
        else:
            dress = draws.choice(few_shot.DRESSES)
            pairs = [self._shown(shown, one, style, index) for one in chosen]
        block = "" if style is None else style.block(values.options, with_end=False)
        inside = EXEMPLARS in template.input_fields  # the template itself dresses the query
        query = values.inputs(template, options=block)
        if not inside:
            query = dress.query(len(pairs) + 1, query)
        kept = self._fitting(
            query, [dress.exemplar(n, *pair) + dress.separator for n, pair in enumerate(pairs, 1)]
        )
        if not kept:
            raise Drop("no exemplar fits the inputs")
        texts = [dress.exemplar(n, *pairs[place]) for n, place in enumerate(kept, 1)]
        before = "".join(text + dress.separator for text in texts)
        if inside:
            return values.inputs(template, options=block, exemplars=before)
        return before + dress.query(len(kept) + 1, values.inputs(template, options=block))

    def _draw_exemplars(
        self, index: int, fields: Mapping[str, Any], k: int, draws: Draws
    ) -> list[Mapping[str, Any]]:
        field = self._spec.few_shot.exemplars
        names = self._identity_names
        if field is not None:
            given = fields.get(field) or ()
            if field not in fields or not isinstance(given, (list, tuple)):
                self._refuse(index, fields, field)
            if not all(isinstance(one, Mapping) for one in given):
                self._refuse(index, fields, field)
            return exemplars.draw_from_row(given, fields, names, k, draws)
        own_place = index if self._split == "train" else None
        query = exemplars.identity(fields, names)
        return exemplars.draw_from_pool(self._train_pool(), query, own_place, k, draws)

    def _train_pool(self) -> list[exemplars.PoolRow]:
        if self._pool_error is not None:  # reading all of it again would end the same way
            raise self._pool_error
        if self._pool is None:
            try:
                self._pool = exemplars.read_pool(
                    self._spec.source,
                    self._exemplar_fields,
                    self._identity_names,
                    size=self._spec.few_shot.pool,
                    dataset=self._spec.dataset,
                    seed=self._seed,
                    data_dir=self._data_dir,
                )
            except RowError as error:
                self._pool_error = error
                raise
        return self._pool

    def _exemplar_fields(self, index: int, row: Row) -> dict[str, Any] | None:
        """Fields of a train row, or None where it could not be rendered itself."""
        try:
            fields = self.fields(index, row, "train")
        except Drop:
            return None
        for needed in self._needs:
            for name in needed:
                value = fields.get(name)
                shown = value if isinstance(value, list) else [value]
                if not any(one is not None and str(one).strip() for one in shown):
                    return None
                if any(isinstance(one, str) and has_half_pair(one) for one in shown):
                    return None
        if choices.contradicted(fields):
            return None
        if any(self._lists_options) and not choices.usable(fields):
            return None
        return fields

    def _in_form(self, form: str, fields: Mapping[str, Any], index: int) -> str:
        """An exemplar in a form of its own, with the first alternative of each list."""
        shown = {}
        for name in placeholders(form):
            value = fields[name]
            first = value[0] if isinstance(value, list) and value else value
            if type(first) is not str:
                self._refuse(index, fields, name)
            if has_half_pair(first):
                raise Drop(HALF_PAIR)
            shown[name] = first
        return form.format_map(shown)

    def _shown(
        self, number: int, fields: Mapping[str, Any], style: OptionStyle | None, index: int
    ) -> tuple[str, str]:
        """Inputs and targets of an exemplar, in the query's option style."""
        template = self._templates[number]
        values = self._values(number, fields, None, index)
        block = "" if style is None else style.block(values.options, with_end=False)
        return values.inputs(template, options=block), values.target(template, style)

    def _fitting(self, query: str, texts: Sequence[str]) -> list[int]:
        """Places of the exemplars that fit beside the query; what surely fits is not tokenised to count it."""
        everything = list(range(len(texts)))
        if self._inputs_length is None or self._vocabulary is None:
            return everything
        budget = partial(self._spec.few_shot.budget, self._inputs_length)
        most = getattr(self._vocabulary, "most_tokens", None)
        if most is not None:
            room = budget(most(query))
            if sum(map(most, texts)) <= room:
                return everything
            if room > 0 and sum(map(self._exemplar_tokens, texts)) <= room:
                return everything
        return few_shot.fitting(texts, budget(self._tokens(query)), self._exemplar_tokens)

    def _tokens(self, text: str) -> int:
        count = getattr(self._vocabulary, "count", None)  # needs no list of all ids
        return len(self._vocabulary.encode(text)) if count is None else count(text)

    def _exemplar_tokens(self, text: str) -> int:
        """As `_tokens`, remembered: the same exemplars of a row's own come again and again."""
        if text not in self._sizes:
            if len(self._sizes) >= 4096:
                self._sizes.clear()
            self._sizes[text] = self._tokens(text)
        return self._sizes[text]

    def _about_row(self, error: Exception, index: int, row: Row, split: str) -> RowError:
        where = partial(self._spec.source.where, split, index, self._data_dir)
        if not isinstance(error, NotText):
            return fields_failed(error, self._spec.dataset, row, where)
        text = f"task '{self._spec.dataset}': {error.text}; {error.fix}; {LEAVE_OUT}"
        return RowError(error.kind, where, text)

    def _refuse(self, index: int, fields: Mapping[str, Any], name: str) -> NoReturn:
        """Refuses a row for a field that a template needs: it is not there, or it is no text."""
        where = partial(self._spec.source.where, self._split, index, self._data_dir)
        if name not in fields:
            raise UserError(
                f"task '{self._spec.dataset}': a template names the unknown field '{name}'"
                f"{did_you_mean(name, fields)} (for {where()} the fields are {', '.join(sorted(fields))})"
            )
        if name == self._spec.few_shot.exemplars:
            kind = type(fields[name]).__name__
            refused = NotText(f"a {kind}", "give a list of dicts, one an exemplar")
        else:
            refused = refusal(fields[name])
        kind = f"{name} is {refused.kind}"
        about = f"task '{self._spec.dataset}': field '{name}' is {refused.kind}"
        raise RowError(kind, where, f"{about}; {refused.fix}; {LEAVE_OUT}")


def _not_fields(given: Any) -> NotText:
    kind = f"`fields` gives a {type(given).__name__}"
    if isinstance(given, (list, tuple)):
        return NotText(
            kind, "give one mapping {name: value}, and a row of the file for each example"
        )
    return NotText(kind, "give one mapping {name: value}")


def _usable_form(forms: Sequence[str], chosen: Sequence[Mapping[str, Any]], draws: Draws) -> str:
    """One of the forms whose fields every exemplar has."""
    usable = [
        form
        for form in forms
        if all(all(one.get(name) for name in placeholders(form)) for one in chosen)
    ]
    if not usable:
        raise Drop("exemplars lack a field")
    return draws.choice(usable)


def _alike_targets(templates: Sequence[Template]) -> list[list[int]]:
    """For each template, the places of those that answer alike: equal fields in the targets, options or none."""
    return [
        [
            place
            for place, other in enumerate(templates)
            if other.target_fields == template.target_fields
            and other.lists_options == template.lists_options
        ]
        for template in templates
    ]
