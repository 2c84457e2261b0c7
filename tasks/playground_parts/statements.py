"""Statements about the playground's world: one sentence, in which one span, in [[brackets]], follows from the rest.

"fox plum red read backwards is [[red plum fox]]". Nothing here speaks of a task that is held out: of the grids of
`lists` and `word_forms` only cells that are trained on are spoken of.
"""

from collections.abc import Callable, Sequence

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts import lists, stories, word_forms
from flanx.tasks.playground_parts.numbers import MOST_TERM
from flanx.tasks.playground_parts.rows import between, some
from flanx.tasks.playground_parts.words import (
    BAD,
    COUNTRIES,
    DAYS,
    GOOD,
    KIND_OF,
    KINDS,
    LARGEST_NUMBER,
    MONTHS,
    NAMES,
    NUMBER_WORDS,
    OPPOSITES,
    ORDERS,
    PAST,
    PLURALS,
    REVIEWED,
    ROOMS,
    SOUNDS,
    THINGS,
    YOUNG,
    a,
    plural_kind,
)

# What is spoken of the tasks' grids: for each operation, the kinds it is done with, none of them held out.
SPOKEN = {
    "first": ("animal", "fruit", "tool", "vehicle"),
    "second": ("animal", "colour", "vehicle"),
    "last": ("fruit", "colour", "tool", "vehicle"),
    "keep": ("animal", "fruit", "tool", "vehicle"),
    "drop": ("animal", "colour", "tool", "vehicle"),
    "count": ("animal", "colour", "tool", "fruit"),
    "any": ("animal", "fruit", "colour", "vehicle"),
    "reverse": ("fruit", "colour", "vehicle"),
    "sort": ("animal", "tool"),
}
SUPERLATIVES = ("tallest", "shortest", "oldest", "fastest", "slowest", "richest")

_OTHER_WORDS = (NAMES, tuple(OPPOSITES), tuple(PAST), tuple(COUNTRIES), NUMBER_WORDS)


def some_words(draws: Draws, low: int, high: int) -> list[str]:
    """A list of things, or now and then of names, verbs, countries or the like."""
    pool = THINGS if draws.integer(4) else draws.choice(_OTHER_WORDS)
    return some(draws, pool, between(draws, low, high))


def _say(draws: Draws, *sentences: str) -> str:
    return draws.choice(sentences)


def _join(words: Sequence[object]) -> str:
    return " ".join(map(str, words))


def place(draws: Draws) -> str:
    words = some_words(draws, 3, 6)
    row = _join(words)
    return _say(
        draws,
        f"the row {row} begins with [[{words[0]}]]",
        f"first in {row} comes [[{words[0]}]]",
        f"[[{words[0]}]] is the first word of {row}",
        f"second in {row} comes [[{words[1]}]]",
        f"[[{words[1]}]] is the second word of {row}",
        f"the row {row} ends with [[{words[-1]}]]",
        f"last in {row} comes [[{words[-1]}]]",
        f"[[{words[-1]}]] is the last word of {row}",
    )


def place_of_kind(draws: Draws) -> str:
    name = draws.choice(tuple(lists.PLACES))
    kind = draws.choice(SPOKEN[name])
    words = lists.mixed_list(draws, kind, 2, 3, (2, 3))
    (found,) = lists.PLACES[name][1](lists.of_kind(words, kind))
    row = _join(words)
    return _say(
        draws,
        f"in the row {row} the {name} {kind} is [[{found}]]",
        f"of the {plural_kind(kind)} in {row} the {name} is [[{found}]]",
        f"[[{found}]] is the {name} {kind} of {row}",
    )


def kept(draws: Draws) -> str:
    kind = draws.choice(SPOKEN["keep"])
    words = lists.mixed_list(draws, kind, 1, 3, (2, 3))
    kinds, row, found = plural_kind(kind), _join(words), _join(lists.of_kind(words, kind))
    return _say(
        draws,
        f"the {kinds} in {row} are [[{found}]]",
        f"of the row {row} only [[{found}]] are {kinds}",
        f"among {row} the {kinds} are [[{found}]]",
    )


def dropped(draws: Draws) -> str:
    kind = draws.choice(SPOKEN["drop"])
    words = lists.mixed_list(draws, kind, 1, 2, (2, 3))
    left = _join([word for word in words if KIND_OF[word] != kind])
    kinds, row = plural_kind(kind), _join(words)
    return _say(
        draws,
        f"without the {kinds} {row} is [[{left}]]",
        f"all but the {kinds} of {row} are [[{left}]]",
        f"with the {kinds} left out {row} is [[{left}]]",
    )


