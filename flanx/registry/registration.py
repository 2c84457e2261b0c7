"""`flanx.register`: one call makes a dataset's tasks, one a template type, with every mistake found there and then."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flanx.errors import UserError, did_you_mean
from flanx.registry import table
from flanx.registry.rendering.few_shot import FewShot
from flanx.registry.rendering.field_names import Fields, as_function, field_names
from flanx.registry.rendering.template import Template, placeholders
from flanx.registry.sources import RowSource
from flanx.registry.sources.seqio_rows import wrapped
from flanx.registry.spec import TYPES, TaskSpec, caller
from flanx.user_code.import_by_name import METRIC, POSTPROCESSOR, Kind, name_of

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+")


def register(
    name: str,
    *,
    source: Any,
    fields: Fields,
    templates: Sequence[Template],
    inverted: Sequence[Template] = (),
    category: str | None = None,
    metrics: Sequence[str | Callable[..., Any]] = (),
    postprocessor: str | Callable[..., Any] | None = None,
    few_shot: FewShot | None = None,
    template_types: Iterable[str] | None = None,
    vocabulary: str | None = None,
) -> None:
    """Registers a dataset: a task for each template type, `name.zs_opt` and so on. Nothing is read yet.

    Args:
      name: `collection.dataset`, of letters, digits and `_`, in two parts or more.
      source: a `RowSource` (`Jsonl`, `Tsv`, `Parquet`, `NaturalInstructions`, `Generated`, `HeldOut`) or any
        `seqio.DataSource`.
      fields: the row's fields by name: a function `row -> {name: value}`, or a mapping `{name: column or function}`.
        A value is a text or a number; a list holds alternatives, of which one is drawn, and all of which make
        references. `options` is the list of options, `answer` one of them (or a list of acceptable ones).
      templates: how fields become inputs and targets; one is drawn for each example.
      inverted: templates of the type `inv`, which ask for what is usually given.
      category: what kind of task this is.
      metrics: functions `(references, predictions) -> {name: percent}` of a module, or their names.
      postprocessor: function `str -> str` that finds the answer in a generated text, or its name.
      few_shot: how exemplars are chosen and shown.
      template_types: the types that exist. Unless said: with and without options where a template has `{options_}`,
        else without, each zero- and few-shot (few-shot where there is a train split to draw exemplars from), and `inv`
        where there are inverted templates.
      vocabulary: spec of a vocabulary of the dataset's own.

    Raises:
      UserError: a name that is taken or malformed, a template that names an unknown field, an unknown metric,
        postprocessor or template type, no templates.
    """
    place = caller()
    if not isinstance(name, str):
        raise UserError(
            f"register ({place}): the name {name!r} is no text; give 'collection.dataset'"
        )
    if not _NAME.fullmatch(name):
        raise UserError(
            f"task '{name}' ({place}): a name is 'collection.dataset', of letters, digits, '_' and dots"
        )
    rows = _row_source(name, source)
    direct = _templates(name, templates, "templates")
    turned = _templates(name, inverted, "inverted")
    settings = few_shot if few_shot is not None else FewShot()
    if not isinstance(settings, FewShot):
        raise UserError(f"task '{name}': few_shot is {settings!r}; give a flanx.registry.FewShot")
    if not direct:
        raise UserError(f"task '{name}': no templates; give at least one flanx.Template")
    _check_fields(name, fields, direct, turned, settings)
    types = _types(name, template_types, direct, turned, rows, settings)
    for argument, value in (("category", category), ("vocabulary", vocabulary)):
        if value is not None and not isinstance(value, str):
            raise UserError(f"task '{name}': {argument} is {value!r}; give a text")
    metric_names = _metric_names(name, metrics)
    postprocessor_name = _postprocessor_name(name, postprocessor)
    to_fields = as_function(fields)
    specs = tuple(
        TaskSpec(
            name=f"{name}.{kind}",
            dataset=name,
            type=kind,
            source=rows,
            fields=fields,
            to_fields=to_fields,
            templates=_of_type(kind, direct, turned),
            category=category,
            metrics=() if kind == "inv" else metric_names,
            postprocessor=None if kind == "inv" else postprocessor_name,
            vocabulary=vocabulary,
            few_shot=settings,
            place=place,
        )
        for kind in types
    )
    table.add_dataset(name, specs, place)


def _templates(name: str, given: Sequence[Template], argument: str) -> tuple[Template, ...]:
    if isinstance(given, Template):
        return (given,)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UserError(
            f"task '{name}': {argument} is {given!r}; give a list of flanx.Template(...)"
        )
    given = tuple(given)
    for one in given:
        if not isinstance(one, Template):
            raise UserError(f"task '{name}': {argument} holds {one!r}; give flanx.Template(...)")
    return given


def _row_source(name: str, source: Any) -> RowSource:
    source = wrapped(source)
    if isinstance(source, type) or not isinstance(source, RowSource):
        raise UserError(
            f"task '{name}': {source!r} is no source; give flanx.Jsonl(train='...'), say, or a "
            "seqio.DataSource"
        )
    return source


def _check_fields(
    name: str,
    fields: Fields,
    direct: Sequence[Template],
    turned: Sequence[Template],
    settings: FewShot,
) -> None:
    known = field_names(fields)
    if known is None and not callable(fields):
        raise UserError(
            f"task '{name}': fields is {fields!r}; give a function of the row, or a mapping"
        )
    for number, template in enumerate((*direct, *turned), 1):
        kind = "template" if number <= len(direct) else "inverted template"
        about = f"task '{name}': {kind} {number if number <= len(direct) else number - len(direct)}"
        if "options" in template.fields:
            raise UserError(f"{about} ({template}) names {{options}}; write {{options_}}")
        if template.lists_options and number > len(direct):
            raise UserError(f"{about} ({template}) lists options, which an inverted one never does")
        if known is None:
            continue
        needed = template.fields | ({"options", "answer"} if template.lists_options else set())
        for field in sorted(needed - known):
            raise UserError(
                f"{about} ({template}) names the unknown field '{field}'"
                f"{did_you_mean(field, known)} (the fields are {', '.join(sorted(known))})"
            )
    if known is not None and settings.exemplars is not None and settings.exemplars not in known:
        raise UserError(
            f"task '{name}': few_shot takes exemplars from the unknown field '{settings.exemplars}'"
            f"{did_you_mean(settings.exemplars, known)}"
        )
    if known is not None and settings.exemplars is None:
        forms = [*settings.items, *(form for template in direct for form in template.exemplars)]
        for form in forms:
            for field in sorted(placeholders(form) - known):
                raise UserError(
                    f"task '{name}': exemplar form {form!r} names the unknown field '{field}'"
                    f"{did_you_mean(field, known)}"
                )


def _types(
    name: str,
    asked: Iterable[str] | None,
    direct: Sequence[Template],
    turned: Sequence[Template],
    source: RowSource,
    settings: FewShot,
) -> tuple[str, ...]:
    shots = settings.from_row or getattr(source, "lazy_splits", False) or "train" in source.splits
    if asked is None:
        found = ["zs_opt"] if any(template.lists_options for template in direct) else []
        found.append("zs_noopt")
        if shots:
            found += [kind.replace("zs", "fs") for kind in found]
        return (*found, "inv") if turned else tuple(found)
    if not isinstance(asked, Iterable):
        raise UserError(f"task '{name}': template_types is {asked!r}; give a list of them")
    types = (asked,) if isinstance(asked, str) else tuple(dict.fromkeys(asked))
    for kind in types:
        if kind not in TYPES:
            raise UserError(
                f"task '{name}': unknown template type '{kind}'{did_you_mean(str(kind), TYPES)} "
                f"(there are {', '.join(TYPES)})"
            )
        if kind == "inv" and not turned:
            raise UserError(f"task '{name}': template type 'inv' needs inverted=[...] templates")
        if kind.startswith("fs_") and not shots:
            raise UserError(
                f"task '{name}': template type '{kind}' draws exemplars from a train split, and "
                f"{source!r} has none; leave the type out, or give few_shot=FewShot(exemplars=...)"
            )
    if not types:
        raise UserError(f"task '{name}': template_types is empty; name one of {', '.join(TYPES)}")
    if turned and "inv" not in types:
        types = (*types, "inv")
    return types


def _of_type(
    kind: str, direct: tuple[Template, ...], turned: tuple[Template, ...]
) -> tuple[Template, ...]:
    if kind == "inv":
        return turned
    if kind.endswith("_opt"):
        # Where no template lists options they stand in the inputs as they are, as in Natural Instructions.
        return tuple(template for template in direct if template.lists_options) or direct
    return direct


def _metric_names(name: str, metrics: Sequence[Any]) -> tuple[str, ...]:
    if not metrics:
        return ()
    if isinstance(metrics, str) or callable(metrics):
        metrics = (metrics,)
    return tuple(_name_of(metric, METRIC, name) for metric in metrics)


def _postprocessor_name(name: str, postprocessor: Any) -> str | None:
    if postprocessor is None:
        return None
    return _name_of(postprocessor, POSTPROCESSOR, name)


def _name_of(function: Any, kind: Kind, task: str) -> str:
    try:
        return name_of(function, kind)
    except UserError as error:
        raise UserError(f"task '{task}': {error}") from None
