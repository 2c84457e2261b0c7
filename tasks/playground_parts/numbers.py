"""Small numbers: add, subtract, compare, sort, write out; with the reasoning where there is some."""

from collections.abc import Callable, Sequence
from functools import partial

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.exercise import Exercise
from flanx.tasks.playground_parts.phrasing import (
    ASK,
    DO_WITH_TEXT,
    NAME,
    NAME_IN_TEXT,
    phrased,
)
from flanx.tasks.playground_parts.rows import Row, between, choices, some
from flanx.tasks.playground_parts.words import LARGEST_NUMBER, NUMBER_WORDS

YES_NO = ("yes", "no")
MOST_TERM = 12


def _add_row(draws: Draws) -> Row:
    a, b = draws.integer(MOST_TERM + 1), draws.integer(MOST_TERM + 1)
    return {"a": a, "b": b, "answer": str(a + b), "key": f"{a} {b}"}


def _subtract_row(draws: Draws) -> Row:
    a, b = draws.integer(MOST_TERM + 1), draws.integer(MOST_TERM + 1)
    return {"a": a + b, "b": b, "answer": str(a), "key": f"{a + b} {b}"}


def _add_three_row(draws: Draws) -> Row:
    a, b, c = (draws.integer(7) for _ in range(3))
    steps = f"{a} plus {b} is {a + b}. {a + b} plus {c} is {a + b + c}."
    return {
        "a": a,
        "b": b,
        "c": c,
        "answer": str(a + b + c),
        "rationale": steps,
        "key": f"{a} {b} {c}",
    }


def _sum_more_row(draws: Draws) -> Row:
    a, b = draws.integer(MOST_TERM), draws.integer(MOST_TERM)
    near = [n for n in range(max(0, a + b - 6), a + b + 7) if n != a + b]
    c = draws.choice(near)
    more = a + b > c
    steps = f"{a} plus {b} is {a + b}. {a + b} is {'more' if more else 'less'} than {c}."
    return {
        "a": a,
        "b": b,
        "c": c,
        "answer": YES_NO[not more],
        "rationale": steps,
        "options": YES_NO,
        "key": f"{a} {b} {c}",
    }


def _more_row(draws: Draws, less: bool) -> Row:
    a, b = draws.sample(LARGEST_NUMBER + 1, 2)
    return {"a": a, "b": b, "answer": YES_NO[(a < b) != less], "options": YES_NO, "key": f"{a} {b}"}


def _list_row(draws: Draws, change: Callable[[Sequence[int]], Sequence[int]], many: int) -> Row:
    numbers = draws.sample(LARGEST_NUMBER + 1, between(draws, 3, many))
    text = " ".join(map(str, numbers))
    return {"text": text, "answer": " ".join(map(str, change(numbers))), "key": text}


def _even_row(draws: Draws) -> Row:
    n = draws.integer(LARGEST_NUMBER + 1)
    kinds = ("even", "odd")
    return {"a": n, "answer": kinds[n % 2], "options": kinds, "key": str(n)}


def _written_row(draws: Draws, in_words: bool) -> Row:
    numbers = some(draws, range(len(NUMBER_WORDS)), between(draws, 1, 3))
    words = " ".join(NUMBER_WORDS[n] for n in numbers)
    figures = " ".join(map(str, numbers))
    text, answer = (figures, words) if in_words else (words, figures)
    return {"text": text, "answer": answer, "key": text}


def _next_row(draws: Draws) -> Row:
    start, step = draws.integer(40), between(draws, 1, 3)
    shown = [start + i * step for i in range(4)]
    text = " ".join(map(str, shown))
    answer = str(start + 4 * step)
    pool = [str(n) for n in range(start + 4, start + 20)]
    return {"text": text, "answer": answer, "options": choices(draws, answer, pool), "key": text}


def _largest(numbers: Sequence[int]) -> Sequence[int]:
    return [max(numbers)]


def _smallest(numbers: Sequence[int]) -> Sequence[int]:
    return [min(numbers)]


def _falling(numbers: Sequence[int]) -> Sequence[int]:
    return sorted(numbers, reverse=True)


def _first(numbers: Sequence[int]) -> Sequence[int]:
    return numbers[:1]


def _second(numbers: Sequence[int]) -> Sequence[int]:
    return numbers[1:2]


