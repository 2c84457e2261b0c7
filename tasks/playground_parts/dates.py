"""Days, months, letters and numbers: what comes after, what comes before."""

from collections.abc import Sequence
from functools import partial

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.exercise import Exercise
from flanx.tasks.playground_parts.phrasing import ASK_OF_TEXT, phrased
from flanx.tasks.playground_parts.rows import Row, choices
from flanx.tasks.playground_parts.words import DAYS, LETTERS, MONTHS, NAMES

_NUMBERS = tuple(map(str, range(1, 41)))
_SAID = {
    "day": "{name} will come on {word}.",
    "month": "{name} will come in {word}.",
    "letter": "{name} has the letter {word}.",
    "number": "{name} has the number {word}.",
}


def _calendar_row(draws: Draws, names: Sequence[str], unit: str, move: int) -> Row:
    i = draws.integer(len(names))
    text = _SAID[unit].format(name=draws.choice(NAMES), word=names[i])
    answer = names[(i + move) % len(names)]
    return {"text": text, "answer": answer, "options": choices(draws, answer, names), "key": text}


def _calendar(
    unit: str,
    names: Sequence[str],
    word: str,
    move: int,
    rows: tuple[int, int],
    held: bool = False,
) -> Exercise:
    prompts = phrased(
        ASK_OF_TEXT, f"what is the {unit} {word} that", f"which {unit} is the {unit} {word} that"
    )
    make = partial(_calendar_row, names=names, unit=unit, move=move)
    return Exercise(f"{unit}_{word}", "dates", make, prompts, held_out=held, rows=rows)


EXERCISES = (
    _calendar("day", DAYS, "after", 1, (109, 31)),
    _calendar("day", DAYS, "before", -1, (106, 34)),
    _calendar("month", MONTHS, "after", 1, (194, 46)),
    _calendar("month", MONTHS, "before", -1, (0, 100), held=True),
    _calendar("letter", LETTERS, "after", 1, (400, 60)),
    _calendar("letter", LETTERS, "before", -1, (400, 60)),
    _calendar("number", _NUMBERS, "after", 1, (400, 60)),
    _calendar("number", _NUMBERS, "before", -1, (400, 60)),
)
