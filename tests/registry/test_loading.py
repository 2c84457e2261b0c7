"""Which modules get imported for a name, and what importing the registry costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import flanx
from flanx import registry
from flanx.registry import loading

TASK = """
import flanx
flanx.register({name!r}, source=flanx.Jsonl(train="x.jsonl"), fields={{"a": "a"}},
    templates=[flanx.Template("{{a}}", "{{a}}")])
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for flanx.tasks and flanx.mixtures."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loading, "PACKAGES", ("some_tasks", "some_mixtures"))
    for package in ("some_tasks", "some_mixtures"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name in ("news", "mail"):
        (tmp_path / f"some_tasks/{name}.py").write_text(TASK.format(name=f"{name}.one"))
    (tmp_path / "some_tasks/_broken.py").write_text("raise RuntimeError")
    (tmp_path / "some_mixtures/both.py").write_text(
        "import flanx\nflanx.mixture('all_of_it', ['news.*', 'mail.*'])\nflanx.mixture('both', ['news.*'])"
    )
    (tmp_path / "own.py").write_text(TASK.format(name="own.one"))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("some_") or name == "own"]:
        del sys.modules[name]


def loaded() -> list[str]:
    return sorted({name.partition(".")[0] for name in registry.dataset_names()})


def test_the_first_part_of_the_name_tells_the_module(packages: Path):
    registry.load_for("news.*.zs_opt")
    assert loaded() == ["news"]


def test_a_mixture_loads_its_parts(packages: Path):
    registry.load_for("both")
    assert loaded() == ["news"]


def test_an_unknown_name_loads_everything(packages: Path):
    registry.load_for("all_of_it")
    assert loaded() == ["mail", "news"]


def test_resolve_loads_what_it_needs(packages: Path):
    assert [one.dataset for one in registry.resolve("all_of_it", template_types=["zs_noopt"])] == [
        "mail.one",
        "news.one",
    ]


def test_users_modules_come_first(packages: Path):
    registry.load_for("own.one", ["own"])
    assert loaded() == ["own"]
    with pytest.raises(flanx.UserError, match="--import nowhere: no such module"):
        registry.load_for("own.one", ["nowhere"])


def test_import_is_free_of_tensorflow():
    code = (
        "import sys, flanx, flanx.registry, flanx.tasks.niv2\n"
        "heavy = {'tensorflow', 'seqio', 'jax', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert len(flanx.registry.dataset_names('niv2.*')) > 1500"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