def _last(numbers: Sequence[int]) -> Sequence[int]:
    return numbers[-1:]


def _same(numbers: Sequence[int]) -> Sequence[int]:
    return numbers


def _reversed(numbers: Sequence[int]) -> Sequence[int]:
    return numbers[::-1]


ADD_THREE = Exercise(
    "add_three",
    "arithmetic",
    _add_three_row,
    phrased(NAME, "{a} plus {b} plus {c}", "the sum of {a} and {b} and {c}"),
    rows=(274, 69),
)
SUM_MORE = Exercise(
    "sum_more",
    "comparing numbers",
    _sum_more_row,
    phrased(ASK, "is {a} plus {b} more than {c}", "is the sum of {a} and {b} more than {c}"),
)


def _place(place: str, change: Callable[[Sequence[int]], Sequence[int]]) -> Exercise:
    wordings = (f"the {place} number", f"the number that comes {place}")
    make = partial(_list_row, change=change, many=5)
    return Exercise(f"{place}_number", "picking", make, phrased(NAME_IN_TEXT, *wordings))


EXERCISES = (
    _place("first", _first),
    _place("second", _second),
    _place("last", _last),
    Exercise(
        "copy_numbers",
        "reordering",
        partial(_list_row, change=_same, many=5),
        phrased(DO_WITH_TEXT, "write all the numbers again", "copy all the numbers"),
    ),
    ADD_THREE,
    ADD_THREE.explained("add_three_explained"),
    SUM_MORE,
    SUM_MORE.explained("sum_more_explained"),
    Exercise(
        "add",
        "arithmetic",
        _add_row,
        phrased(NAME, "{a} plus {b}", "the sum of {a} and {b}"),
        rows=(134, 35),
    ),
    Exercise(
        "subtract",
        "arithmetic",
        _subtract_row,
        phrased(NAME, "{a} minus {b}", "the difference of {a} and {b}"),
        rows=(126, 43),
    ),
    Exercise(
        "more",
        "comparing numbers",
        partial(_more_row, less=False),
        phrased(ASK, "is {a} more than {b}", "is {a} a larger number than {b}"),
    ),
    Exercise(
        "less",
        "comparing numbers",
        partial(_more_row, less=True),
        phrased(ASK, "is {a} less than {b}", "is {a} a smaller number than {b}"),
    ),
    Exercise(
        "largest",
        "comparing numbers",
        partial(_list_row, change=_largest, many=4),
        phrased(NAME_IN_TEXT, "the largest number", "the number that is more than all others"),
    ),
    Exercise(
        "smallest",
        "comparing numbers",
        partial(_list_row, change=_smallest, many=4),
        phrased(NAME_IN_TEXT, "the smallest number", "the number that is less than all others"),
        held_out=True,
    ),
    Exercise(
        "sort_numbers",
        "reordering",
        partial(_list_row, change=sorted, many=4),
        phrased(
            DO_WITH_TEXT, "sort the numbers from small to large", "put the smallest number first"
        ),
    ),
    Exercise(
        "sort_numbers_down",
        "reordering",
        partial(_list_row, change=_falling, many=4),
        phrased(
            DO_WITH_TEXT, "sort the numbers from large to small", "put the largest number first"
        ),
    ),
    Exercise(
        "reverse_numbers",
        "reordering",
        partial(_list_row, change=_reversed, many=5),
        phrased(DO_WITH_TEXT, "write the numbers in reverse order", "write the numbers backwards"),
        held_out=True,
    ),
    Exercise(
        "even",
        "arithmetic",
        _even_row,
        phrased(ASK, "is {a} even or odd", "is the number {a} odd or even"),
        rows=(47, 14),
    ),
    Exercise(
        "in_words",
        "word forms",
        partial(_written_row, in_words=True),
        phrased(DO_WITH_TEXT, "write the numbers in words", "spell out the numbers"),
    ),
    Exercise(
        "in_figures",
        "word forms",
        partial(_written_row, in_words=False),
        phrased(DO_WITH_TEXT, "write the numbers in figures", "turn the numbers into figures"),
    ),
    Exercise(
        "next",
        "arithmetic",
        _next_row,
        phrased(NAME_IN_TEXT, "the next number", "the number that comes next"),
        rows=(98, 22),
    ),
)
