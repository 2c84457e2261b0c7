"""SentencePiece models whose special tokens lie elsewhere than T5's."""

from pathlib import Path

import pytest

from flanx.data import vocabulary
from flanx.errors import UserError


def test_special_tokens_are_the_models_own(sentencepiece_models):
    found = {
        name: (words.pad_id, words.bos_id, words.eos_id, words.unk_id, words.stop_ids)
        for name in ("llama", "gemma", "last", "t5")
        if (words := vocabulary.load(sentencepiece_models[name]))
    }
    assert found == {
        "llama": (None, 1, 2, 0, (2,)),
        "gemma": (0, 2, 1, 3, (1,)),
        "last": (3, 1, 2, 0, (2,)),
        "t5": (0, None, 1, 2, (1,)),
    }


def test_sentinels_are_added_by_default_where_padding_and_end_are_t5s(sentencepiece_models):
    """A spec that says nothing means what it meant before other layouts were known."""
    sizes = {
        name: vocabulary.load(f"{sentencepiece_models[name]}?extra_ids=0").size
        for name in ("llama", "gemma", "last", "t5")
    }
    named = {name: vocabulary.load(sentencepiece_models[name]) for name in sizes}
    assert {name: named[name].size - sizes[name] for name in sizes} == {
        "llama": 0,
        "gemma": 100,
        "last": 0,
        "t5": 100,
    }
    assert named["t5"].spec == sentencepiece_models["t5"]
    assert (
        named["llama"].spec == f"{sentencepiece_models['llama']}?extra_ids=0"
    )  # complete, wherever it is read
    assert vocabulary.load(f"{sentencepiece_models['llama']}?extra_ids=5").encode(
        "<extra_id_0>"
    ) == [sizes["llama"] + 4]


def test_decoding_ends_at_the_models_own_end_and_keeps_token_zero(
    sentencepiece_models,
):
    words = vocabulary.load(sentencepiece_models["llama"])
    ids = words.encode("the dog")
    assert words.decode([words.bos_id, *ids, 2, *ids]) == "the dog"
    assert "\u2047" in words.decode([0, *ids])  # 0 is the unknown piece there, not padding
    assert (
        vocabulary.load(sentencepiece_models["last"]).decode(
            [3, 3, *vocabulary.load(sentencepiece_models["last"]).encode("dog"), 3]
        )
        == "dog"
    )


def test_long_texts_are_cut_where_no_piece_goes_on(sentencepiece_models, monkeypatch):
    from flanx.data.vocabulary import sentencepiece_model

    monkeypatch.setattr(sentencepiece_model, "LONG", 100)
    words = vocabulary.load(sentencepiece_models["llama"])
    text = "the lazy dog\nand {x}  fox " * 50
    assert [i for part in words.parts(text) for i in words.encode(part)] == words.encode(text)
    assert len(list(words.parts(text))) > 3


def test_a_model_without_end_of_sequence_is_named(sentencepiece_models):
    with pytest.raises(UserError, match="has no end-of-sequence token") as raised:
        vocabulary.load(sentencepiece_models["endless"])
    assert sentencepiece_models["endless"] in str(raised.value)
    assert Path(sentencepiece_models["endless"]).is_file()
