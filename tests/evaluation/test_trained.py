"""The vocabulary of a run, opened from the copy that the run keeps."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from flanx.data import vocabulary
from flanx.errors import UserError
from flanx.evaluation import trained
from flanx.training.run_info import identity

TOKENIZERS = Path(__file__).parents[1] / "data/fixtures/tokenizers"


@pytest.fixture
def run(tmp_path: Path):
    """A run over a tokenizer.json whose folder is gone: what is left is the copy and what run.json says."""
    folder = Path(shutil.copytree(TOKENIZERS / "llama3", tmp_path / "llama3"))
    words = vocabulary.load(str(folder))
    copy = Path(shutil.copy(words.path, tmp_path / "vocabulary.model"))
    shutil.rmtree(folder)
    return words, SimpleNamespace(vocabulary=identity(words), vocabulary_file=copy), tmp_path


def test_a_tokenizer_json_is_opened_from_its_copy_alone(run):
    words, source, folder = run
    opened = trained._vocabulary(folder, source, None)
    assert opened.fingerprint == words.fingerprint
    assert (opened.eos_id, opened.bos_id, opened.stop_ids) == (402, 400, (402, 401, 403))
    assert opened.adds_bos
    assert opened.encode("one <|eot_id|>") == words.encode("one <|eot_id|>")


def test_another_file_in_its_place_is_named(run):
    _, source, folder = run
    shutil.copy(TOKENIZERS / "qwen/tokenizer.json", source.vocabulary_file)
    with pytest.raises(UserError, match="is not the one that .* was trained with"):
        trained._vocabulary(folder / "a/b", source, None)


def test_a_sentencepiece_model_is_opened_as_before(tmp_path: Path):
    words = vocabulary.load("pkg://flanx.tasks/playground_parts/vocabulary.model?extra_ids=7")
    copy = Path(shutil.copy(words.path, tmp_path / "vocabulary.model"))
    source = SimpleNamespace(vocabulary=identity(words), vocabulary_file=copy)
    opened = trained._vocabulary(tmp_path, source, None)
    assert opened.fingerprint == words.fingerprint
    assert opened.spec == f"{copy}?extra_ids=7"
