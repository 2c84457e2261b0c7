"""The same ids as transformers gives a Hugging Face folder, and what is said of one that does not fit."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flanx.data import long_texts, vocabulary
from flanx.data.vocabulary import huggingface
from flanx.errors import UserError

FIXTURES = Path(__file__).with_name("fixtures") / "tokenizers"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
FAMILIES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())


@pytest.fixture
def folder(tmp_path: Path):
    """A copy of a family's folder, to change."""

    def copied(family: str) -> Path:
        return Path(shutil.copytree(FIXTURES / family, tmp_path / family))

    return copied


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ids_and_special_tokens_are_those_of_transformers(family: str):
    words = vocabulary.load(str(FIXTURES / family))
    expected = EXPECTED[family]
    assert words.encode_batch(EXPECTED["texts"]) == expected["ids"]
    assert [words.encode(text) for text in EXPECTED["texts"]] == expected["ids"]
    assert {name: getattr(words, name) for name in expected["special"]} == expected["special"]


def test_transformers_installed_here_gives_the_same():
    pytest.importorskip("transformers", reason="a peer, which flanx does without")
    code = "import sys, token_identity; token_identity.main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *(str(FIXTURES / family) for family in FAMILIES)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert sorted(found) == FAMILIES
    assert {
        family: (one["texts"], one["differ"], one["special"]) for family, one in found.items()
    } == dict.fromkeys(FAMILIES, (7, 0, {}))


def test_folder_and_file_are_one_vocabulary_and_its_spec_says_all(folder, tmp_path):
    words = vocabulary.load(str(folder("qwen")))
    copy = tmp_path / "vocabulary.model"  # what a run keeps: nothing lies beside it
    copy.write_bytes(Path(words.path).read_bytes())
    others = [
        vocabulary.load(f"{words.path}"),
        vocabulary.load(words.spec),
        vocabulary.load(vocabulary.with_file(words.spec, str(copy))),
        vocabulary.load("qwen", str(tmp_path)),
        pickle.loads(pickle.dumps(words)),
    ]
    names = ("fingerprint", "eos_id", "bos_id", "pad_id", "unk_id", "stop_ids", "adds_bos", "size")
    for other in others:
        assert {n: getattr(other, n) for n in names} == {n: getattr(words, n) for n in names}
        assert other.encode("a <|im_end|>") == words.encode("a <|im_end|>")
    assert [Path(file).name for file in words.files] == [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ]


def test_the_tokenizers_own_end_comes_before_the_generation_settings():
    """An instruction model's answers end at any of several ids; what is appended is the tokenizer's."""
    words = vocabulary.load(str(FIXTURES / "llama3"))
    assert words.encode("<|eot_id|>") == [words.eos_id] == [402]
    assert words.stop_ids == (402, 401, 403)
    ids = words.encode("one")
    assert words.decode([words.bos_id, *ids, 403, *ids]) == "one"


def test_without_a_name_the_first_id_of_the_generation_settings_ends_a_text(folder):
    path = folder("llama3")
    (path / "tokenizer_config.json").unlink()
    words = vocabulary.load(str(path))
    assert (words.eos_id, words.stop_ids, words.bos_id) == (401, (401, 403, 402), 400)


def test_a_spec_chooses_another_end(folder):
    path = folder("qwen")
    chat, base = vocabulary.load(str(path)), vocabulary.load(f"{path}?eos_id=400")
    assert (chat.eos_id, base.eos_id, base.stop_ids) == (402, 400, (400,))
    assert chat.fingerprint != base.fingerprint  # their stores end otherwise
    assert not vocabulary.includes(chat, base)


def test_texts_are_neither_cut_nor_filled_up():
    words = vocabulary.load(str(FIXTURES / "t5"))
    stored = json.loads((FIXTURES / "t5/tokenizer.json").read_text())
    assert stored["truncation"]["max_length"] == 8 and stored["padding"] is not None
    assert len(words.encode("a b c d e f g h i j")) > 8
    assert len(words.encode("a")) < 16


def test_tokens_that_only_the_configuration_names_are_added(folder, tmp_path):
    path = folder("mistral")
    config = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "[PAD] &"}))
    plain, words = vocabulary.load(str(FIXTURES / "mistral")), vocabulary.load(str(path))
    assert words.encode("[PAD] &") == [words.pad_id] == [plain.size]
    assert words.size == plain.size + 1
    assert words.fingerprint != plain.fingerprint
    copy = tmp_path / "alone.json"
    copy.write_bytes((path / "tokenizer.json").read_bytes())
    again = vocabulary.load(vocabulary.with_file(words.spec, str(copy)))
    assert again.encode("a [PAD] & b") == words.encode("a [PAD] & b")
    assert again.fingerprint == words.fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_gives_the_text_back(family: str):
    words = vocabulary.load(str(FIXTURES / family))
    text = "The lazy dog, x = 3"
    ids = words.encode(text)
    pad = [] if words.pad_id is None else [words.pad_id]
    assert words.decode([*ids, *pad, words.eos_id, *ids]) == text
    assert words.decode(np.array([*ids, words.eos_id], np.uint32)) == text
    assert words.decode([10**6, *ids, -1]) == text


