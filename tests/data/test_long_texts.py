"""Texts far longer than a feature: tokenised in parts, with the ids that the whole has."""

import random

import pytest

from flanx.data import long_texts, vocabulary
from flanx.data.vocabulary import huggingface, sentencepiece_model, utf8_bytes

MODEL = "vocab/t5_v1_1_cc_all_32000/spiece.model"
PLAYGROUND = "pkg://flanx.tasks/playground_parts/vocabulary.model"
WORDS = [
    "words",
    "of",
    "all",
    "kinds",
    "the",
    "naïve",
    "東京",
    "e\u0301clair",
    "\u0301",
    "<extra_id_3>",
    "x" * 40,
    "{}",
    "a,b",
    "▁",
    "Hi.",
]


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sentencepiece_model, utf8_bytes, huggingface, long_texts):
        monkeypatch.setattr(module, "LONG", 300)


def _texts() -> list[str]:
    draws = random.Random(0)
    spaces = [" ", " ", " ", "\n", "  ", "\t", "\u3000", ""]
    return [
        "".join(draws.choice(WORDS) + draws.choice(spaces) for _ in range(draws.randint(1, 600)))
        for _ in range(60)
    ]


def _check(words: vocabulary.Vocabulary) -> None:
    texts = _texts()
    whole = [words.encode(text) for text in texts]
    assert [
        [i for part in words.parts(text) for i in words.encode(part)] for text in texts
    ] == whole
    assert [words.count(text) for text in texts] == list(map(len, whole))
    for most in (1, 16, 10_000):
        found = long_texts.heads(words, texts, most)
        assert [head.tokens for head in found] == list(map(len, whole))
        for text, head, ids in zip(texts, found, whole, strict=True):
            assert head.ids[:most] == ids[:most]
            assert len(head.ids) == (len(ids) if len(text) <= 300 else min(most, len(ids)))
    assert max(len(list(words.parts(text))) for text in texts) > 5


def test_parts_of_a_t5_vocabulary_are_the_whole(short_parts: None, shared_data):
    _check(vocabulary.load(f"{shared_data}/{MODEL}"))


def test_parts_of_bytes_are_the_whole(short_parts: None):
    _check(vocabulary.load("bytes"))


def test_a_text_without_spaces_is_cut_all_the_same(short_parts: None):
    words = vocabulary.load(PLAYGROUND)
    parts = list(words.parts("x" * 1000))
    assert "".join(parts) == "x" * 1000
    assert max(map(len, parts)) <= 600


def test_a_vocabulary_whose_pieces_hold_spaces_is_not_cut(short_parts: None, monkeypatch):
    words = sentencepiece_model.SentencePieceVocabulary(
        PLAYGROUND, vocabulary.load(PLAYGROUND).path, 0
    )
    monkeypatch.setattr(words._processor, "IdToPiece", lambda i: "▁new▁york")
    text = "a word " * 200
    assert list(words.parts(text)) == [text]
