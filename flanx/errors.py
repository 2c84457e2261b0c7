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
    """The candidate spelt most like `word`, or None where nothing comes close."""
    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest candidate, or the empty string."""
    found = nearest(word, candidates)
    return f"; did you mean '{found}'?" if found else ""
