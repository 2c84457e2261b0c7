"""Paths that cannot be written to are refused in a line that names the setting; nothing is made."""

import errno
import os
from pathlib import Path

import pytest

from flanx.errors import UserError
from flanx.writable import check_file, check_folder, make_folder


@pytest.fixture
def no_access(monkeypatch):
    """Tests may run as root, to whom nothing is refused."""
    monkeypatch.setattr(os, "access", lambda *args, **options: False)


def test_folders_that_are_there_or_can_be_made_pass_and_are_not_made(tmp_path):
    check_folder(tmp_path, "MODEL_DIR")
    check_folder(tmp_path / "a" / "b", "MODEL_DIR")
    check_folder("gs://bucket/x", "MODEL_DIR")
    check_file(tmp_path / "a" / "b.jsonl", "--output")
    check_file("/dev/null", "--output")
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "a" / "b", "MODEL_DIR")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"MODEL_DIR = .*/file is a file"):
        check_folder(tmp_path / "file", "MODEL_DIR")
    with pytest.raises(UserError, match=r"MODEL_DIR = .*/run: .*/file is a file, not"):
        check_folder(tmp_path / "file" / "run", "MODEL_DIR")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="MODEL_DIR = .*/link is a link to nowhere"):
        check_folder(tmp_path / "link", "MODEL_DIR")


def test_a_folder_where_a_file_should_be(tmp_path):
    with pytest.raises(UserError, match=r"--output = .* is a folder"):
        check_file(tmp_path, "--output")


@pytest.mark.parametrize("check", [check_folder, check_file])
def test_an_empty_path_and_one_too_long(check, tmp_path):
    with pytest.raises(UserError, match="--output is empty"):
        check("", "--output")
    with pytest.raises(UserError, match="--output = .* cannot be written to .*too long"):
        check(tmp_path / ("x" * 300), "--output")


@pytest.mark.parametrize("check", [check_folder, check_file])
def test_no_permission(check, tmp_path, no_access):
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "there" / "x", tmp_path / "new" / "x"):
        with pytest.raises(UserError, match=f"{path} cannot be written to .permission denied"):
            check(path, "--output")


def test_a_folder_that_cannot_be_made_after_all(tmp_path, monkeypatch):
    def refuse(self, *args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="MODEL_DIR = .*/run cannot be written to .read-only"):
        make_folder(tmp_path / "run", "MODEL_DIR")
