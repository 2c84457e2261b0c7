"""Stop texts, which may come in pieces."""

from hypothesis import given
from hypothesis import strategies as st

from flanx.decoding.stop import before_stop, showable


def test_the_first_stop_text_counts():
    assert before_stop("one. two; three", [";", ". "]) == "one"
    assert before_stop("one", ["x"]) is None
    assert before_stop("one", []) is None


def test_half_a_character_is_not_shown():
    assert showable("caf\ufffd", []) == "caf"


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=2))
def test_what_is_shown_is_never_taken_back(text, stops):
    shown = ""
    for end in range(len(text) + 1):
        cut = before_stop(text[:end], stops)
        if cut is not None:
            assert cut.startswith(shown)
            break
        now = showable(text[:end], stops)
        assert now.startswith(shown)
        # No more is held back than needed: the rest could still become a stop text.
        assert not text[len(now) : end] or any(s.startswith(text[len(now) : end]) for s in stops)
        shown = now
