"""The code that runs is the source that is there, whatever `.pyc` lies beside it."""

import os
import py_compile
import sys
from pathlib import Path

import pytest

from flanx import registry

MODULE = """
import flanx
from versions_helper import WORD


def rows(split, index):
    return {{"word": {word!r}, "help": WORD}}


flanx.register("versions.one", source=flanx.Generated(rows, train=1), fields={{"word": "word", "help": "help"}},
    templates=[flanx.Template("{{word}} {{help}}", "{{word}}")], template_types=("zs_noopt",))
"""
NAMES = ("versions", "versions_helper")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    with registry.isolated():
        yield tmp_path
    for name in NAMES:
        sys.modules.pop(name, None)


def write(path: Path, text: str) -> None:
    """All versions have one time; an earlier one's `.pyc` stays."""
    path.write_text(text)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def found(folder: Path, word: str, helper: str) -> tuple[str, str]:
    """Key and inputs of the only row, as a process sees them that has imported nothing yet."""
    write(folder / "versions.py", MODULE.format(word=word))
    write(folder / "versions_helper.py", f"WORD = {helper!r}\n")
    for name in NAMES:
        sys.modules.pop(name, None)
    with registry.isolated():
        registry.load_for("versions.one", ["versions"])
        task = registry.get_task("versions.one.zs_noopt")
        (row,) = task.render("train")
        return str(task.fingerprint("train")), row.inputs


def test_two_versions_of_one_length_and_time(folder: Path):
    first = found(folder, "old", "abc")
    for name in NAMES:  # as any Python that imports them leaves it
        py_compile.compile(str(folder / f"{name}.py"))
    second = found(folder, "new", "abc")
    third = found(folder, "new", "xyz")
    assert [first[1], second[1], third[1]] == ["old abc", "new abc", "new xyz"]
    assert len({first[0], second[0], third[0]}) == 3


def test_no_pyc_is_left(folder: Path):
    found(folder, "old", "abc")
    assert not list(folder.rglob("*.pyc"))


def test_installed_packages_and_the_engine_keep_theirs(folder: Path):
    from flanx.user_code import from_source

    from_source.install()
    from_source.install()
    (finder,) = (one for one in sys.meta_path if type(one).__module__ == from_source.__name__)
    for name in ("json", "wrapt"):
        loader = finder.find_spec(name, None).loader
        assert not type(loader).__module__.startswith("flanx")
