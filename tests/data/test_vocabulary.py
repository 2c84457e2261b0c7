"""The same ids as SeqIO's vocabularies, and what is said of models that do not fit."""

import json
import pickle
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanx import resources
from flanx.data import vocabulary
from flanx.errors import UserError

PLAYGROUND = "flanx.tasks/playground_parts/vocabulary.model"
MODEL = "vocab/t5_v1_1_cc_all_32000/spiece.model"
ODD_TEXTS = [
    "",
    " ",
    "  two  spaces ",
    "line\nbreak\ttab",
    "<extra_id_0> at the start",
    "in <extra_id_1> between <extra_id_99>",
    "glued<extra_id_2>here <extra_id_100> too many",
    "</s> <pad> <unk> ▁ ⁇",
    "naïve façade, 東京, 😀, ﬁ, \uff21",
    "\x00 \ufffd \u2028",
]


@pytest.fixture(scope="module")
def seqio():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import seqio
    return seqio


@pytest.fixture(scope="module")
def texts(shared_data):
    """Real instances of several languages and kinds."""
    found = list(ODD_TEXTS)
    for file in sorted((shared_data / "natural-instructions/tasks").glob("*.json"))[::12]:
        content = json.loads(file.read_text())
        found.append(content["Definition"][0])
        found += [instance["input"] for instance in content["Instances"][:10]]
    return found


@pytest.mark.parametrize("extra_ids", [0, 100])
def test_sentencepiece_gives_seqio_ids(seqio, texts, shared_data, extra_ids):
    path = str(shared_data / MODEL)
    ours = vocabulary.load(f"{path}?extra_ids={extra_ids}")
    theirs = seqio.SentencePieceVocabulary(path, extra_ids)
    assert ours.size == theirs.vocab_size == 32000 + extra_ids
    assert (ours.pad_id, ours.eos_id, ours.unk_id) == (
        theirs.pad_id,
        theirs.eos_id,
        theirs.unk_id,
    )
    ids = [theirs.encode(text) for text in texts]
    assert [ours.encode(text) for text in texts] == ids
    assert ours.encode_batch(texts) == ids
    assert [ours.decode(row) for row in ids] == [theirs.decode(row) for row in ids]


@pytest.mark.parametrize("name", ["llama", "gemma", "last"])
def test_models_of_other_families_give_seqio_ids(seqio, sentencepiece_models, name: str):
    ours, theirs = (
        vocabulary.load(f"{sentencepiece_models[name]}?extra_ids=0"),
        seqio.SentencePieceVocabulary(sentencepiece_models[name]),
    )
    texts = ["the dog {x}\n\n <y> 東京 😀", "", "  lazy  fox "]
    ids = [theirs.encode(text) for text in texts]
    assert ours.encode_batch(texts) == ids
    assert [ours.decode(row) for row in ids] == [theirs.decode(row) for row in ids]
    assert (ours.eos_id, ours.bos_id, ours.unk_id) == (theirs.eos_id, theirs.bos_id, theirs.unk_id)


def test_bytes_give_seqio_ids(seqio, texts):
    for extra_ids in (0, 125):
        ours = vocabulary.load(f"bytes?extra_ids={extra_ids}")
        theirs = seqio.ByteVocabulary(extra_ids)
        assert ours.size == theirs.vocab_size
        ids = [theirs.encode(text) for text in texts]
        assert ours.encode_batch(texts) == ids
        assert [ours.decode(row) for row in ids] == [theirs.decode(row) for row in ids]
    assert vocabulary.load("bytes").size == 259


def test_sentinels_are_the_last_ids(shared_data):
    words = vocabulary.load(str(shared_data / MODEL))
    assert words.size == 32100
    assert words.encode("<extra_id_0>") == [32099]
    assert words.encode("<extra_id_99>") == [32000]