def counted(draws: Draws) -> str:
    if draws.integer(4) == 0:
        words = some_words(draws, 2, 7)
        n, row = len(words), _join(words)
        return _say(
            draws, f"the number of words in {row} is [[{n}]]", f"there are [[{n}]] words in {row}"
        )
    kind = draws.choice(SPOKEN["count"])
    words = lists.mixed_list(draws, kind, 0, 4, (1, 2))
    n, row, kinds = len(lists.of_kind(words, kind)), _join(words), plural_kind(kind)
    return _say(
        draws,
        f"the number of {kinds} in {row} is [[{n}]]",
        f"in {row} the number of {kinds} is [[{n}]]",
        f"there are [[{n}]] {kinds} in {row}",
    )


def there(draws: Draws) -> str:
    kind = draws.choice(SPOKEN["any"])
    n = draws.integer(2)
    row = _join(lists.mixed_list(draws, kind, n, n, (3, 4)))
    answer = lists.YES_NO[1 - n]
    return _say(
        draws,
        f"{a(kind)} in {row} is there , [[{answer}]]",
        f"[[{answer}]] , there is {a(kind)} in {row}",
    )


def reordered(draws: Draws) -> str:
    name = draws.choice(tuple(lists.CHANGES))
    _, change, lengths = lists.CHANGES[name]
    if draws.integer(3):
        words = (
            some_words(draws, *lengths)
            if name != "sort"
            else some(draws, THINGS, between(draws, *lengths))
        )
        what, found = _join(words), words
    else:
        kind = draws.choice(SPOKEN[name])
        words = lists.mixed_list(draws, kind, 2, 3, (1, 3))
        what, found = f"the {plural_kind(kind)} of {_join(words)}", lists.of_kind(words, kind)
    result = _join(change(found))
    if name == "reverse":
        return _say(
            draws,
            f"{what} read backwards is [[{result}]]",
            f"{what} in reverse order gives [[{result}]]",
            f"[[{result}]] is {what} backwards",
        )
    return _say(
        draws,
        f"{what} in alphabetical order is [[{result}]]",
        f"{what} sorted by the alphabet gives [[{result}]]",
        f"[[{result}]] is {what} in alphabetical order",
    )


def alphabet(draws: Draws) -> str:
    low, high = sorted(some(draws, THINGS, 2))
    if draws.integer(2):
        return _say(
            draws,
            f"in the alphabet {low} comes [[before]] {high}",
            f"of {high} and {low} the first in the alphabet is [[{low}]]",
            f"of {low} and {high} the first in the alphabet is [[{low}]]",
        )
    return f"in the alphabet {high} comes [[after]] {low}"


def changed(draws: Draws) -> str:
    name = draws.choice(tuple(lists.WHOLE_CHANGES))
    _, change, lengths = lists.WHOLE_CHANGES[name]
    words = some_words(draws, *lengths)
    row, result = _join(words), _join(change(words))
    said = {
        "drop_first": (f"{row} without the first word is", f"after the first word of {row} come"),
        "drop_last": (f"{row} without the last word is", f"before the last word of {row} come"),
        "swap_ends": (f"{row} with the first and the last word swapped is",),
        "first_to_end": (f"{row} with the first word moved to the end is",),
        "twice": (f"{row} written twice is", f"{row} repeated is"),
        "copy": (f"the words {row} again are", f"a copy of {row} is"),
    }[name]
    return f"{_say(draws, *said)} [[{result}]]"


def edited(draws: Draws) -> str:
    *words, new = some_words(draws, 3, 5)
    row, i = _join(words), draws.integer(len(words))
    return draws.choice(
        (
            f"{row} with {words[i]} replaced by {new} is [[{_join([*words[:i], new, *words[i + 1 :]])}]]",
            f"{row} with {new} in place of {words[i]} is [[{_join([*words[:i], new, *words[i + 1 :]])}]]",
            f"{row} with {new} at the end is [[{row} {new}]]",
            f"{row} with {new} at the start is [[{new} {row}]]",
            f"{row} without {words[i]} is [[{_join([*words[:i], *words[i + 1 :]])}]]",
        )
    )


