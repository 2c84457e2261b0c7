"""Plain text about the playground's world: what a base model reads before it is ever told what to do.

Statements (`statements`) with spans to fill in, and cut in two to be continued. There are no instructions and no
questions here, and nothing of the tasks that are held out.
"""

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts import lists
from flanx.tasks.playground_parts.rows import between, some
from flanx.tasks.playground_parts.statements import SPOKEN, some_words, statement
from flanx.tasks.playground_parts.words import KIND_OF, KINDS, plural_kind


def described(draws: Draws) -> tuple[str, str]:
    """A list and two or three things that are true of it, each masked by a sentinel of its own."""
    kind = draws.choice(tuple(KINDS))
    words = (
        lists.mixed_list(draws, kind, 1, 3, (1, 3)) if draws.integer(3) else some_words(draws, 3, 6)
    )
    found = [word for word in words if KIND_OF.get(word) == kind]
    kinds, n = plural_kind(kind), len(words)
    i = draws.integer(n - 1) if n > 1 else 0
    true = [
        ("the first is", words[:1]),
        ("the second is", words[1:2]),
        ("the last is", words[-1:]),
        ("again", words),
        ("backwards", words[::-1]),
        ("without the first", words[1:]),
        ("without the last", words[:-1]),
        (f"after {words[i]} comes", words[i + 1 : i + 2]),
        (f"before {words[-1 - i]} comes", words[n - 2 - i : n - 1 - i]),
        ("the number of words is", [n]),
        ("in alphabetical order", sorted(words) if KIND_OF.get(words[0]) else []),
    ]
    if found:
        first, second, last = found[:1], found[1:2], found[-1:]
        rest = [word for word in words if word not in found]
        of_kinds = [
            ("keep", f"the {kinds} are", found),
            ("keep", f"only the {kinds} are", found),
            ("drop", f"without the {kinds}", rest),
            ("first", f"the first {kind} is", first),
            ("second", f"the second {kind} is", second),
            ("last", f"the last {kind} is", last),
            ("count", f"the number of {kinds} is", [len(found)]),
            ("reverse", f"the {kinds} backwards", found[::-1]),
            ("sort", f"the {kinds} in alphabetical order", sorted(found)),
        ]
        true += [(said, what) for cell, said, what in of_kinds if kind in SPOKEN[cell]]
    chosen = some(draws, [(said, what) for said, what in true if what], between(draws, 2, 3))
    inputs = [" ".join(words)]
    targets = []
    for number, (said, what) in enumerate(chosen):
        mark = f"<extra_id_{number}>"
        inputs.append(f". {said} {mark}")
        targets.append(f"{mark} {' '.join(map(str, what))}")
    return " ".join(inputs), " ".join(targets)


def continued(draws: Draws) -> tuple[str, str]:
    """A sentence cut in two, as in T5's adaptation to language modelling: (what is read, what comes then)."""
    while True:
        before, _, rest = statement(draws).partition("[[")
        result, _, after = rest.partition("]]")
        if before and not after:
            return before.strip(), result


def infilled(draws: Draws) -> tuple[str, str]:
    """A sentence whose bracketed span is masked by the first sentinel."""
    before, _, rest = statement(draws).partition("[[")
    result, _, after = rest.partition("]]")
    return f"{before}<extra_id_0>{after} .", f"<extra_id_0> {result}"


def corrupted(draws: Draws) -> tuple[str, str]:
    """Two sentences with random spans masked: T5's objective (Raffel et al. 2020, 3.1.4), spans of 1 to 3 words."""
    text = " . ".join(statement(draws) for _ in range(2))
    words = text.replace("[[", "").replace("]]", "").split()
    inputs: list[str] = []
    targets: list[str] = []
    at, sentinel = 0, 0
    while at < len(words):
        gap, span = between(draws, 3, 9), between(draws, 1, 3)
        inputs += words[at : at + gap]
        masked = words[at + gap : at + gap + span]
        at += gap + span
        if masked:
            mark = f"<extra_id_{sentinel}>"
            inputs.append(mark)
            targets += [mark, *masked]
            sentinel += 1
    return " ".join(inputs), " ".join(targets)


def row(split: str, index: int) -> dict[str, str]:
    """Row `index` of the corpus: 40 % continuations, 52 % masked results, the rest random spans."""
    draws = Draws(0, "playground_corpus", index, split)
    kind = draws.integer(100)
    make = (
        continued if kind < 40 else infilled if kind < 62 else described if kind < 92 else corrupted
    )
    inputs, targets = make(draws)
    return {"inputs": inputs, "targets": targets}
