"""Lists of words: pick one, keep or drop a kind, count, put in another order, say whether a kind is there.

Most tasks here are cells of a grid, what to do times what kind of word to do it with. A cell that is held out shares
its row and its column with cells that are trained on.
"""

from collections.abc import Callable, Sequence
from functools import partial

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.exercise import Exercise
from flanx.tasks.playground_parts.phrasing import (
    ASK_OF_TEXT,
    DO_WITH_TEXT,
    NAME_IN_TEXT,
    phrased,
)
from flanx.tasks.playground_parts.rows import Row, between, some
from flanx.tasks.playground_parts.words import KIND_OF, KINDS, THINGS, a, plural_kind

YES_NO = ("yes", "no")

Change = Callable[[Sequence[str]], Sequence[str]]


def _first(words: Sequence[str]) -> Sequence[str]:
    return words[:1]


def _second(words: Sequence[str]) -> Sequence[str]:
    return words[1:2]


def _last(words: Sequence[str]) -> Sequence[str]:
    return words[-1:]


def _reverse(words: Sequence[str]) -> Sequence[str]:
    return words[::-1]


def _without_first(words: Sequence[str]) -> Sequence[str]:
    return words[1:]


def _without_last(words: Sequence[str]) -> Sequence[str]:
    return words[:-1]


def _swap_ends(words: Sequence[str]) -> Sequence[str]:
    return [words[-1], *words[1:-1], words[0]]


def _first_to_end(words: Sequence[str]) -> Sequence[str]:
    return [*words[1:], words[0]]


def _twice(words: Sequence[str]) -> Sequence[str]:
    return [*words, *words]


def _all(words: Sequence[str]) -> Sequence[str]:
    return words


# What a place in the list is called, and how to get there.
PLACES: dict[str, tuple[tuple[str, ...], Change]] = {
    "first": (("the first {noun}", "the {noun} that comes first"), _first),
    "second": (("the second {noun}", "the {noun} that comes second"), _second),
    "last": (("the last {noun}", "the {noun} that comes last"), _last),
}
CHANGES: dict[str, tuple[tuple[str, ...], Change, tuple[int, int]]] = {
    "reverse": (("write {them} in reverse order", "write {them} backwards"), _reverse, (3, 5)),
    "sort": (("sort {them} by the alphabet", "put {them} in alphabetical order"), sorted, (3, 4)),
}
WHOLE_CHANGES: dict[str, tuple[tuple[str, ...], Change, tuple[int, int]]] = {
    "drop_first": (("drop the first word", "leave out the first word"), _without_first, (3, 6)),
    "drop_last": (("drop the last word", "leave out the last word"), _without_last, (3, 6)),
    "swap_ends": (("swap the first and the last word",), _swap_ends, (3, 5)),
    "first_to_end": (("move the first word to the end",), _first_to_end, (3, 5)),
    "twice": (("write all the words twice", "repeat all the words"), _twice, (2, 3)),
    "copy": (("write all the words again", "copy all the words"), _all, (3, 6)),
}

# The grid: for each operation, the kinds trained on and the kinds held out.
GRID: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "first": (("animal", "fruit", "tool", "vehicle", "garment"), ("colour",)),
    "second": (("animal", "colour", "vehicle", "garment"), ("tool",)),
    "last": (("fruit", "colour", "tool", "vehicle"), ("animal",)),
    "first_not": (("animal", "fruit", "tool", "vehicle"), ()),
    "last_not": (("animal", "fruit", "colour"), ("vehicle",)),
    "keep": (("animal", "fruit", "tool", "vehicle", "garment"), ("colour",)),
    "drop": (("animal", "colour", "tool", "vehicle", "garment"), ("fruit",)),
    "count": (("animal", "colour", "tool", "fruit", "garment"), ("vehicle",)),
    "any": (("animal", "fruit", "colour", "vehicle", "garment"), ("tool",)),
    "reverse": (("fruit", "colour", "vehicle", "tool"), ("animal",)),
    "sort": (("animal", "tool", "fruit"), ("vehicle",)),
}


def mixed_list(draws: Draws, kind: str, few: int, many: int, others: tuple[int, int]) -> list[str]:
    """A list that holds `few` to `many` words of the kind, and between `others` that are not, in random order."""
    of_kind = some(draws, KINDS[kind], between(draws, few, many))
    rest = [word for word in THINGS if KIND_OF[word] != kind]
    return draws.shuffled([*of_kind, *some(draws, rest, between(draws, *others))])


def of_kind(words: Sequence[str], kind: str) -> list[str]:
    """The words of the kind, in their order."""
    return [word for word in words if KIND_OF[word] == kind]


def _row(words: Sequence[str], answer: str, **more: object) -> Row:
    text = " ".join(words)
    return {"text": text, "answer": answer, "key": text, **more}


def _place_row(draws: Draws, change: Change, kind: str | None, least: int) -> Row:
    if kind is None:
        words = some(draws, THINGS, between(draws, 3, 6))
        return _row(words, change(words)[0])
    words = mixed_list(draws, kind, least, 3, (2, 3))
    return _row(words, change(of_kind(words, kind))[0])


