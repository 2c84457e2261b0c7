"""Words and runs of words, against the slow obvious way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flanx.prep.filtering import ngrams

few_words = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=30)


@given(few_words, st.integers(1, 14))
def test_runs_are_equal_where_the_words_are(words, n):
    hashes = ngrams.runs(ngrams.word_hashes(" ".join(words)), n)
    spelt = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    assert hashes.shape == (len(spelt),) and hashes.dtype == np.uint64
    by_words = dict(zip(spelt, hashes.tolist(), strict=True))
    assert [by_words[run] for run in spelt] == hashes.tolist()
    assert len(set(by_words.values())) == len(by_words)


@given(few_words, few_words, few_words, st.integers(1, 6))
def test_what_stands_around_a_run_does_not_matter(before, run, after, n):
    run = [*run, "x"]
    own = ngrams.runs(ngrams.word_hashes(" ".join(run)), n)
    around = ngrams.runs(ngrams.word_hashes(" ".join([*before, *run, *after])), n)
    assert set(own.tolist()) <= set(around.tolist())


def test_runs_of_different_lengths_differ():
    hashes = ngrams.word_hashes("a a a a")
    assert len({int(ngrams.runs(hashes, n)[0]) for n in range(1, 5)}) == 4


def test_hashes_do_not_change():
    """They are in files that other processes read."""
    runs = ngrams.runs(ngrams.word_hashes("one two three"), 2)
    assert runs.tolist() == [411732872807854199, 939935674264583225]


def test_words():
    assert ngrams.words("The CAFÉ, 1,200 m_a 'don't'") == [
        "the",
        "café",
        "1",
        "200",
        "m",
        "a",
        "don",
        "t",
    ]
    assert ngrams.words("東京は big, 서울 도 ไป") == [
        "東",
        "京",
        "は",
        "big",
        "서울",
        "도",
        "ไ",
        "ป",
    ]


def test_long_texts_have_runs():
    hashes = ngrams.word_hashes(" ".join(map(str, range(5000))))
    runs = ngrams.runs(hashes, 13)
    assert len(np.unique(runs)) == 4988
    tail = ngrams.runs(ngrams.word_hashes(" ".join(map(str, range(4900, 5000)))), 13)
    assert runs[4900:].tolist() == tail.tolist()


def test_shingles_of_short_texts():
    assert len(ngrams.shingles("", 3)) == len(ngrams.shingles("?!", 3)) == 0
    assert len(ngrams.shingles("one", 3)) == 1
    assert ngrams.shingles("one", 3)[0] != ngrams.shingles("one two", 3)[0]
    assert len(ngrams.shingles("a b a b a b", 2)) == 2
