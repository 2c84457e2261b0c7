"""A manifest stands for what is registered now: what a module takes from elsewhere is no file of the manifest's."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from flanx import registry
from flanx.data.request import StoreRequest
from flanx.prep import prepared
from flanx.prep.cache import cache
from flanx.prep.progress import Progress

MODULE = """
import glob
import json
import os

import flanx

with open({settings!r}) as file:
    SETTINGS = json.load(file)
LABELS = SETTINGS["labels"]


def fields(row):
    return {{"word": row["word"], "answer": LABELS[row["label"]]}}


def exact(references, predictions):
    return {{"exact": 0.0}}


def near(references, predictions):
    return {{"near": 0.0}}


for file in sorted(glob.glob({rows!r})):
    flanx.register(
        "outside." + os.path.basename(file)[:-6],
        source=flanx.Jsonl(train=file),
        fields=fields,
        templates=[flanx.Template(text, "{{answer}}") for text in SETTINGS["templates"]],
        template_types=("zs_noopt",),
        metrics=[globals()[os.environ.get("OUTSIDE_METRIC", "exact")]],
        vocabulary="bytes",
    )
flanx.mixture("outside", [flanx.Part(name, rate=rate) for name, rate in SETTINGS["rates"].items()])
"""

SETTINGS = {
    "templates": ["Say {word}"],
    "labels": ["no", "yes"],
    "rates": {"outside.one": 1.0, "outside.t*": 3.0},
}


class Outside:
    """A module whose tasks come from files that nothing but its own code reads."""

    name = "tasks_from_outside"

    def __init__(self, folder):
        self.folder = folder
        for task in ("one", "two"):
            self.rows(task)
        self.settings()
        paths = {"settings": str(folder / "settings.json"), "rows": str(folder / "*.jsonl")}
        (folder / f"{self.name}.py").write_text(MODULE.format(**paths))

    def rows(self, task):
        lines = [json.dumps({"word": f"{task}{n}", "label": n % 2}) + "\n" for n in range(4)]
        (self.folder / f"{task}.jsonl").write_text("".join(lines))

    def settings(self, **changes):
        (self.folder / "settings.json").write_text(json.dumps({**SETTINGS, **changes}))

    def request(self, **changes):
        settings = {
            "mixture": "outside",
            "feature_lengths": {"inputs": 40, "targets": 16},
            "cache_dir": str(self.folder / "cache"),
            "imports": (self.name,),
        }
        return StoreRequest(**{**settings, **changes})

    def in_a_new_process(self, function):
        """What the function gives where the module has not been imported yet."""
        sys.modules.pop(self.name, None)
        with registry.isolated():
            return function()

    def ready(self):
        return self.in_a_new_process(lambda: prepared.ready(self.request()))

    def cache(self):
        return self.in_a_new_process(
            lambda: cache([self.request()], workers=0, progress=Progress())
        )[0]

    def texts(self, manifest, feature):
        found = []
        for entry in manifest.entries:
            store = entry.open(self.folder / "cache")
            for row in range(entry.examples):
                found.append(bytes(i - 3 for i in getattr(store, feature)(row) if i > 2).decode())
        return found


@pytest.fixture
def outside(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Outside(tmp_path)
    sys.modules.pop(Outside.name, None)


def test_what_is_as_it_was_is_ready(outside):
    made = outside.cache()
    assert [(entry.task, entry.rate) for entry in made.entries] == [
        ("outside.one.zs_noopt", 1.0),
        ("outside.two.zs_noopt", 3.0),
    ]
    assert made.plan
    assert outside.ready() == made
    assert outside.cache() == made


def test_other_weights_make_other_rates_of_the_same_stores(outside):
    first = outside.cache()
    outside.settings(rates={"outside.one": 1.0, "outside.t*": 9.0})
    assert outside.ready() is None
    second = outside.cache()
    assert [entry.rate for entry in second.entries] == [1.0, 9.0]
    assert [entry.path for entry in second.entries] == [entry.path for entry in first.entries]
    assert outside.ready() == second


def test_other_templates_make_other_inputs(outside):
    outside.cache()
    outside.settings(templates=["Name {word}"])
    assert outside.ready() is None
    assert outside.texts(outside.cache(), "inputs")[:2] == ["Name one0", "Name one1"]


def test_other_labels_make_other_targets(outside):
    outside.cache()
    outside.settings(labels=["non", "oui"])
    assert outside.ready() is None
    assert outside.texts(outside.cache(), "targets")[:2] == ["non", "oui"]


def test_a_new_file_of_a_glob_is_a_new_task(outside):
    outside.cache()
    outside.rows("three")
    assert outside.ready() is None
    made = outside.cache()
    assert [entry.dataset for entry in made.entries] == [
        "outside.one",
        "outside.three",
        "outside.two",
    ]


def test_another_metric_by_the_environment(outside, monkeypatch):
    outside.cache()
    monkeypatch.setenv("OUTSIDE_METRIC", "near")
    assert outside.ready() is None
    assert {entry.metrics for entry in outside.cache().entries} == {(f"{outside.name}:near",)}


def test_a_task_left_out_for_want_of_examples_is_compared_too(outside):
    (outside.folder / "two.jsonl").write_text(json.dumps({"word": "w", "label": 1}) + "\n")
    outside.settings(labels=["no", ""])
    made = outside.cache()
    assert list(made.left_out) == ["outside.two.zs_noopt"]
    assert outside.ready() == made
    outside.settings(labels=["no", "yes"])
    assert outside.ready() is None


def test_ensure_caches_what_the_registry_has_changed(outside):
    outside.cache()
    outside.settings(rates={"outside.one": 5.0, "outside.t*": 1.0})
    (made,) = outside.in_a_new_process(
        lambda: prepared.ensure([outside.request()], workers=0, progress=False)
    )
    assert [entry.rate for entry in made.entries] == [5.0, 1.0]


def test_comparing_reads_no_data_and_needs_no_tensorflow(outside):
    made = dataclasses.replace(outside.cache(), tensorflow=False)  # whatever this process holds
    made.save(outside.request().manifest_path)
    code = (
        "import json, sys\n"
        "from flanx.data import manifest, request\n"
        "asked = request.StoreRequest.from_json(json.loads(sys.argv[1]))\n"
        "read = []\n"
        "sys.addaudithook(lambda e, a: read.append(str(a[0])) if e == 'open' else None)\n"
        "from flanx.prep import prepared\n"
        "found = prepared.ready(asked)\n"
        "heavy = {'tensorflow', 'seqio', 'jax'} & set(sys.modules)\n"
        "print(json.dumps([found.plan, sorted(heavy), [f for f in read if f.endswith('.jsonl')]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(outside.request().to_json())],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(outside.folder), *sys.path])},
        check=True,
    )
    assert json.loads(done.stdout) == [made.plan, [], []]


def test_what_takes_tensorflow_to_ask_is_left_to_the_child(outside, monkeypatch):
    made = dataclasses.replace(outside.cache(), tensorflow=True)
    made.save(outside.request().manifest_path)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    outside.settings(rates={"outside.one": 5.0, "outside.t*": 1.0})
    assert outside.ready() == made  # not asked in this process
    (found,) = outside.in_a_new_process(
        lambda: prepared.ensure([outside.request()], workers=0, progress=False)
    )
    assert [entry.rate for entry in found.entries] == [5.0, 1.0]
