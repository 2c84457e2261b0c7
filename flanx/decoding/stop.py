"""Stop texts: where an answer ends before its end-of-sequence, and what of it may be shown meanwhile."""

from collections.abc import Sequence

_BROKEN = "\ufffd"  # what decoders give for half a character


def before_stop(text: str, stops: Sequence[str]) -> str | None:
    """`text` up to the first place where one of `stops` begins; None where none occurs."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def showable(text: str, stops: Sequence[str]) -> str:
    """`text` without an ending that may turn out to be the beginning of a stop text, or of a character."""
    text = text.rstrip(_BROKEN)
    held = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), held, -1):
            if text.endswith(stop[:length]):
                held = length
                break
    return text[: len(text) - held]
