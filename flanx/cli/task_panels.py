"""An example on a terminal: inputs and targets clearly apart, and what is invisible made visible."""

from rich.console import Console, Group
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from flanx.data.vocabulary import Vocabulary
from flanx.registry import Rendered, TaskSpec

_MARK = "dim cyan"
_PLAIN_SPACE = " "
MOST_SHOWN = 20_000  # characters of a text; each takes hundreds of bytes on its way to the terminal


def print_example(
    console: Console,
    spec: TaskSpec,
    split: str,
    example: Rendered,
    vocabulary: Vocabulary | None = None,
) -> None:
    """Prints one example with its task, place, template and, with a vocabulary, its token counts (EOS included)."""
    parts: list[object] = [
        visible(example.inputs),
        Rule("targets", style="green"),
        visible(example.targets),
    ]
    others = [one for one in example.references if one != example.targets]
    if others:
        parts += [Rule("other references", style="dim"), *map(visible, others[:5])]
        if len(others) > 5:
            parts.append(Text(f"and {len(others) - 5} more", style="dim"))
    if example.options is not None:
        parts += [Rule("options", style="dim"), Text(" | ").join(map(visible, example.options))]
    console.print(
        Panel(
            Group(*parts),  # type: ignore[arg-type]
            title=Text(f"{spec.name}  {split} {example.index}"),
            title_align="left",
            subtitle=Text(_facts(spec, example, vocabulary)),
            subtitle_align="right",
            border_style="blue",
        )
    )


def visible(text: str, most: int = MOST_SHOWN) -> Text:
    """`text` with its line breaks, tabs, odd spaces and control characters marked.

    Of more than `most` characters the first are shown and the rest are counted.
    """
    out = Text()
    left = len(text) - most
    lines = text[:most].split("\n")
    for number, line in enumerate(lines):
        stripped = line.rstrip(_PLAIN_SPACE)
        for character in stripped:
            _append(out, character)
        out.append("·" * (len(line) - len(stripped)), _MARK)
        if number < len(lines) - 1:
            out.append("⏎\n", _MARK)
    if left > 0:
        out.append(f" ... and {left:,} characters more", _MARK)
    if not text:
        out.append("(empty)", "bold red")
    return out


def _append(out: Text, character: str) -> None:
    if character == "\t":
        out.append("→\t", _MARK)
    elif character == _PLAIN_SPACE or character.isprintable():
        out.append(character)
    else:
        out.append(character.encode("unicode_escape").decode("ascii"), _MARK)


def _facts(spec: TaskSpec, example: Rendered, vocabulary: Vocabulary | None) -> str:
    facts = [f"template {example.template} of {len(spec.templates)}"]
    if vocabulary is not None:
        inputs = vocabulary.count(example.inputs) + 1
        targets = vocabulary.count(example.targets) + 1
        facts.append(f"{inputs:,} + {targets:,} tokens")
    return ", ".join(facts)