def test_decode_stops_at_the_end_and_drops_padding(shared_data):
    words = vocabulary.load(str(shared_data / MODEL))
    ids = words.encode("a cat")
    assert words.decode([0, *ids, 0, 1, *ids, 0]) == "a cat"
    assert words.decode([10**6, -1]) == words.decode([words.unk_id, words.unk_id])


def test_fingerprint_tells_content_and_sentinels_not_places(shared_data, tmp_path):
    original = shared_data / MODEL
    copy = tmp_path / "copy.model"
    copy.write_bytes(original.read_bytes())
    words = vocabulary.load(str(original))
    assert vocabulary.load("copy.model", str(tmp_path)).fingerprint == words.fingerprint
    bare = vocabulary.load(f"{copy}?extra_ids=0")
    assert bare.fingerprint != words.fingerprint
    assert vocabulary.includes(words, bare)
    assert not vocabulary.includes(bare, words)
    assert not vocabulary.includes(words, vocabulary.load("bytes"))


def test_pickles_to_the_same_vocabulary(shared_data):
    words = vocabulary.load(str(shared_data / MODEL))
    again = pickle.loads(pickle.dumps(words))
    assert again.fingerprint == words.fingerprint
    assert again.encode("<extra_id_3> cats") == words.encode("<extra_id_3> cats")


def test_a_changed_file_is_loaded_again(shared_data, tmp_path):
    path = tmp_path / "v.model"
    path.write_bytes((shared_data / "vocab/seqio_test/sentencepiece.model").read_bytes())
    small = vocabulary.load(str(path)).size
    path.write_bytes((shared_data / MODEL).read_bytes())
    assert small < 1000 < vocabulary.load(str(path)).size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a SentencePiece model"),
        (b"not a model at all", "is not a SentencePiece model"),
    ],
)
def test_a_broken_model_is_named(tmp_path, content, message):
    path = tmp_path / "broken.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        vocabulary.load(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_model_is_named_or_another_vocabulary(tmp_path, damages):
    """Another fingerprint is what a checkpoint's own vocabulary is refused by."""
    content = Path(resources.resolve(f"pkg://{PLAYGROUND}")).read_bytes()
    path = tmp_path / "damaged.model"
    path.write_bytes(content)
    whole = vocabulary.load(str(path)).fingerprint
    refused = []
    for damaged in damages(content):
        path.write_bytes(damaged)
        try:
            fingerprint = vocabulary.load(str(path)).fingerprint
        except UserError as error:
            refused.append(str(error))
        else:
            assert fingerprint != whole
    reasons = r"is not a (SentencePiece model|tokenizer.json)|has no end-of-sequence token"
    assert refused
    assert [line for line in refused if str(path) not in line or not re.search(reasons, line)] == []


def test_a_missing_model_is_named():
    with pytest.raises(UserError, match=r"no such file or folder: 'nowhere/spiece\.model'"):
        vocabulary.load("nowhere/spiece.model")


@pytest.mark.parametrize("spec", ["x.model?extra_ids=", "x.model?extra=3", "bytes?extra_ids=-1"])
def test_a_malformed_spec_is_named(spec):
    with pytest.raises(UserError, match="is not understood; write"):
        vocabulary.load(spec)


@pytest.mark.parametrize("spec", ["pkg://flanx.tasks.playground_parts/vocabulary.model", "bytes"])
@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40) | st.text(st.characters(max_codepoint=127), max_size=40))
def test_most_tokens_is_never_too_few(spec, text):
    words = vocabulary.load(spec)
    assert words.most_tokens(text) >= len(words.encode(text))


def test_most_tokens_of_plain_text_is_near_its_length(texts, shared_data):
    words = vocabulary.load(str(shared_data / MODEL))
    assert words.most_tokens("a plain text") == 13
    assert words.most_tokens("na\u00efve") > 10**9  # one character may become many
    assert all(words.most_tokens(text) >= len(words.encode(text)) for text in texts)
