"""Small edits of a list of words, each about a word that is named."""

from functools import partial

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.exercise import Exercise
from flanx.tasks.playground_parts.phrasing import DO_WITH_TEXT, NAME_IN_TEXT, phrased
from flanx.tasks.playground_parts.rows import Row, between, some
from flanx.tasks.playground_parts.words import THINGS


def _replace_row(draws: Draws) -> Row:
    words = some(draws, THINGS, between(draws, 3, 5))
    *words, new = words
    i = draws.integer(len(words))
    answer = [*words[:i], new, *words[i + 1 :]]
    text = " ".join(words)
    return {"text": text, "old": words[i], "new": new, "answer": " ".join(answer), "key": text}


def _append_row(draws: Draws) -> Row:
    *words, new = some(draws, THINGS, between(draws, 3, 5))
    text = " ".join(words)
    return {"text": text, "new": new, "answer": f"{text} {new}", "key": f"{text} {new}"}


def _prepend_row(draws: Draws) -> Row:
    return {**(row := _append_row(draws)), "answer": f"{row['new']} {row['text']}"}


def _remove_row(draws: Draws) -> Row:
    words = some(draws, THINGS, between(draws, 3, 5))
    old = draws.choice(words)
    text = " ".join(words)
    answer = " ".join(word for word in words if word != old)
    return {"text": text, "old": old, "answer": answer, "key": text}


def _after_row(draws: Draws, move: int) -> Row:
    words = some(draws, THINGS, between(draws, 3, 6))
    i = draws.integer(len(words) - 1) + (move < 0)
    text = " ".join(words)
    return {"text": text, "word": words[i], "answer": words[i + move], "key": text}


EXERCISES = (
    Exercise(
        "replace",
        "editing",
        _replace_row,
        phrased(DO_WITH_TEXT, "replace {old} by {new}", "write {new} in place of {old}"),
    ),
    Exercise(
        "append",
        "editing",
        _append_row,
        phrased(DO_WITH_TEXT, "add {new} at the end", "put {new} after the last word"),
    ),
    Exercise(
        "prepend",
        "editing",
        _prepend_row,
        phrased(DO_WITH_TEXT, "add {new} at the start", "put {new} before the first word"),
    ),
    Exercise(
        "remove",
        "editing",
        _remove_row,
        phrased(DO_WITH_TEXT, "drop the word {old}", "leave out the word {old}"),
    ),
    Exercise(
        "after_word",
        "picking",
        partial(_after_row, move=1),
        phrased(NAME_IN_TEXT, "the word that comes after {word}", "the word after {word}"),
    ),
    Exercise(
        "before_word",
        "picking",
        partial(_after_row, move=-1),
        phrased(NAME_IN_TEXT, "the word that comes before {word}", "the word before {word}"),
    ),
)
