"""The same bytes in every process, whatever PYTHONHASHSEED says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flanx
from flanx.user_code.code_hash import code_files, code_hash

SCRIPT = """
import hashlib, json, sys
import flanx
from flanx import registry

TEAMS = {"billing", "network", "hardware"}
LABELS = frozenset(["x", "y", "z", "w"])

def clean(text):
    return text.strip() if text not in {"a", "b", "c", "d"} else text

def row(split, index):
    draws = registry.Draws(0, "t", index, split)
    return {"text": f"{split} {draws.integer(1000)}", "team": sorted(TEAMS)[draws.integer(3)]}

def fields(row):
    return {"ticket": clean(row["text"]), "options": sorted(TEAMS), "answer": [row["team"]], "l": len(LABELS)}

flanx.register(
    "tickets.triage",
    source=flanx.Generated(row, train=200, validation=50),
    fields=fields,
    templates=[flanx.Template("{ticket}{options_}", "{answer}"), flanx.Template("{l} {ticket}{options_}", "{answer}")],
    inverted=[flanx.Template("{answer}", "{ticket}")],
)
class Words:
    def encode(self, text):
        return text.split()
digest = hashlib.sha256()
for name in registry.task_names():
    spec = registry.get_task(name)
    for split in spec.splits:
        settings = dict(feature_lengths={"inputs": 48, "targets": 8}, seed=5)
        for made in spec.render(split, vocabulary=Words(), **settings):
            digest.update(repr(made).encode())
        digest.update(json.dumps(spec.fingerprint(split, **settings)).encode())
selected = registry.resolve("tickets.*", num_tasks=1, seed=3)
digest.update(json.dumps(registry.rates(selected, {one.task: 7 for one in selected})).encode())
assert "tensorflow" not in sys.modules and "seqio" not in sys.modules
print(digest.hexdigest())
"""


def run(script: Path, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, str(script)], env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_same_bytes_under_any_hash_seed(tmp_path: Path):
    script = tmp_path / "tickets.py"
    script.write_text(SCRIPT)
    first, second, third = (run(script, seed) for seed in ("0", "1", "4242"))
    assert first == second == third
    assert len(first.strip()) == 64


def test_place_comments_and_lines_do_not_count(tmp_path: Path):
    one, other = tmp_path / "one.py", tmp_path / "deep" / "two.py"
    other.parent.mkdir()
    one.write_text("def helper(x):\n    return x + 1\ndef f(row):\n    return helper(row)\n")
    other.write_text(
        "# said\n\ndef helper(x):\n    # more\n    return x + 1\n\ndef f(row):\n    return helper(row)\n"
    )
    assert code_hash(load(one, "f")) == code_hash(load(other, "f"))
    assert code_files(load(one, "f")) == (str(one),)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x + 1", "x + 2"),
        ("{'a', 'b'}", "{'a', 'c'}"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("k=1", "k=2"),
        ("self.n", "self.n * 2"),
        ("n = 0", "n = 1"),
        ("return 7", "return 8"),
        ("self.k - 1", "self.k - 2"),
        ("'cached'", "'kept'"),
        ("'decorated'", "'adorned'"),
    ],
)
def test_every_change_in_what_is_used_counts(tmp_path: Path, before: str, after: str):
    text = (
        "import dataclasses, functools\nLIMIT = 3\nclass B:\n    def more(self):\n        return 7\n"
        "class C(B):\n    def get(self):\n        return self.n\n    n = 0\nc = C()\n"
        "@dataclasses.dataclass\nclass D:\n    k: int = 0\n    def down(self):\n        return self.k - 1\nd = D()\n"
        "@functools.cache\ndef table():\n    return {'a': 'cached'}\n"
        "def adorn(g):\n    @functools.wraps(g)\n    def inner(x):\n        return g(x), 'decorated'\n"
        "    return inner\n"
        "@adorn\ndef shown(x):\n    return x\n"
        "def helper(x):\n    return x + 1\n"
        "def f(row, k=1):\n    inner = lambda y: helper(y) in {'a', 'b'}\n"
        "    return inner(row), LIMIT, c.get(), table(), shown(1), d.down()\n"
    )
    assert text.count(before) == 1
    one, other = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text(text)
    other.write_text(text.replace(before, after))
    assert code_hash(load(one, "f")) != code_hash(load(other, "f"))


def load(path: Path, name: str) -> object:
    space: dict[str, object] = {"__name__": "loaded"}
    sys.modules.pop("loaded", None)
    exec(compile(path.read_text(), str(path), "exec"), space)
    return space[name]


def test_fingerprint_of_a_task(register_tickets):
    register_tickets("a.one")
    register_tickets("a.two", templates=[flanx.Template("{ticket}!{options_}", "{answer}")])
    one = flanx.registry.get_task("a.one.zs_opt")
    two = flanx.registry.get_task("a.two.zs_opt")
    assert one.fingerprint("train")["fields"] == two.fingerprint("train")["fields"]
    assert one.fingerprint("train")["templates"] != two.fingerprint("train")["templates"]
    assert one.fingerprint("train") != one.fingerprint("train", seed=1)
    assert one.fingerprint("train") != one.fingerprint("validation")
    lengths = {"inputs": 9, "targets": 9}
    assert one.fingerprint("train") == one.fingerprint("train", feature_lengths=lengths)
    shots = flanx.registry.get_task("a.one.fs_opt")
    assert shots.fingerprint("train") != shots.fingerprint("train", feature_lengths=lengths)
    assert any(name.endswith("conftest.py") for name in one.modules)