def test_a_first_token_of_its_own_is_not_padding():
    """Id 0 is padding by mask and lengths alone: a text that holds it keeps it."""
    words = vocabulary.load(str(FIXTURES / "olmo"))
    first = words.decode([0])
    assert first and words.encode(first) == [0]
    assert words.decode([0, 0, words.eos_id, 0]) == first * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_most_tokens_is_never_too_few(family: str):
    words = vocabulary.load(str(FIXTURES / family))
    for text in [*EXPECTED["texts"], "a\n\n\tb  c{}~" * 20, "\x00\x01"]:
        assert words.most_tokens(text) >= len(words.encode(text))


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_of_a_long_text_are_the_whole(family: str, monkeypatch):
    for module in (huggingface, long_texts):
        monkeypatch.setattr(module, "LONG", 300)
    words = vocabulary.load(str(FIXTURES / family))
    for text in (
        " ".join(EXPECTED["texts"]) * 4,
        "a word and\nanother one,  e\u0301 " * 90,
        "x" * 999,
    ):
        parts = list(words.parts(text))
        assert "".join(parts) == text
        assert [i for part in parts for i in words.encode(part)] == words.encode(text)
        assert words.count(text) == len(words.encode(text))
    if family in ("llama3", "qwen", "olmo"):
        assert len(list(words.parts("some plain words " * 100))) > 3


@pytest.mark.parametrize("content", ['{"model_type": "llama"}', "[1, 2]", "{", '"x"', "", "\0"])
def test_what_is_no_tokenizer_is_named(tmp_path: Path, content: str):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match="is not a tokenizer.json") as raised:
        vocabulary.load(str(path))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_damaged_tokenizer_is_named_or_another_vocabulary(folder, damages):
    path = folder("olmo") / "tokenizer.json"
    whole = vocabulary.load(str(path)).fingerprint
    refused = []
    for damaged in damages(path.read_bytes()):
        path.write_bytes(damaged)
        try:
            assert vocabulary.load(str(path)).fingerprint != whole
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert [line for line in refused if str(path) not in line or "\n" in line] == []


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", "\0"])
def test_a_damaged_file_beside_it_is_named(folder, name: str, content: str):
    path = folder("gemma")
    (path / name).write_text(content)
    with pytest.raises(UserError, match=name) as raised:
        vocabulary.load(str(path))
    assert "\n" not in str(raised.value)


def test_without_end_of_sequence_the_special_tokens_are_named(folder):
    path = folder("qwen")
    (path / "tokenizer_config.json").unlink()
    (path / "generation_config.json").unlink()
    with pytest.raises(UserError, match=r"no end-of-sequence token.*eos_id=N.*402 '<\|im_end\|>'"):
        vocabulary.load(str(path))
    assert vocabulary.load(f"{path}?eos_id=402").eos_id == 402


def test_special_tokens_of_another_tokenizer_are_named(folder):
    path = folder("gemma")
    with pytest.raises(UserError, match=r"special token 100000 is beyond the \d+ ids"):
        vocabulary.load(f"{path}?eos_id=100000")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}?extra_ids=100", "leave '.extra_ids' out"),
        ("{}?eos_id=x", "is not understood"),
        ("{}?eos_id=1&eos_id=2", "is not understood"),
        ("{}?colour=1", "is not understood"),
        ("bytes?eos_id=2", "bytes have no special tokens"),
        (
            "pkg://flanx.tasks/playground_parts/vocabulary.model?eos_id=2",
            "is a SentencePiece model",
        ),
    ],
)
def test_a_spec_that_does_not_fit_the_file_is_named(spec: str, message: str):
    with pytest.raises(UserError, match=message):
        vocabulary.load(spec.format(FIXTURES / "gemma"))


def test_a_folder_without_a_tokenizer_is_told_what_it_has(tmp_path: Path):
    with pytest.raises(UserError, match=r"no tokenizer.json in folder"):
        vocabulary.load(str(tmp_path))
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(UserError, match=r"name the SentencePiece model in it: .*tokenizer.model"):
        vocabulary.load(str(tmp_path))


def test_a_pointer_of_git_lfs_is_no_file(tmp_path: Path):
    for name in ("tokenizer.json", "spiece.model"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        with pytest.raises(UserError, match="pointer of Git LFS"):
            vocabulary.load(str(tmp_path / name))


def test_nothing_is_imported_for_a_vocabulary_that_does_not_need_it():
    code = (
        "import sys; from flanx.data import vocabulary; vocabulary.load('bytes').encode('a');"
        "print([m for m in ('tokenizers', 'sentencepiece', 'numpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("multiple", "size"), [(1, 403), (128, 512), (256, 512), (403, 403)])
def test_sizes_are_padded_to_a_multiple(multiple: int, size: int):
    words = vocabulary.load(str(FIXTURES / "qwen"))
    assert vocabulary.padded_size(words, multiple) == size
    assert vocabulary.padded_size(32100) == 32128
    with pytest.raises(ValueError, match="multiple"):
        vocabulary.padded_size(words, 0)


def test_a_model_with_fewer_rows_than_the_tokenizer_has_ids_is_named():
    from types import SimpleNamespace

    from flanx.training.run import check_size

    words = vocabulary.load(str(FIXTURES / "qwen"))
    check_size(SimpleNamespace(model=SimpleNamespace(vocab_size=403)), words)
    with pytest.raises(UserError, match=r"qwen.*403 ids, and the model's vocab_size is 402"):
        check_size(SimpleNamespace(model=SimpleNamespace(vocab_size=402)), words)