def _change_row(draws: Draws, change: Change, kind: str | None, lengths: tuple[int, int]) -> Row:
    if kind is None:
        words = some(draws, THINGS, between(draws, *lengths))
        return _row(words, " ".join(change(words)))
    words = mixed_list(draws, kind, 2, 3, (1, 3))
    return _row(words, " ".join(change(of_kind(words, kind))))


def _keep_row(draws: Draws, kind: str) -> Row:
    words = mixed_list(draws, kind, 1, 3, (2, 3))
    return _row(words, " ".join(of_kind(words, kind)))


def _drop_row(draws: Draws, kind: str) -> Row:
    words = mixed_list(draws, kind, 1, 2, (2, 3))
    return _row(words, " ".join(word for word in words if KIND_OF[word] != kind))


def _not_row(draws: Draws, change: Change, kind: str) -> Row:
    words = mixed_list(draws, kind, 2, 3, (2, 3))
    others = [word for word in words if KIND_OF[word] != kind]
    return _row(words, change(others)[0])


def _count_row(draws: Draws, kind: str | None) -> Row:
    if kind is None:
        words = some(draws, THINGS, between(draws, 2, 7))
        return _row(words, str(len(words)))
    words = mixed_list(draws, kind, 0, 4, (1, 2))
    return _row(words, str(len(of_kind(words, kind))))


def _any_row(draws: Draws, kind: str) -> Row:
    there = draws.integer(2)
    words = mixed_list(draws, kind, there, there, (3, 4))
    return _row(words, YES_NO[1 - there], options=YES_NO)


def _cells() -> list[Exercise]:
    made = []
    for operation, (trained, held_out) in GRID.items():
        for kind in (*trained, *held_out):
            held = kind in held_out
            made.append(_cell(operation, kind, held))
    return made


def _cell(operation: str, kind: str, held: bool) -> Exercise:
    kinds = plural_kind(kind)
    if operation in PLACES:
        nouns, change = PLACES[operation]
        make = partial(_place_row, change=change, kind=kind, least=2)
        prompts = phrased(NAME_IN_TEXT, *(noun.format(noun=kind) for noun in nouns))
        return Exercise(f"{operation}_{kind}", "picking", make, prompts, held_out=held)
    if operation in CHANGES:
        wordings, change, lengths = CHANGES[operation]
        make = partial(_change_row, change=change, kind=kind, lengths=lengths)
        prompts = phrased(DO_WITH_TEXT, *(w.format(them=f"the {kinds}") for w in wordings))
        return Exercise(f"{operation}_{kinds}", "reordering", make, prompts, held_out=held)
    if operation.endswith("_not"):
        place = operation.removesuffix("_not")
        make = partial(_not_row, change=PLACES[place][1], kind=kind)
        nouns = (f"the {place} word that is not {a(kind)}", f"the {place} of all but the {kinds}")
        prompts = phrased(NAME_IN_TEXT, *nouns)
        return Exercise(f"{operation}_{kind}", "picking", make, prompts, held_out=held)
    if operation == "keep":
        prompts = phrased(DO_WITH_TEXT, f"keep only the {kinds}", f"copy all the {kinds}")
        return Exercise(
            f"keep_{kinds}", "filtering", partial(_keep_row, kind=kind), prompts, held_out=held
        )
    if operation == "drop":
        prompts = phrased(DO_WITH_TEXT, f"drop the {kinds}", f"leave out all the {kinds}")
        return Exercise(
            f"drop_{kinds}", "filtering", partial(_drop_row, kind=kind), prompts, held_out=held
        )
    if operation == "count":
        prompts = phrased(
            ASK_OF_TEXT, f"how many {kinds} are there", f"how many of these words are {kinds}"
        )
        return Exercise(
            f"count_{kinds}", "counting", partial(_count_row, kind=kind), prompts, held_out=held
        )
    prompts = phrased(ASK_OF_TEXT, f"is there {a(kind)} here", f"is one of these words {a(kind)}")
    return Exercise(f"any_{kind}", "checking", partial(_any_row, kind=kind), prompts, held_out=held)


def _whole_lists() -> list[Exercise]:
    made = [
        Exercise(
            f"{place}_word",
            "picking",
            partial(_place_row, change=change, kind=None, least=1),
            phrased(NAME_IN_TEXT, *(noun.format(noun="word") for noun in nouns)),
        )
        for place, (nouns, change) in PLACES.items()
    ]
    whole = {
        name: (tuple(w.format(them="the words") for w in wordings), change, lengths)
        for name, (wordings, change, lengths) in CHANGES.items()
    }
    for name, (wordings, change, lengths) in {**whole, **WHOLE_CHANGES}.items():
        make = partial(_change_row, change=change, kind=None, lengths=lengths)
        made.append(Exercise(f"{name}_words", "reordering", make, phrased(DO_WITH_TEXT, *wordings)))
    count = phrased(ASK_OF_TEXT, "how many words are there", "how many words do you see here")
    made.append(Exercise("count_words", "counting", partial(_count_row, kind=None), count))
    return made


EXERCISES = (*_whole_lists(), *_cells())
