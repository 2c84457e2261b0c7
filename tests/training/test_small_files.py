"""Damaged small files of a MODEL_DIR: rebuilt, left out with a count, or refused in one line; every range sampled."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest
from rich.console import Console

from flanx.errors import UserError
from flanx.evaluation import curves, summary
from flanx.training import run_folder, run_info
from flanx.training.loop import train
from flanx.training.metrics_file import MetricsFile

ONE = jax.devices()[:1]


@pytest.fixture
def config(toy_config):
    made = toy_config(train_steps=2)
    train(made, devices=ONE)
    return made


def test_run_json_is_rebuilt_from_the_checkpoint(config, damages):
    path = Path(config.model_dir) / "run.json"
    content = path.read_bytes()
    known = json.loads(content)
    for damaged in damages(content):
        path.write_bytes(damaged)
        told = run_info.read(config.model_dir)
        if run_info.notes(config.model_dir):
            assert {name: told[name] for name in known} == known
        run_info.check_configuration(config)
    path.write_bytes(content[: len(content) // 2])
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, mixture="other"))
    with pytest.raises(UserError, match="on mixture 'toy'"):
        run_info.check_configuration(other)
    assert train(config, devices=ONE).step == 2
    assert json.loads(path.read_bytes()) == known


def is_json(content):
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def test_metrics_are_read_around_the_damage(tmp_path, damages):
    lines = [
        json.dumps({"step": n, "split": "train", "values": {"loss": 1.5, "task_loss": {"a": 1.0}}})
        for n in range(1, 9)
    ]
    content = ("\n".join(lines) + "\n").encode()
    path = tmp_path / "metrics.jsonl"
    for damaged in damages(content):
        path.write_bytes(damaged)
        file = MetricsFile(tmp_path, step=8, log_period=1)
        file.close()
        kept = [json.loads(line)["step"] for line in path.read_text().splitlines()]
        assert set(kept) <= set(range(1, 9))
        if b"\0" in damaged:
            assert "bytes of zeros" in file.damage
            assert (tmp_path / "damaged" / "metrics.jsonl").read_bytes() == damaged


def test_a_bad_byte_costs_one_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = b'{"step":%d,"split":"train","values":{"loss":1.0}}\n'
    path.write_bytes(good % 1 + b'{"step":2,"spl\xfft":1}\n' + good % 3)
    file = MetricsFile(tmp_path, step=3, log_period=1)
    file.close()
    assert path.read_bytes() == good % 1 + good % 3
    assert "1 line left out" in file.damage


def test_a_damaged_index_or_answers_end_nothing(tmp_path, damages, capsys, monkeypatch):
    monkeypatch.setattr(curves, "draw", lambda *_: None)
    (tmp_path / "eval").mkdir()
    how = {
        "file": "t",
        "metrics": ["flanx.evaluation.metrics:exact_match"],
        "headline": "exact_match",
        "headline_metric": "flanx.evaluation.metrics:exact_match",
        "postprocessor": None,
        "examples": 1,
    }
    index = json.dumps({"held_in": {"t": how}}).encode()
    answers = json.dumps({"index": 0, "references": ["a"], "prediction": "a"}).encode() + b"\n"
    line = {"step": 2, "split": "eval", "values": {"held_in/t/exact_match": 50.0}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    for name, content in (("index.json", index), ("t-2.jsonl", answers)):
        (tmp_path / "eval" / "index.json").write_bytes(index)
        (tmp_path / "eval" / "t-2.jsonl").write_bytes(answers)
        for damaged in damages(content):
            (tmp_path / "eval" / name).write_bytes(damaged)
            summary.report(tmp_path, Console())
            out = capsys.readouterr().out
            if name == "t-2.jsonl" or damaged == index:
                assert "After 2 steps" in out
            elif not is_json(damaged):
                assert "index.json is damaged" in out


@pytest.mark.parametrize("name", run_folder.FOLDERS)
def test_a_file_where_a_folder_belongs(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"MODEL_DIR's folder '{name}'"):
        run_folder.check(str(tmp_path))


@pytest.mark.parametrize("name", run_folder.FILES)
def test_a_folder_where_a_file_belongs(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"{name} is a folder"):
        run_folder.check(str(tmp_path))


def test_a_model_dir_that_is_none(toy_config, tmp_path):
    (tmp_path / "file").touch()
    for folder in ("file", "file/run"):
        with pytest.raises(UserError, match="MODEL_DIR = .*/file is a file"):
            train(toy_config(folder), devices=ONE)
