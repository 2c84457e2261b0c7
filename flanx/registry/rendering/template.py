"""A template: how the fields of one example become a pair of inputs and targets."""

import string
from dataclasses import dataclass, field

from flanx.errors import UserError

OPTIONS = "options_"  # where the list of options goes; empty in the types that do not list them
EXEMPLARS = "exemplars_"  # where the exemplars go; in front of the inputs where a template has none
RESERVED = frozenset((OPTIONS, EXEMPLARS))


@dataclass(frozen=True)
class Template:
    """Inputs and targets with fields in braces; `{{` and `}}` are plain braces.

    `{options_}` in the inputs is replaced by the options in a drawn style, opening with its own line break, and by
    nothing in the template types without options. `{exemplars_}` in the inputs says where the exemplars of a few-shot
    example go; without it they stand in front.

    Attributes:
      exemplars: forms of one exemplar, input and output in one text, in place of `FewShot.items` for this template;
        exemplars whose fields are all there may be shown in such a form.

    Example:
      >>> Template("{ticket}\\n\\nWhich team should take this?{options_}", "{answer}").input_fields
      frozenset({'ticket', 'options_'})

    Raises:
      UserError: a placeholder is not a plain field name, or a reserved one stands in the targets.
    """

    inputs: str
    targets: str
    exemplars: tuple[str, ...] = ()
    input_fields: frozenset[str] = field(init=False, repr=False, compare=False)
    target_fields: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"Template: {name} is {getattr(self, name)!r}; give a text")
        if isinstance(self.exemplars, str):
            raise UserError(f"Template: exemplars is {self.exemplars!r}; give a list of texts")
        object.__setattr__(self, "input_fields", placeholders(self.inputs))
        object.__setattr__(self, "target_fields", placeholders(self.targets))
        object.__setattr__(self, "exemplars", tuple(self.exemplars))
        for form in self.exemplars:
            placeholders(form)
        if misplaced := sorted(self.target_fields & RESERVED):
            raise UserError(
                f"template {self}: {{{misplaced[0]}}} stands in the targets; it belongs in the inputs"
            )
        if not self.targets.strip():
            raise UserError(f"template {self}: the targets are empty; name the field to predict")

    @property
    def fields(self) -> frozenset[str]:
        """The names of the example's own fields that this template uses."""
        return (self.input_fields | self.target_fields) - RESERVED

    @property
    def lists_options(self) -> bool:
        return OPTIONS in self.input_fields

    @property
    def ends_with_options(self) -> bool:
        """Nothing follows the options, so that their style may add a closing line of its own."""
        return self.inputs.rstrip().endswith(f"{{{OPTIONS}}}")

    def __str__(self) -> str:
        short = self.inputs if len(self.inputs) <= 60 else self.inputs[:57] + "..."
        return f"{short!r} -> {self.targets!r}"


def placeholders(text: str) -> frozenset[str]:
    """The field names in `text`.

    Raises:
      UserError: the braces do not match, or hold anything but a name.
    """
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UserError(
            f"template {text!r}: {error}; write {{{{ and }}}} for plain braces"
        ) from None
    names = set()
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise UserError(
                f"template {text!r}: {{{shown}}} is not a plain field name; compute it in `fields`, "
                "or write {{ and }} for plain braces"
            )
        names.add(name)
    return frozenset(names)
