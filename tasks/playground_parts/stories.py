"""Short texts about people: who has what, where things are, who is tallest."""

from functools import partial

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.exercise import Exercise
from flanx.tasks.playground_parts.phrasing import ASK_OF_TEXT, phrased
from flanx.tasks.playground_parts.rows import Row, between, some
from flanx.tasks.playground_parts.words import (
    DAYS,
    KIND_OF,
    NAMES,
    ORDERS,
    ROOMS,
)

# Superlatives asked for: trained, and held out.
SUPERLATIVES = (
    ("tallest", "shortest", "oldest", "fastest", "slowest", "richest", "poorest"),
    ("youngest",),
)
# What people do to things.
DEEDS = ("bought", "sold", "found", "caught", "painted", "brought")


# What people may have.
OBJECTS = tuple(word for word, kind in KIND_OF.items() if kind != "colour")


def order_of(draws: Draws, comparative: str) -> tuple[list[str], str]:
    """Three people from the most to the least, and two sentences that say so."""
    top, middle, low = some(draws, NAMES, 3)
    opposite = ORDERS[comparative][1]
    pairs = [(top, middle), (middle, low)]
    said = [
        f"{more} is {comparative} than {less}."
        if draws.integer(2)
        else f"{less} is {opposite} than {more}."
        for more, less in draws.shuffled(pairs)
    ]
    return [top, middle, low], " ".join(said)


def _order_row(draws: Draws, superlative: str) -> Row:
    comparative, least = next(
        (word, superlative == names[2])
        for word, names in ORDERS.items()
        if superlative in (names[0], names[2])
    )
    people, text = order_of(draws, comparative)
    answer = people[-1] if least else people[0]
    return {"text": text, "answer": answer, "options": draws.shuffled(people), "key": text}


def _owners(draws: Draws) -> tuple[list[str], list[str], str]:
    n = between(draws, 2, 3)
    people, things = some(draws, NAMES, n), some(draws, OBJECTS, n)
    return (
        people,
        things,
        " ".join(f"{p} has the {t}." for p, t in zip(people, things, strict=True)),
    )


def _who_has_row(draws: Draws) -> Row:
    people, things, text = _owners(draws)
    i = draws.integer(len(people))
    return {"text": text, "thing": things[i], "answer": people[i], "options": people, "key": text}


def _what_has_row(draws: Draws) -> Row:
    people, things, text = _owners(draws)
    i = draws.integer(len(people))
    return {"text": text, "who": people[i], "answer": things[i], "options": things, "key": text}


def _deeds(draws: Draws) -> tuple[str, list[str], list[str], str]:
    n, deed = between(draws, 2, 3), draws.choice(DEEDS)
    people, things = some(draws, NAMES, n), some(draws, OBJECTS, n)
    said = [f"{p} {deed} the {t}." for p, t in zip(people, things, strict=True)]
    return deed, people, things, " ".join(said)


def _who_did_row(draws: Draws) -> Row:
    deed, people, things, text = _deeds(draws)
    i = draws.integer(len(people))
    row = {"text": text, "deed": deed, "thing": things[i], "answer": people[i]}
    return {**row, "options": people, "key": text}


def _what_did_row(draws: Draws) -> Row:
    deed, people, things, text = _deeds(draws)
    i = draws.integer(len(people))
    row = {"text": text, "deed": deed, "who": people[i], "answer": things[i]}
    return {**row, "options": things, "key": text}


def _comings(draws: Draws) -> tuple[list[str], list[str], str]:
    n = between(draws, 2, 3)
    people, days = some(draws, NAMES, n), some(draws, DAYS, n)
    return (
        people,
        days,
        " ".join(f"{p} will come on {d}." for p, d in zip(people, days, strict=True)),
    )


def _who_comes_row(draws: Draws) -> Row:
    people, days, text = _comings(draws)
    i = draws.integer(len(people))
    return {"text": text, "day": days[i], "answer": people[i], "options": people, "key": text}


def _when_comes_row(draws: Draws) -> Row:
    people, days, text = _comings(draws)
    i = draws.integer(len(people))
    return {"text": text, "who": people[i], "answer": days[i], "options": days, "key": text}