def neighbours(draws: Draws) -> str:
    words = some_words(draws, 3, 6)
    i, row = draws.integer(len(words) - 1), _join(words)
    left, right = words[i], words[i + 1]
    return _say(
        draws,
        f"in {row} after {left} comes [[{right}]]",
        f"[[{right}]] comes after {left} in {row}",
        f"in {row} before {right} comes [[{left}]]",
        f"[[{left}]] comes before {right} in {row}",
    )


def forms(draws: Draws) -> str:
    word = draws.choice(tuple(PLURALS))
    many = PLURALS[word]
    left = draws.choice(tuple(OPPOSITES))
    verb = draws.choice(tuple(PAST))
    past = PAST[verb]
    return _say(
        draws,
        f"one {word} and two [[{many}]]",
        f"the plural of {word} is [[{many}]]",
        f"many {many} but one [[{word}]]",
        f"not {left} but [[{OPPOSITES[left]}]]",
        f"the opposite of {left} is [[{OPPOSITES[left]}]]",
        f"{left} things are never [[{OPPOSITES[left]}]]",
        f"today they {verb} , in the past they [[{past}]]",
        f"the past tense of {verb} is [[{past}]]",
        f"in the past they {past} , today they [[{verb}]]",
        f"the word {word} begins with the letter [[{word[0]}]]",
        f"the first letter of {word} is [[{word[0]}]]",
    )


def form_by_place(draws: Draws) -> str:
    form = draws.choice(tuple(word_forms.GRID))
    where = draws.choice(word_forms.GRID[form][0])
    facts, phrase = word_forms.FORMS[form]
    words = some(draws, tuple(facts), between(draws, 2, 4))
    result, row = facts[words[word_forms.PLACES[where]]], _join(words)
    return _say(
        draws,
        f"in the row {row} {phrase} the {where} word is [[{result}]]",
        f"[[{result}]] is {phrase} the {where} word of {row}",
    )


def facts(draws: Draws) -> str:
    country = draws.choice(tuple(COUNTRIES))
    capital, continent = COUNTRIES[country]
    parent, talker = draws.choice(tuple(YOUNG)), draws.choice(tuple(SOUNDS))
    return _say(
        draws,
        f"the capital of {country} is [[{capital}]]",
        f"{capital} is the capital city of [[{country}]]",
        f"{country} is in [[{continent}]]",
        f"the continent of {country} is [[{continent}]]",
        f"the young of the {parent} is the [[{YOUNG[parent]}]]",
        f"the {YOUNG[parent]} is a young [[{parent}]]",
        f"the sound of the {talker} is that it [[{SOUNDS[talker]}]]",
        f"the animal that {SOUNDS[talker]} is the [[{talker}]]",
    )


def kinds(draws: Draws) -> str:
    word = draws.choice(THINGS)
    kind = KIND_OF[word]
    other = draws.choice([name for name in KINDS if name != kind])
    alike = _join(some(draws, KINDS[kind], between(draws, 2, 4)))
    odd = draws.choice(KINDS[other])
    group = some(draws, KINDS[kind], between(draws, 2, 3))
    left, right = some(draws, KINDS[kind], 2)
    asked = draws.choice((kind, other))
    answer = lists.YES_NO[asked != kind]
    return _say(
        draws,
        f"the {word} is of the kind [[{kind}]]",
        f"the {word} is one of the [[{plural_kind(kind)}]]",
        f"all of {alike} are [[{plural_kind(kind)}]]",
        f"in {_join(draws.shuffled([odd, *group]))} the odd one is [[{odd}]]",
        f"[[{odd}]] does not belong in {_join(draws.shuffled([odd, *group]))}",
        f"[[{answer}]] , the {word} is {a(asked)}",
        f"the {word} as {a(asked)} , [[{answer}]]",
        f"{left} and {right} are of one kind , [[yes]]",
        f"{left} and {odd} are of one kind , [[no]]",
    )


def arithmetic(draws: Draws) -> str:
    x, y, z = draws.integer(MOST_TERM + 1), draws.integer(MOST_TERM + 1), draws.integer(7)
    return _say(
        draws,
        f"{x} plus {y} is [[{x + y}]]",
        f"the sum of {x} and {y} is [[{x + y}]]",
        f"{x + y} minus {y} is [[{x}]]",
        f"the difference of {x + y} and {y} is [[{x}]]",
        f"{x} plus {y} is {x + y} . {x + y} plus {z} is [[{x + y + z}]]",
    )


