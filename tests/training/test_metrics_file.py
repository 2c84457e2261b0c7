"""metrics.jsonl after restarts: what is kept, what is cut, and what a kill may leave."""

import json
import math

from flanx.training.metrics_file import MetricsFile, evaluation_at


def write(folder, lines, *, step=0, log_period=10):
    file = MetricsFile(folder, step=step, log_period=log_period)
    for at, split in lines:
        file.write(at, split, {"loss": at / 10})
    file.close()


def read(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["split"]) for line in lines]


def test_lines_beyond_the_restored_step_are_cut(tmp_path):
    write(tmp_path, [(0, "eval"), (10, "train"), (20, "train"), (20, "eval"), (30, "train")])
    write(tmp_path, [(30, "train")], step=20)
    assert read(tmp_path) == [
        (0, "eval"),
        (10, "train"),
        (20, "train"),
        (20, "eval"),
        (30, "train"),
    ]


def test_the_last_line_of_a_shorter_run_is_replaced(tmp_path):
    write(tmp_path, [(10, "train"), (15, "train"), (15, "eval")])
    write(tmp_path, [(20, "train")], step=15)
    assert read(tmp_path) == [(10, "train"), (15, "eval"), (20, "train")]


def test_a_run_that_starts_anew_starts_an_empty_file(tmp_path):
    write(tmp_path, [(0, "eval"), (10, "train")])
    write(tmp_path, [(0, "eval")], step=0)
    assert read(tmp_path) == [(0, "eval")]


def test_half_a_line_and_numbers_that_are_none(tmp_path):
    write(tmp_path, [(10, "train")])
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 20, "spl')
    file = MetricsFile(tmp_path, step=10, log_period=10)
    file.write(20, "train", {"loss": math.nan, "accuracy": 0.5, "task_loss": {"a": math.inf}})
    file.close()
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last == {"step": 20, "split": "train", "values": {"accuracy": 0.5, "task_loss": {}}}


def test_evaluation_at(tmp_path):
    assert evaluation_at(tmp_path, 0) is None
    write(tmp_path, [(0, "eval"), (10, "train")])
    assert evaluation_at(tmp_path, 0) == {"loss": 0.0}
    assert evaluation_at(tmp_path, 10) is None