def _of_two_row(draws: Draws, comparative: str) -> Row:
    kind = next(k for k, names in ORDERS.items() if comparative in (k, names[1]))
    people, text = order_of(draws, kind)
    i, j = sorted(draws.sample(3, 2))
    answer = people[i] if comparative == kind else people[j]
    left, right = draws.shuffled([people[i], people[j]])
    key = f"{text} {left} {right}"
    return {"text": text, "left": left, "right": right, "answer": answer, "key": key}


def _of_two(comparative: str) -> Exercise:
    prompts = phrased(
        ASK_OF_TEXT,
        f"who is {comparative}, {{left}} or {{right}}",
        f"which of {{left}} and {{right}} is {comparative}",
    )
    return Exercise(comparative, "logic", partial(_of_two_row, comparative=comparative), prompts)


def _rooms(draws: Draws) -> tuple[list[str], list[str], str]:
    n = between(draws, 2, 3)
    people, rooms = some(draws, NAMES, n), some(draws, ROOMS, n)
    return (
        people,
        rooms,
        " ".join(f"{p} is in the {r}." for p, r in zip(people, rooms, strict=True)),
    )


def _where_row(draws: Draws) -> Row:
    people, rooms, text = _rooms(draws)
    i = draws.integer(len(people))
    return {"text": text, "who": people[i], "answer": rooms[i], "options": rooms, "key": text}


def _who_in_row(draws: Draws) -> Row:
    people, rooms, text = _rooms(draws)
    i = draws.integer(len(people))
    return {"text": text, "room": rooms[i], "answer": people[i], "options": people, "key": text}


def _where_thing_row(draws: Draws) -> Row:
    people = some(draws, NAMES, 2)
    things, rooms = some(draws, OBJECTS, 2), some(draws, ROOMS, 2)
    said = [f"{p} has the {t}." for p, t in zip(people, things, strict=True)]
    said += [f"{p} is in the {r}." for p, r in zip(people, rooms, strict=True)]
    i = draws.integer(2)
    text = " ".join(draws.shuffled(said))
    steps = f"{people[i]} has the {things[i]}. {people[i]} is in the {rooms[i]}."
    return {
        "text": text,
        "thing": things[i],
        "answer": rooms[i],
        "rationale": steps,
        "options": rooms,
        "key": text,
    }


def _superlative(word: str, held: bool) -> Exercise:
    prompts = phrased(ASK_OF_TEXT, f"who is the {word}", f"which of them is the {word}")
    return Exercise(word, "logic", partial(_order_row, superlative=word), prompts, held_out=held)


WHERE_IS_THING = Exercise(
    "where_is_thing",
    "reading",
    _where_thing_row,
    phrased(ASK_OF_TEXT, "where is the {thing}", "which room is the {thing} in"),
)

EXERCISES = (
    WHERE_IS_THING,
    WHERE_IS_THING.explained("where_is_thing_explained"),
    *(_superlative(word, held) for held in (False, True) for word in SUPERLATIVES[held]),
    Exercise(
        "who_has",
        "reading",
        _who_has_row,
        phrased(ASK_OF_TEXT, "who has the {thing}", "which of them has the {thing}"),
    ),
    Exercise(
        "what_has",
        "reading",
        _what_has_row,
        phrased(ASK_OF_TEXT, "what does {who} have", "which thing does {who} have"),
    ),
    Exercise(
        "where_is",
        "reading",
        _where_row,
        phrased(ASK_OF_TEXT, "where is {who}", "which room is {who} in"),
    ),
    *(_of_two(word) for kind, names in ORDERS.items() for word in (kind, names[1])),
    Exercise(
        "who_did",
        "reading",
        _who_did_row,
        phrased(ASK_OF_TEXT, "who {deed} the {thing}", "which of them {deed} the {thing}"),
    ),
    Exercise(
        "what_did",
        "reading",
        _what_did_row,
        phrased(ASK_OF_TEXT, "what is it that {who} {deed}", "which thing has {who} {deed}"),
    ),
    Exercise(
        "who_comes",
        "reading",
        _who_comes_row,
        phrased(ASK_OF_TEXT, "who will come on {day}", "which of them will come on {day}"),
    ),
    Exercise(
        "when_comes",
        "reading",
        _when_comes_row,
        phrased(
            ASK_OF_TEXT, "which day will {who} come on", "what is the day on which {who} will come"
        ),
    ),
    Exercise(
        "who_is_in",
        "reading",
        _who_in_row,
        phrased(ASK_OF_TEXT, "who is in the {room}", "which of them is in the {room}"),
        held_out=True,
    ),
)
