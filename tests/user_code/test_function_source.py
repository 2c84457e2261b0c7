"""Functions count by the source that runs: not by its layout, and the same under every Python version."""

import importlib
import importlib.metadata
import sys
from pathlib import Path

import pytest

from flanx.user_code import code_hash as code_hashes
from flanx.user_code import from_source, function_source
from flanx.user_code.code_hash import code_hash

PROGRAM = """
import collections, dataclasses, enum, functools, re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("data")
LABELS = {"a", "b"}
WORD = re.compile(r"\\w+")

class Kind(enum.Enum):
    OLD = 1
    NEW = 2

class Pair(NamedTuple):
    left: int
    right: int = 3

@dataclasses.dataclass(frozen=True)
class Settings:
    most: int = 4
    kind: Kind = Kind.NEW
    names: list = dataclasses.field(default_factory=list)

    def allows(self, n: int) -> bool:
        return n <= self.most

@functools.cache
def table():
    return {"caf\\u00e9": [x * 2 for x in range(3)], **{str(n): n for n in (1, 2)}}

def adorned(function):
    @functools.wraps(function)
    def inner(*values, **named):
        return function(*values, **named)
    return inner

@adorned
def helper(text, /, *, end="."):
    match text.split():
        case [one]:
            return one + end
        case [first, *rest]:
            return f"{first!r:>{len(rest)}}{end}" "and " f"{rest}"
    return ""

def fields(row, settings=Settings()):
    clean = lambda text: WORD.findall(text); shout = lambda text: text.upper()
    try:
        made = {k: helper(v) for k, v in row.items() if k in LABELS and v is not Kind.OLD}
    except* ValueError:
        made = {}
    return made, [clean(k) for k in made], shout("x"), FOLDER, table(), Pair(1), settings.allows(3)
"""
# The same under Python 3.11, 3.12 and 3.13. A change of how functions are hashed makes every store anew.
HASH = "1eb98c719ac76f20208d9c437062b216"


def test_one_hash_under_every_python_version(tmp_path: Path):
    assert code_hash(load(tmp_path / "program.py", PROGRAM, "fields")) == HASH


def test_every_function_of_it_has_a_source(tmp_path: Path, monkeypatch):
    function = load(tmp_path / "program.py", PROGRAM, "fields")
    expected = code_hash(function)
    monkeypatch.setattr(function_source, "normalised", lambda function: None)
    assert code_hash(function) != expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 1 + x", "return (1 +\n            x)  # more"),
        ('"""Says."""', '"""Says something else."""'),
        ("x: int", "x: 'float'"),
        ("'\\u00e9'", '"é"'),
    ],
)
def test_layout_does_not_count(tmp_path: Path, before: str, after: str):
    text = 'def f(x: int):\n    """Says."""\n    y = \'\\u00e9\'\n    return 1 + x\n'
    assert text.count(before) == 1
    one = load(tmp_path / "one.py", text, "f")
    other = load(tmp_path / "two.py", text.replace(before, after), "f")
    assert code_hash(one) == code_hash(other)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x + 1", "x - 1"),
        ("'long' * 200 + 'a'", "'long' * 200 + 'b'"),
        ("frozen=True", "frozen=False"),
        ("k: int = 0", "k: int = 1"),
        ("RED = 1", "RED = 2"),
        ("right: int = 3", "right: int = 4"),
        ("NUMBERS[500] = 0", "NUMBERS[500] = 7"),
    ],
)
def test_what_a_repr_leaves_out_counts(tmp_path: Path, before: str, after: str):
    text = (
        "import dataclasses, enum, re\nimport numpy as np\nfrom typing import NamedTuple\n"
        "LONG = re.compile('long' * 200 + 'a')\nNUMBERS = np.zeros(2000)\nNUMBERS[500] = 0\n"
        "class Color(enum.Enum):\n    RED = 1\n"
        "class Pair(NamedTuple):\n    left: int\n    right: int = 3\n"
        "@dataclasses.dataclass(frozen=True)\nclass D:\n    k: int = 0\n"
        "def f(x):\n    return LONG, NUMBERS, Color.RED, Pair, D, x + 1\n"
    )
    assert text.count(before) == 1
    one = load(tmp_path / "one.py", text, "f")
    other = load(tmp_path / "two.py", text.replace(before, after), "f")
    assert code_hash(one) != code_hash(other)


def test_lambdas_of_one_line_are_told_apart(tmp_path: Path):
    text = (
        "first, second, third, nest = "
        "(lambda r: r), (lambda r: [r]), (lambda r: None), (lambda r: (lambda r: r))\n"
    )
    names = ("first", "second", "third", "nest")
    functions = [load(tmp_path / "lambdas.py", text, name) for name in names]
    sources = [function_source.normalised(one) for one in (*functions, functions[3](1))]
    assert None not in sources
    assert len(set(sources[:4])) == 4
    assert sources[4] == sources[0]


def test_a_file_that_is_edited_after_its_import_counts_as_what_runs(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    from_source.install()
    path = tmp_path / "edited_later.py"
    path.write_text("def f(row):\n    return 1\n")
    first = importlib.import_module("edited_later").f
    before = code_hash(first)
    path.write_text("def f(row):\n    return 2\n")
    assert code_hash(first) == before
    del sys.modules["edited_later"]
    assert code_hash(importlib.import_module("edited_later").f) != before
    del sys.modules["edited_later"]


def test_code_that_is_no_longer_in_its_file_counts_by_its_bytecode(tmp_path: Path):
    path = tmp_path / "program.py"
    first = load(path, "def f(row):\n    return 1\n", "f")
    path.write_text("def f(row):\n    return 2\n")
    assert function_source.normalised(first) is None
    hashes = [code_hash(first), code_hash(load(path, "def f(row):\n    return 2\n", "f"))]
    path.unlink()
    hashes.append(code_hash(load(Path("<made>"), "def f(row):\n    return 3\n", "f")))
    hashes.append(code_hash(load(Path("<made>"), "def f(row):\n    return 4\n", "f")))
    assert len(set(hashes)) == 4


def load(path: Path, text: str, name: str):
    """What a module of that text defines."""
    if not str(path).startswith("<"):
        path.write_text(text)
    space: dict[str, object] = {"__name__": "loaded"}
    sys.modules.pop("loaded", None)
    exec(compile(text, str(path), "exec"), space)
    return space[name]


def test_a_function_of_an_installed_package_counts_with_the_version(tmp_path: Path, monkeypatch):
    function = load(tmp_path / "package.py", "def f(row):\n    return 1\n", "f")
    function.__module__ = "pytest.tasks"
    monkeypatch.setattr(code_hashes, "is_installed", lambda file: True)
    hashes = []
    for version in ("1.0", "1.0", "2.0"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, now=version: now)
        hashes.append((code_hash(function), code_hash({"field": function})))
    assert hashes[0] == hashes[1]
    assert not set(hashes[1]) & set(hashes[2])
