"""A row's fields as the texts that templates are filled from, and the targets that come of them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from flanx.registry.draws import Draws
from flanx.registry.rendering import choices
from flanx.registry.rendering.options import OptionStyle
from flanx.registry.rendering.template import EXEMPLARS, OPTIONS, Template
from flanx.registry.rendering.texts import all_texts, has_half_pair

MAX_REFERENCES = 64  # combinations of several list fields in one target are cut here
HALF_PAIR = "half a surrogate pair"


class Drop(Exception):
    """Leaves the rendering of a row; `args[0]` is the reason that the manifest counts."""


class Values:
    """A row's fields as texts, one alternative of each list drawn.

    Attributes:
      texts: what templates are filled from.
      lists: the alternatives of the fields that are lists.
      options: the row's options; empty where it has none or its answer is not among them.

    Args:
      fields: as `texts.plain` gives them.
      needed: names of the fields that the template uses.
      draws: draws the alternatives; None takes the first of each.
      needs_options: drop the row where it has no options or its answer is not among them.
      refuse: told the name of a needed field that `fields` lacks, or that is no text; raises.

    Raises:
      Drop: a needed field is empty or cannot be encoded, or options are needed and unusable.
    """

    __slots__ = ("lists", "options", "texts")

    def __init__(
        self,
        fields: Mapping[str, Any],
        needed: Sequence[str],
        draws: Draws | None,
        *,
        needs_options: bool,
        refuse: Callable[[str], NoReturn],
    ) -> None:
        self.texts: dict[str, str] = {OPTIONS: "", EXEMPLARS: ""}
        self.lists: dict[str, list[str]] = {}
        self.options = choices.usable(fields)
        if needs_options and not self.options:
            raise Drop(choices.NOT_AMONG if fields.get("options") else "no options")
        whole = _encodable(self.options)
        for name in needed:
            value = fields.get(name)
            if type(value) is str:
                self.texts[name] = value
                whole = whole and (value.isascii() or not has_half_pair(value))
            elif isinstance(value, list) and all_texts(value):
                self._alternatives(name, value, draws)
                whole = whole and _encodable(self.lists[name])
            elif value is None and name in fields:
                raise Drop(f"no {name}")
            else:
                refuse(name)
        if not whole:
            raise Drop(HALF_PAIR)

    def _alternatives(self, name: str, value: list[str], draws: Draws | None) -> None:
        if name == "answer" and self.options:
            value = [one for one in value if one in self.options]
        value = [one for one in dict.fromkeys(value) if one.strip()]
        if not value:
            raise Drop(f"empty {name}")
        self.lists[name] = value
        self.texts[name] = value[0] if draws is None else draws.choice(value)

    def inputs(self, template: Template, *, options: str = "", exemplars: str = "") -> str:
        """The template's inputs with these blocks in their places."""
        self.texts[OPTIONS] = options
        self.texts[EXEMPLARS] = exemplars
        return template.inputs.format_map(self.texts)

    def target(self, template: Template, style: OptionStyle | None) -> str:
        """The target with the alternatives that were drawn; the answer as a label where the style asks for it."""
        return template.targets.format_map(self._with_label(self.texts, style))

    def references(self, template: Template, style: OptionStyle | None) -> tuple[str, ...]:
        """Every target that the alternatives make, no two alike, the drawn one first."""
        first = self.target(template, style)
        names = [name for name in self.lists if name in template.target_fields]
        if not names:
            return (first,)
        found = {first: None}
        combinations = itertools.product(*(self.lists[name] for name in names))
        for chosen in itertools.islice(combinations, MAX_REFERENCES):
            texts = {**self.texts, **dict(zip(names, chosen, strict=True))}
            found[template.targets.format_map(self._with_label(texts, style))] = None
        return tuple(found)

    def answer_options(
        self, template: Template, style: OptionStyle | None
    ) -> tuple[str, ...] | None:
        """The target for each option; None without options, or where a target does not go by the answer alone."""
        if not self.options or "answer" not in template.target_fields:
            return None
        if template.targets == "{answer}":
            return tuple(self.options) if style is None else style.answers(self.options)
        if "rationale" in template.target_fields:
            return None
        return tuple(
            template.targets.format_map(self._with_label({**self.texts, "answer": option}, style))
            for option in self.options
        )

    def _with_label(self, texts: dict[str, str], style: OptionStyle | None) -> dict[str, str]:
        if style is None or not style.label_is_target or "answer" not in texts:
            return texts
        place = list(self.options).index(texts["answer"])
        return {**texts, "answer": style.answers(self.options)[place]}


def _encodable(texts: Sequence[str]) -> bool:
    return all(map(str.isascii, texts)) or not any(map(has_half_pair, texts))
