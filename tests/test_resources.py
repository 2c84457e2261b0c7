"""Where files are looked for."""

import pytest

from flanx import resources
from flanx.errors import UserError, did_you_mean


def test_order_of_places(tmp_path, monkeypatch):
    work, data = tmp_path / "work", tmp_path / "data"
    for folder in (work, data):
        folder.mkdir()
    (data / "a.txt").write_text("data")
    monkeypatch.chdir(work)
    monkeypatch.delenv("FLANX_DATA_DIR", raising=False)
    assert resources.resolve("a.txt", str(data)) == str(data / "a.txt")
    monkeypatch.setenv("FLANX_DATA_DIR", str(data))
    assert resources.resolve("a.txt") == str(data / "a.txt")
    (work / "a.txt").write_text("work")
    assert resources.resolve("a.txt") == str(work / "a.txt")


def test_urls_and_package_files():
    assert resources.resolve("gs://bucket/x") == "gs://bucket/x"
    assert resources.resolve("pkg://flanx/py.typed").endswith("flanx/py.typed")
    with pytest.raises(UserError, match="no such file in package 'flanx': 'nothing'"):
        resources.resolve("pkg://flanx/nothing")


def test_missing_file_names_places_and_mend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLANX_DATA_DIR", raising=False)
    with pytest.raises(UserError, match="'b.txt' .*set DATA_DIR or FLANX_DATA_DIR"):
        resources.resolve("b.txt")
    with pytest.raises(UserError, match=f"looked in {tmp_path}/b.txt, {tmp_path}/d/b.txt"):
        resources.resolve("b.txt", str(tmp_path / "d"))


def test_shipped_gin_files_are_found():
    assert (resources.gin_folder() / "runs/train.gin").is_file()


def test_nearest_name():
    assert did_you_mean("acuracy", ["accuracy", "bleu"]) == "; did you mean 'accuracy'?"
    assert did_you_mean("zzz", ["accuracy"]) == ""


def test_a_data_folder_elsewhere_is_to_be_copied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match="copy gs://bucket/data and set DATA_DIR to the copy"
    ) as told:
        resources.resolve("train.jsonl", "gs://bucket/data")
    assert "gs:/b" not in str(told.value)


def test_a_checkpoint_by_the_name_of_the_hub_is_told_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="hf download google/t5 --local-dir t5$"):
        resources.resolve_checkpoint("google/t5")
    with pytest.raises(UserError, match=r"\(looked in [^;]*nowhere\)$"):
        resources.resolve_checkpoint("nowhere")
    (tmp_path / "google" / "t5").mkdir(parents=True)
    assert resources.resolve_checkpoint("google/t5") == str(tmp_path / "google" / "t5")


def test_a_path_in_a_package_imports_nothing(tmp_path, monkeypatch):
    """Such a path may come from a run's files."""
    package = tmp_path / "evil" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "evil" / "__init__.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    (package / "__init__.py").touch()
    (package / "words.model").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert resources.resolve("pkg://evil.inner/words.model") == str(package / "words.model")
    for missing in ("evil.nothing", "evil..inner", ".evil", ""):
        with pytest.raises(UserError, match="no such file in package"):
            resources.resolve(f"pkg://{missing}/words.model")
    assert not (tmp_path / "canary").exists()
