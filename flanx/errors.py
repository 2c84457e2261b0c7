"""The one error a user is meant to see, and the spelling help that goes with it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The user's mistake, said in one line: what was wrong, where, and the mend.

    The command line prints it without a traceback and exits with `status`.
    """

    status = 2


class Diverged(UserError):
    """A run's loss or gradient stopped being finite: started again as it is, it would end the same way."""

    status = 65


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate spelt most like `word`, or None where nothing comes close; letter case counts little."""
    known = list(candidates)
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if found:
        return found[0]
    folded = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest candidate, or the empty string."""
    found = nearest(word, candidates)
    return f"; did you mean '{found}'?" if found else ""


def no_attribute(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """What a module's `__getattr__` raises for a name it does not have; Python's own words offer none that it has."""
    names = sorted(known)
    return AttributeError(
        f"module '{module}' has no attribute '{name}'{did_you_mean(name, names)} (it has {', '.join(names)})",
        name=name,
    )
