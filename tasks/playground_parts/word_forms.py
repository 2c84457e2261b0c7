"""Words by themselves and by their place in a list: other forms, opposites, letters, facts about the world.

A second grid: what to say about a word, times which word of the list is meant.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.exercise import Exercise
from flanx.tasks.playground_parts.phrasing import ASK, DO_WITH_TEXT, NAME, NAME_IN_TEXT, phrased
from flanx.tasks.playground_parts.rows import Row, between, choices, some
from flanx.tasks.playground_parts.words import (
    ALL_OPPOSITES,
    CONTINENTS,
    COUNTRIES,
    OPPOSITES,
    PAST,
    PLURALS,
    SOUNDS,
    YOUNG,
)

CAPITALS = {country: capital for country, (capital, _) in COUNTRIES.items()}
CONTINENT_OF = {country: continent for country, (_, continent) in COUNTRIES.items()}
FIRST_LETTERS = {word: word[0] for word in PLURALS}

# What may be said about a word of a list: the words it is known for, and the noun phrase.
FORMS: dict[str, tuple[Mapping[str, str], str]] = {
    "plural": (PLURALS, "the plural of"),
    "opposite": (OPPOSITES, "the opposite of"),
    "past": (PAST, "the past tense of"),
    "letter": (FIRST_LETTERS, "the first letter of"),
    "capital": (CAPITALS, "the capital of"),
}
PLACES = {"first": 0, "second": 1, "last": -1}
# The grid: the places trained on and the places held out.
GRID: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plural": (("first", "last"), ()),
    "opposite": (("first", "second"), ("last",)),
    "past": (("second", "last"), ("first",)),
    "letter": (("first", "last"), ()),
    "capital": (("first", "last"), ()),
}


def _place_row(draws: Draws, facts: Mapping[str, str], place: str) -> Row:
    words = some(draws, tuple(facts), between(draws, 2, 4))
    text = " ".join(words)
    return {"text": text, "answer": facts[words[PLACES[place]]], "key": text}


def _opposites_row(draws: Draws) -> Row:
    pool = tuple(ALL_OPPOSITES)
    words = some(draws, pool[draws.integer(2) * len(OPPOSITES) :], between(draws, 1, 3))
    text = " ".join(words)
    return {"text": text, "answer": " ".join(ALL_OPPOSITES[word] for word in words), "key": text}


def _fact_row(draws: Draws, facts: Mapping[str, str], pool: Sequence[str]) -> Row:
    word = draws.choice(tuple(facts))
    answer = facts[word]
    return {"word": word, "answer": answer, "options": choices(draws, answer, pool), "key": word}


def _by_place() -> list[Exercise]:
    made = []
    for form, (trained, held_out) in GRID.items():
        facts, phrase = FORMS[form]
        for place in (*trained, *held_out):
            prompts = phrased(
                NAME_IN_TEXT, f"{phrase} the {place} word", f"{phrase} the word that comes {place}"
            )
            make = partial(_place_row, facts=facts, place=place)
            made.append(
                Exercise(
                    f"{form}_of_{place}",
                    "word forms in lists",
                    make,
                    prompts,
                    held_out=place in held_out,
                )
            )
    return made


def _fact(
    name: str,
    category: str,
    facts: Mapping[str, str],
    prompts: tuple[str, ...],
    rows: tuple[int, int],
    inverted: tuple[tuple[str, str], ...] = (),
    pool: Sequence[str] = (),
) -> Exercise:
    make = partial(_fact_row, facts=facts, pool=pool or tuple(facts.values()))
    return Exercise(name, category, make, prompts, inverted=inverted, rows=rows, weight=0.5)


def _back(noun_phrase: str) -> tuple[tuple[str, str], ...]:
    return tuple((text, "{word}") for text in phrased(ASK[:4], noun_phrase))


EXERCISES = (
    *_by_place(),
    Exercise(
        "opposite_of_all",
        "word forms in lists",
        _opposites_row,
        phrased(
            DO_WITH_TEXT,
            "write the opposite of all the words",
            "replace all the words by the opposite",
        ),
    ),
    _fact(
        "plural",
        "word forms",
        PLURALS,
        phrased(NAME, "the plural of {word}", "the word for more than one {word}"),
        (40, 11),
        _back("which word has the plural {answer}"),
    ),
    _fact(
        "opposite",
        "word forms",
        OPPOSITES,
        phrased(NAME, "the opposite of {word}", "the word that means the opposite of {word}"),
        (42, 6),
    ),
    _fact(
        "past",
        "word forms",
        PAST,
        phrased(NAME, "the past tense of {word}", "the past of the verb {word}"),
        (23, 7),
        _back("which verb has the past tense {answer}"),
    ),
    _fact(
        "letter",
        "word forms",
        FIRST_LETTERS,
        phrased(NAME, "the first letter of {word}", "the letter that comes first in {word}"),
        (40, 11),
    ),
    _fact(
        "capital",
        "world facts",
        CAPITALS,
        phrased(NAME, "the capital of {word}", "the capital city of {word}"),
        (19, 5),
        _back("which country has the capital {answer}"),
    ),
    _fact(
        "continent",
        "world facts",
        CONTINENT_OF,
        phrased(ASK, "which continent is {word} in", "where in the world is {word}"),
        (15, 9),
        pool=CONTINENTS,
    ),
    _fact(
        "young",
        "world facts",
        YOUNG,
        phrased(NAME, "the young of the {word}", "the name of a young {word}"),
        (8, 4),
        _back("which animal has a young called the {answer}"),
    ),
    _fact(
        "sound",
        "world facts",
        SOUNDS,
        phrased(ASK, "what does the {word} do", "what does the {word} do to be heard"),
        (11, 1),
        _back("which animal {answer}"),
    ),
)
