"""How a list of options is shown: drawn from many starts, item styles and ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from flanx.registry.draws import Draws

STARTS = (
    "\n\nOptions:",
    "\nOptions:",
    "\n\nOPTIONS:",
    "\nOPTIONS:",
    "\n\nChoices:",
    "\nChoices:",
    "\n\nPossible answers:",
    "\nThe possible answers:",
    "\n\nPick one of these:",
    "\nPick from:",
    "\n\nChoose one of the following:",
    "\nChoose your answer from:",
    "\n\nSelect from the list below.",
    "\n\nHere is what you can answer:",
    "\nYour answer must be one of these:",
    "\n\nAvailable options:",
    "\n\nAnswer with one of:",
    "\n",
)

ENDS = ("", "", "", "\n", "\nAnswer:", "\n\nAnswer:", "\nThe answer is", "\nYour choice:")

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SMALL_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class ItemStyle:
    """One item: what stands before its text. `{}` is the label's place; without it items carry no label."""

    before: str
    alphabet: str = ""  # "A", "a" or "1"
    label: str = "{}"  # the label as a target: "(A)" or "A"

    def labels(self, n: int) -> tuple[str, ...] | None:
        """Labels of `n` items, or None where this style has none; digits when the letters run out."""
        if not self.alphabet:
            return None
        if self.alphabet == "1" or n > len(LETTERS):
            return tuple(str(i + 1) for i in range(n))
        return (LETTERS if self.alphabet == "A" else SMALL_LETTERS)[:n]


ITEMS = (
    ItemStyle("- "),
    ItemStyle("-- "),
    ItemStyle("* "),
    ItemStyle("+ "),
    ItemStyle("\u2022 "),
    ItemStyle("> "),
    ItemStyle(""),
    ItemStyle("({}) ", "A", "({})"),
    ItemStyle("{}. ", "A"),
    ItemStyle("{}) ", "A"),
    ItemStyle("{}: ", "A"),
    ItemStyle("[{}] ", "A", "[{}]"),
    ItemStyle("({}) ", "a", "({})"),
    ItemStyle("{}. ", "a"),
    ItemStyle("{}) ", "a"),
    ItemStyle("[{}] ", "a", "[{}]"),
    ItemStyle("({}) ", "1", "({})"),
    ItemStyle("{}. ", "1"),
    ItemStyle("{}) ", "1"),
    ItemStyle("[{}] ", "1", "[{}]"),
    ItemStyle("- ({}) ", "A", "({})"),
    ItemStyle("#{} ", "1"),
)

SEPARATORS = ("\n", "\n", "\n", "\n\n", "; ")


@dataclass(frozen=True)
class OptionStyle:
    """One way to show options, the same for a query and all its exemplars."""

    start: str
    item: ItemStyle
    separator: str
    end: str
    label_is_target: bool

    def block(self, options: Sequence[str], *, with_end: bool) -> str:
        """The text that takes the place of `{options_}`; it opens with a line break."""
        separator = self.separator
        if separator != "\n" and any("\n" in option or ";" in option for option in options):
            separator = "\n"
        labels = self.item.labels(len(options))
        before = self.item.before
        if labels is None:
            shown = [before + option for option in options]
        else:
            shown = [
                before.format(label) + option for label, option in zip(labels, options, strict=True)
            ]
        gap = "" if self.start == "\n" else (" " if separator == "; " else "\n")
        return self.start + gap + separator.join(shown) + (self.end if with_end else "")

    def answers(self, options: Sequence[str]) -> tuple[str, ...]:
        """What the answer reads as, option by option: the label where this style asks for labels, else the text."""
        if not self.label_is_target:
            return tuple(options)
        labels = self.item.labels(len(options))
        if labels is None:
            return tuple(options)
        return tuple(self.item.label.format(label) for label in labels)


def draw_style(draws: Draws) -> OptionStyle:
    """A style, from four draws and a fifth where items carry labels."""
    item = draws.choice(ITEMS)
    return OptionStyle(
        start=draws.choice(STARTS),
        item=item,
        separator=draws.choice(SEPARATORS),
        end=draws.choice(ENDS),
        label_is_target=bool(item.alphabet) and draws.integer(2) == 0,
    )
