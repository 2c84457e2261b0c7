"""Caching in processes of its own: through the command line, and without TensorFlow."""

import json
import os
import subprocess
import sys

import pytest

from flanx.cli import main as cli
from flanx.errors import UserError
from flanx.prep import prepared


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_ensure_makes_what_is_missing(collection, capfd):
    shop = collection(one=3, two=2)
    requests = [shop.request(), shop.request(split="validation", for_eval=True)]
    train, validation = prepared.ensure(requests, workers=0, progress=False)
    assert train.num_examples == 5
    assert validation.num_examples == 6
    assert prepared.ready(requests[0]) == train
    capfd.readouterr()
    assert prepared.ensure(requests) == [train, validation]
    assert capfd.readouterr() == ("", "")


def test_ensure_leaves_the_message_to_the_child(collection, capfd):
    shop = collection(one=3)
    shop.data("one").unlink()
    with pytest.raises(UserError, match="^$"):
        prepared.ensure([shop.request()], workers=0, progress=False)
    message = capfd.readouterr().err
    assert message.startswith("flanx cache: ")
    assert "no such file or folder: 'one.train.jsonl'" in message
    assert message.count("\n") == 1


def test_flanx_tasks_are_cached_without_tensorflow(collection):
    shop = collection(one=3)
    code = (
        "import json, sys\n"
        "from flanx.data.request import StoreRequest\n"
        "from flanx.prep.cache import cache\n"
        "cache([StoreRequest.from_json(json.loads(sys.argv[1]))], workers=0)\n"
        "sys.exit(','.join({'tensorflow', 'seqio', 'jax'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(shop.request().to_json())],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a readable JSON file"),
        ("{", "not a readable JSON file"),
        ("{}", "not a JSON list of requests"),
    ],
)
def test_a_malformed_file_of_requests_is_named(tmp_path, capsys, content, message):
    file = tmp_path / "requests.json"
    if content is not None:
        file.write_text(content)
    assert cli.main(["cache", "--requests", str(file)]) == 2
    said = capsys.readouterr().err
    assert f"--requests {file}: {message}" in said
    assert said.count("\n") == 1


def test_an_interrupt_is_one_line(collection, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("flanx.prep.cache.cache", interrupted)
    assert cli.main(["cache", "--mixture", "any", "--vocabulary", "bytes"]) == 75
    assert capsys.readouterr().err.startswith("flanx cache: interrupted; the same command")
