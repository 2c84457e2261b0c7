"""Which characters a vocabulary cannot write."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanx.data import vocabulary
from flanx.data.vocabulary import coverage
from flanx.data.vocabulary.coverage import Coverage, Unwritable

TOKENIZERS = Path(__file__).with_name("fixtures") / "tokenizers"
T5 = "vocab/t5_v1_1_cc_all_32000/spiece.model"


def test_t5_loses_line_breaks_braces_and_more(shared_data):
    covered = Coverage(vocabulary.load(str(shared_data / T5)))
    lost = [chr(i) for i in range(128) if not covered.covers(chr(i))]
    assert lost == [*map(chr, range(32)), "<", "\\", "^", "`", "{", "}", "~", "\x7f"]
    text = "if a < b {\n\treturn 'é…東'\n}"
    assert covered.lost([text, "<", ""]) == {
        **{"\n": 2, "\t": 1, "<": 2, "{": 1, "}": 1, "…": 1, "東": 1}
    }
    assert covered.lost(["a <extra_id_0> b <extra_id_99>"]) == {}  # one token each
    assert covered.lost(["<extra_id_x>"]) == {"<": 1}


@pytest.mark.parametrize("spec", ["bytes", "llama3", "qwen", "olmo", "llama2", "gemma"])
def test_bytes_write_everything(spec: str):
    name = spec if spec == "bytes" else str(TOKENIZERS / spec)
    text = "{<\n\t\x00 \u2028 東京 é e\u0301 \ufffd ⁇ 👩‍👩‍👧"
    assert Coverage(vocabulary.load(name)).lost([text]) == {}


def test_sentencepieces_own_mark_of_a_space_cannot_be_written():
    assert Coverage(vocabulary.load(str(TOKENIZERS / "gemma"))).lost(["a ▁ b"]) == {"▁": 1}


def test_a_vocabulary_without_bytes_loses_what_it_has_no_piece_for():
    covered = Coverage(vocabulary.load(str(TOKENIZERS / "t5")))
    assert covered.lost(["{~} the\nfox", "\n<extra_id_1>"]) == {"{": 1, "~": 1, "\n": 2}


@settings(max_examples=60)
@given(texts=st.lists(st.text(max_size=30), max_size=5))
def test_counts_are_those_of_single_characters(texts):
    covered = Coverage(vocabulary.load(str(TOKENIZERS / "t5")))
    slow = Counter(c for text in texts for c in text if not covered.covers(c))
    assert covered.lost(texts) == slow


def test_long_texts_are_counted_in_parts(monkeypatch):
    covered = Coverage(vocabulary.load(str(TOKENIZERS / "t5")))
    monkeypatch.setattr(coverage, "LONG", 7)
    assert covered.lost(["{a}\n" * 50, "東~" * 9]) == {"{": 50, "\n": 50, "~": 9, "東": 9}


def test_a_summary_names_the_commonest_and_says_how_many_more():
    counts = Counter({"\n": 1204, "{": 88, '"': 3, "\u202e": 2, "東": 1})
    told = Unwritable.of(counts)
    assert str(told) == '"\\n" (1,204), "{" (88), "\\"" (3), "\\u202e" (2), "東" (1)'
    assert (told.characters, told.kinds) == (1298, 5)
    assert Unwritable.from_json(told.to_json()) == told
    assert Unwritable.from_json(None) is None
    many = Unwritable.of(Counter({chr(i): 1 for i in range(0x4E00, 0x4E00 + 200)}))
    assert str(many).endswith(", and 192 more")
    assert len(many.commonest) == coverage.KEPT
    assert coverage.total([told, many, told]).characters == 2 * 1298 + 200