def number_order(draws: Draws) -> str:
    numbers = draws.sample(LARGEST_NUMBER + 1, between(draws, 2, 4))
    x, y = numbers[:2]
    step, start = between(draws, 1, 3), draws.integer(40)
    run = [start + i * step for i in range(5)]
    n = draws.integer(LARGEST_NUMBER + 1)
    word = draws.integer(len(NUMBER_WORDS))
    row = _join(numbers)
    return _say(
        draws,
        f"{x} is [[{'more' if x > y else 'less'}]] than {y}",
        f"[[{lists.YES_NO[x < y]}]] , {x} is more than {y}",
        f"[[{lists.YES_NO[x > y]}]] , {x} is less than {y}",
        f"the largest number of {row} is [[{max(numbers)}]]",
        f"[[{max(numbers)}]] is the largest of {row}",
        f"{row} from small to large is [[{_join(sorted(numbers))}]]",
        f"{row} from large to small is [[{_join(sorted(numbers, reverse=True))}]]",
        f"after {_join(run[:4])} comes the number [[{run[4]}]]",
        f"{_join(run)} and so on , next is [[{run[4] + step}]]",
        f"{n} is [[{'odd' if n % 2 else 'even'}]]",
        f"{word} in words is [[{NUMBER_WORDS[word]}]]",
        f"{NUMBER_WORDS[word]} in figures is [[{word}]]",
    )


def dates(draws: Draws) -> str:
    names, unit = draws.choice(((DAYS, "day"), (MONTHS, "month")))
    i = draws.integer(len(names))
    following = names[(i + 1) % len(names)]
    return _say(
        draws,
        f"after the {unit} {names[i]} comes [[{following}]]",
        f"{names[i]} and then [[{following}]]",
        f"before the {unit} {following} comes [[{names[i]}]]",
        f"[[{names[i]}]] comes just before {following}",
    )


def people(draws: Draws) -> str:
    comparative = draws.choice(tuple(ORDERS))
    most, opposite, least = ORDERS[comparative]
    ordered, text = stories.order_of(draws, comparative)
    ends = {most: ordered[0], least: ordered[-1]}
    told = [f"{text} so the {name} is [[{ends[name]}]]" for name in ends if name in SUPERLATIVES]
    x, y = ordered[:2]
    return _say(
        draws,
        *told,
        *told,
        f"{x} is {comparative} than {y} and {y} is [[{opposite}]] than {x}",
        f"{x} is {opposite} than {y} so {y} is [[{comparative}]] than {x}",
    )


def belongings(draws: Draws) -> str:
    n = between(draws, 2, 3)
    who, things, rooms = (
        some(draws, NAMES, n),
        some(draws, stories.OBJECTS, n),
        some(draws, ROOMS, n),
    )
    i = draws.integer(n)
    if draws.integer(3):
        text = _join([f"{p} has the {t}." for p, t in zip(who, things, strict=True)])
        return _say(
            draws,
            f"{text} so the {things[i]} belongs to [[{who[i]}]]",
            f"{text} so {who[i]} holds the [[{things[i]}]]",
        )
    text = _join([f"{p} is in the {r}." for p, r in zip(who, rooms, strict=True)])
    if draws.integer(2):
        return f"{text} so {who[i]} can be found in the [[{rooms[i]}]]"
    return f"{text} {who[i]} has the {things[i]}. so the {things[i]} is in the [[{rooms[i]}]]"


def reviews(draws: Draws) -> str:
    good = draws.integer(2) == 0
    first, second = some(draws, GOOD if good else BAD, 2)
    word = "good" if good else "bad"
    return f"the {draws.choice(REVIEWED)} was {first} and {second} , it was [[{word}]]"


# How often each kind of statement is made: what is hard to learn is said more often.
STATEMENTS: dict[Callable[[Draws], str], int] = {
    place: 8,
    place_of_kind: 10,
    kept: 7,
    dropped: 7,
    counted: 6,
    there: 4,
    reordered: 10,
    alphabet: 5,
    changed: 8,
    edited: 6,
    neighbours: 5,
    forms: 5,
    form_by_place: 6,
    facts: 4,
    kinds: 8,
    arithmetic: 7,
    number_order: 9,
    dates: 2,
    people: 5,
    belongings: 5,
    reviews: 1,
}
_WEIGHTED = tuple(make for make, weight in STATEMENTS.items() for _ in range(weight))


def statement(draws: Draws) -> str:
    """One sentence about the world, with one span in [[brackets]]."""
    return draws.choice(_WEIGHTED)(draws)
