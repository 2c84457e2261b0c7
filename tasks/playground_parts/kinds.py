"""Kinds of words: name the kind, is it one, which one does not belong, are these two alike, is this praise."""

from functools import partial

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.exercise import Exercise
from flanx.tasks.playground_parts.phrasing import ASK, ASK_OF_TEXT, NAME_IN_TEXT, phrased
from flanx.tasks.playground_parts.rows import Row, between, choices, some
from flanx.tasks.playground_parts.words import BAD, GOOD, KIND_OF, KINDS, REVIEWED, THINGS, a

YES_NO = ("yes", "no")
# Kinds asked about with yes or no: trained, and held out.
IS_A = (("animal", "colour", "vehicle", "garment", "tool"), ("fruit",))


def _kind_row(draws: Draws) -> Row:
    word = draws.choice(THINGS)
    kind = KIND_OF[word]
    return {
        "word": word,
        "answer": kind,
        "options": choices(draws, kind, tuple(KINDS)),
        "key": word,
    }


def _is_a_row(draws: Draws, kind: str) -> Row:
    yes = draws.integer(2) == 0
    pool = KINDS[kind] if yes else [word for word in THINGS if KIND_OF[word] != kind]
    word = draws.choice(pool)
    return {"word": word, "answer": YES_NO[not yes], "options": YES_NO, "key": word}


def _odd_row(draws: Draws) -> Row:
    common, other = some(draws, tuple(KINDS), 2)
    odd = draws.choice(KINDS[other])
    words = draws.shuffled([odd, *some(draws, KINDS[common], between(draws, 2, 3))])
    text = " ".join(words)
    return {"text": text, "answer": odd, "key": text}


def _alike_row(draws: Draws) -> Row:
    alike = draws.integer(2) == 0
    if alike:
        left, right = some(draws, KINDS[draws.choice(tuple(KINDS))], 2)
    else:
        left, right = (draws.choice(KINDS[kind]) for kind in some(draws, tuple(KINDS), 2))
    return {
        "left": left,
        "right": right,
        "answer": YES_NO[not alike],
        "options": YES_NO,
        "key": f"{left} {right}",
    }


def _common_row(draws: Draws) -> Row:
    kind = draws.choice(tuple(KINDS))
    text = " ".join(some(draws, KINDS[kind], between(draws, 2, 4)))
    return {
        "text": text,
        "answer": kind,
        "options": choices(draws, kind, tuple(KINDS)),
        "key": text,
    }


def _mood_row(draws: Draws) -> Row:
    good = draws.integer(2) == 0
    first, second = some(draws, GOOD if good else BAD, 2)
    text = f"The {draws.choice(REVIEWED)} was {first} and {second}."
    answer = "good" if good else "bad"
    return {"text": text, "answer": answer, "options": ("good", "bad"), "key": text}


def _is_a(kind: str) -> Exercise:
    wordings = (f"is {{word}} {a(kind)}", f"would you call {{word}} {a(kind)}")
    make = partial(_is_a_row, kind=kind)
    return Exercise(
        f"is_{kind}",
        "kinds",
        make,
        phrased(ASK, *wordings),
        held_out=kind in IS_A[1],
        rows=(24, 30 if kind in IS_A[1] else 6),
        weight=0.5,
    )


EXERCISES = (
    Exercise(
        "kind",
        "kinds",
        _kind_row,
        phrased(ASK, "what kind of thing is {word}", "which kind of word is {word}"),
        rows=(85, 13),
    ),
    *(_is_a(kind) for group in IS_A for kind in group),
    Exercise(
        "odd_one_out",
        "kinds",
        _odd_row,
        phrased(NAME_IN_TEXT, "the odd one out", "the word that does not belong"),
    ),
    Exercise(
        "alike",
        "kinds",
        _alike_row,
        phrased(
            ASK,
            "are {left} and {right} the same kind of thing",
            "are {left} and {right} of one kind",
        ),
    ),
    Exercise(
        "common_kind",
        "kinds",
        _common_row,
        phrased(ASK_OF_TEXT, "what kind of thing are all these", "which kind of word is this"),
    ),
    Exercise(
        "mood",
        "reviews",
        _mood_row,
        phrased(ASK_OF_TEXT, "is this good or bad", "was it good or bad"),
        rows=(700, 100),
    ),
)
