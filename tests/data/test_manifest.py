"""Manifests: both ways to disk, when they are ready, and how a missing one is made by a child process."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

import flanx
from flanx.data import manifest as manifests
from flanx.data import store
from flanx.data.manifest import Entry, Manifest
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.prep import prepared


@pytest.fixture
def request_(tmp_path):
    return StoreRequest(
        mixture="m",
        feature_lengths={"inputs": 8, "targets": 8},
        cache_dir=str(tmp_path / "cache"),
        template_types=("zs_opt",),
    )


@pytest.fixture
def made(request_, tmp_path):
    """A manifest on disk with one store and one input file."""
    data = tmp_path / "data.jsonl"
    data.write_text("{}\n")
    rows = [store.Example([3, 1], [4, 1], 0)]
    meta = store.write(
        tmp_path / "cache/t/train-k",
        rows,
        {"task": "t", "split": "train", "key": "k"},
        vocabulary_size=9,
    )
    entry = Entry(
        task="t",
        dataset="t",
        type="zs_opt",
        category="",
        path="t/train-k",
        examples=1,
        rate=1.0,
        tokens=meta["tokens"],
        store_bytes=meta["bytes"],
        content=meta["content"],
        metrics=("flanx.evaluation.metrics:accuracy",),
    )
    found = data.stat()
    manifest = Manifest(
        mixture="m",
        split="train",
        request=request_.to_json(),
        feature_lengths=dict(request_.feature_lengths),
        vocabulary={"spec": "bytes", "fingerprint": "bytes+0", "size": 259},
        entries=(entry,),
        inputs=[
            {
                "path": str(data),
                "size": found.st_size,
                "mtime_ns": found.st_mtime_ns,
                "sha256": store.file_sha256(data),
            }
        ],
    )
    manifest.save(request_.manifest_path)
    return manifest


def test_saved_is_loaded(made, request_):
    assert manifests.load(request_.manifest_path) == made
    assert os.listdir(os.path.dirname(request_.manifest_path)) == [
        os.path.basename(request_.manifest_path)
    ]


def test_entry_opens_its_store(made, request_):
    assert made.entries[0].open(request_.cache_dir).targets(0).tolist() == [4, 1]


def test_ready(made, request_):
    assert prepared.ready(request_) == made


def test_not_ready_without_a_manifest(request_):
    assert prepared.ready(request_) is None


def test_touched_file_with_the_same_content_is_still_ready(made, request_):
    os.utime(made.inputs[0]["path"], (5, 5))
    assert prepared.ready(request_) == made


@pytest.mark.parametrize("content", ["[]\n", "longer than it was"])
def test_changed_file_is_stale(made, request_, content):
    with open(made.inputs[0]["path"], "w") as handle:
        handle.write(content)
    assert prepared.ready(request_) is None


def test_missing_file_is_stale(made, request_):
    os.unlink(made.inputs[0]["path"])
    assert prepared.ready(request_) is None


def test_truncated_store_is_not_ready(made, request_):
    tokens = os.path.join(request_.cache_dir, made.entries[0].path, "tokens.arrow")
    os.truncate(tokens, made.entries[0].store_bytes - 1)
    assert prepared.ready(request_) is None


def test_another_version_is_not_ready(made, request_):
    dataclasses.replace(made, flanx_version="0.0.0").save(request_.manifest_path)
    assert prepared.ready(request_) is None


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format_version": 99}'])
def test_a_broken_manifest_is_no_manifest(made, request_, content):
    with open(request_.manifest_path, "w") as handle:
        handle.write(content)
    with pytest.raises(ValueError, match="is not a manifest of this flanx"):
        manifests.load(request_.manifest_path)
    assert prepared.ready(request_) is None


def test_fingerprint_is_of_tasks_stores_and_rates(made):
    entry = made.entries[0]
    same = dataclasses.replace(made, inputs=[], mixture="n")
    assert same.fingerprint == made.fingerprint
    moved = dataclasses.replace(made, entries=(dataclasses.replace(entry, path="t/train-l"),))
    assert moved.fingerprint == made.fingerprint
    for change in ({"rate": 2.0}, {"content": "other"}, {"task": "u"}):
        other = dataclasses.replace(made, entries=(dataclasses.replace(entry, **change),))
        assert other.fingerprint != made.fingerprint


def test_ensure_reads_what_is_ready_without_a_child(made, request_, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    assert prepared.ensure([request_, request_]) == [made, made]


class Child:
    """Stands for the caching process: notes how it was called, and ends as told."""

    def __init__(self, status, manifest=None, path=None):
        self._status, self._manifest, self._path = status, manifest, path

    def __call__(self, command, env, check):
        self.command = command
        self.environment = env
        with open(command[command.index("--requests") + 1]) as handle:
            self.requests = json.load(handle)
        if self._manifest is not None:
            self._manifest.save(self._path)
        return subprocess.CompletedProcess(command, self._status)


def test_ensure_caches_in_a_child(made, request_, monkeypatch):
    os.unlink(request_.manifest_path)
    child = Child(0, made, request_.manifest_path)
    monkeypatch.setattr(subprocess, "run", child)
    assert prepared.ensure([request_], workers=3, progress=False) == [made]
    assert child.command[:5] == [sys.executable, "-P", "-m", "flanx", "cache"]
    assert child.command[-2:] == ["--workers", "3"]
    assert child.requests == [json.loads(json.dumps(request_.to_json()))]
    assert child.environment["FLANX_PROGRESS"] == "off"
    assert not os.path.exists(os.path.dirname(child.command[6]))


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (2, UserError, "^$"),
        (-9, UserError, "killed by signal 9"),
        (1, RuntimeError, "ended with status 1"),
    ],
)
def test_ensure_passes_a_failure_on(request_, monkeypatch, status, error, message):
    monkeypatch.setattr(subprocess, "run", Child(status))
    with pytest.raises(error, match=message):
        prepared.ensure([request_])


def test_reading_needs_no_tensorflow(made, request_):
    code = (
        "import json, sys\n"
        "from flanx.data import manifest, request\n"
        "asked = request.StoreRequest.from_json(json.loads(sys.argv[1]))\n"
        "from flanx.prep import prepared\n"
        "found = prepared.ready(asked)\n"
        "found.entries[0].open(asked.cache_dir)\n"
        "sys.exit(','.join({'tensorflow', 'seqio', 'jax'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(request_.to_json())],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(flanx.__file__))},
        check=False,
    )
    assert done.returncode == 0, done.stderr
