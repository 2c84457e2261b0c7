"""`flanx eval` on a finished run: the run's own figures again, other tasks by name, and mistakes."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from flanx.cli.main import main


@pytest.fixture
def model_dir(trained_run, tmp_path):
    """A copy, so that a test may change it."""
    return shutil.copytree(trained_run, tmp_path / "copy")


def _evaluation(model_dir, step):
    lines = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
    (found,) = [x["values"] for x in lines if (x["step"], x["split"]) == (step, "eval")]
    return found


def test_same_figures_and_answers_as_the_run(model_dir, capsys):
    answers = {p.name: p.read_bytes() for p in (model_dir / "eval").glob("*-3.jsonl")}
    assert len(answers) == 2
    for path in (model_dir / "eval").iterdir():
        path.unlink()
    assert main(["eval", str(model_dir)]) == 0
    assert {p.name: p.read_bytes() for p in (model_dir / "eval").glob("*.jsonl")} == answers
    results = json.loads((model_dir / "eval" / "results-3.json").read_text())
    assert results == _evaluation(model_dir, 3)
    out = capsys.readouterr().out
    assert "toycli.first.zs_opt" in out
    assert f"accuracy {results['held_in/toycli.first.zs_opt/accuracy']:.1f}" in out


def test_other_tasks_by_name(model_dir):
    before = {p.name: p.read_bytes() for p in (model_dir / "eval").iterdir()}
    command = ["eval", str(model_dir), "--tasks", "toycli.*.zs_noopt", "--split", "test"]
    assert main([*command, "--max_examples", "4", "--batch_size", "2"]) == 0
    folder = model_dir / "eval" / "test"
    lines = (folder / "toycli.first.zs_noopt-3.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert json.loads(lines[0]).keys() == {
        "index",
        "input",
        "references",
        "prediction",
        "options",
        "scores",
    }
    assert "tasks/score" in json.loads((folder / "results-3.json").read_text())
    after = {p.name: p.read_bytes() for p in (model_dir / "eval").iterdir() if p.is_file()}
    assert after == before


def test_overridden_settings_leave_the_runs_answers_alone(model_dir):
    before = {p.name: p.read_bytes() for p in (model_dir / "eval").iterdir()}
    assert main(["eval", str(model_dir), "--gin.held_in/EvalSuite.max_examples=2"]) == 0
    (folder,) = [p for p in (model_dir / "eval").iterdir() if p.is_dir()]
    assert folder.name == "overridden"
    assert len((folder / "toycli.first.zs_opt-3.jsonl").read_text().splitlines()) == 2
    assert {p.name: p.read_bytes() for p in (model_dir / "eval").iterdir() if p != folder} == before


def test_neither_eval_nor_infer_loads_tensorflow(trained_run, tmp_path):
    code = f"""
import sys
import tempfile
from flanx.cli.main import main
own = "--import=toycli_tasks"
assert main(["eval", {str(trained_run)!r}, "--output", {str(tmp_path)!r}, own]) == 0
assert main(["infer", {str(trained_run)!r}, "--prompt", "a"]) == 0
print(sorted(set(sys.modules) & {{"tensorflow", "seqio", "torch"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(trained_run.parent)},
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_run_left_its_summary(trained_run):
    found = json.loads((trained_run / "summary.json").read_text())
    assert found["step"] == 3
    (suite,) = found["suites"]
    (task,) = [task for task in suite["tasks"] if task["task"] == "toycli.first.zs_noopt"]
    # 11 examples over five letters: the commonest three times.
    assert (task["majority_answer"], task["majority"]) == ("a", pytest.approx(300 / 11))
    first = _evaluation(trained_run, 0)["held_in/score"]
    assert suite["untuned"] == pytest.approx(first)
    assert (trained_run / "curves.png").stat().st_size > 10_000


def _without_suites(model_dir):
    file = model_dir / "config.gin"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(x for x in lines if "EvalSuite" not in x))


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (lambda d: shutil.rmtree(d), [], "no such file or folder"),
        (lambda d: shutil.rmtree(d / "checkpoints"), [], "has no checkpoint yet; train it first"),
        (lambda d: shutil.rmtree(d / "checkpoints" / "3"), [], "has no checkpoint yet"),
        (lambda d: None, ["--step=9"], "no such checkpoint (it has 3)"),
        (lambda d: (d / "config.gin").unlink(), [], "has no config.gin"),
        (lambda d: None, ["--split=test"], "choose among --tasks GLOB"),
        (_without_suites, [], "has no evaluation suites"),
        (lambda d: None, ["--tasks=toycil.*"], "toycil.*"),
    ],
)
def test_mistakes_are_one_line(model_dir, capfd, spoil, arguments, message):
    spoil(model_dir)
    assert main(["eval", str(model_dir), *arguments]) == 2
    error = capfd.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert error.startswith("flanx ")


def test_a_folder_that_is_no_model_dir(tmp_path, capsys):
    assert main(["eval", str(tmp_path)]) == 2
    assert "no checkpoint at" in capsys.readouterr().err


def test_a_vocabulary_that_is_not_the_checkpoints(model_dir, capsys):
    arguments = ["--gin.VOCABULARY=bytes?extra_ids=5"]
    assert main(["eval", str(model_dir), *arguments]) == 2
    error = capsys.readouterr().err
    assert "is tokenised with 'bytes?extra_ids=5', the model with 'bytes'" in error


METRICS = """
def broken(references, predictions):
    return {"broken": 1 / 0}
"""


def test_a_metric_that_fails_is_one_line_and_the_other_scores_stay(model_dir, capsys, tmp_path):
    from flanx.evaluation import metrics

    place = model_dir.parent / "broken_metric.py"
    place.write_text(METRICS)
    real = metrics.resolve
    space = {}
    exec(compile(METRICS, str(place), "exec"), space)

    def resolve(name):
        return space["broken"] if name == "flanx.evaluation.metrics:accuracy" else real(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "resolve", resolve)
        assert main(["eval", str(model_dir), f"--output={tmp_path / 'out'}"]) == 2
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if "broken_metric" in line]
    assert f"{place}:3: ZeroDivisionError: division by zero" in line
    assert "of task 'toycli.first.zs_noopt' and 1 more task fails at" in line
    results = json.loads((tmp_path / "out" / "results-3.json").read_text())
    assert "held_in/toycli.first.zs_opt/rank_accuracy" in results
    assert "rank_accuracy" in shown.out
    assert (tmp_path / "out" / "toycli.first.zs_opt-3.jsonl").exists()


def test_the_table_says_of_how_many_examples(model_dir, capsys):
    assert main(["eval", str(model_dir), "--tasks=toycli.first.zs_opt", "--max_examples=4"]) == 0
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    ]
    assert [row[:3] for row in rows] == [
        ["tasks", "toycli.first.zs_opt", "4"],
        ["tasks", "mean of 1 task", "4"],
    ]


def test_the_runs_own_lines_say_of_how_many_examples(trained_run):
    lines = map(json.loads, (trained_run / "metrics.jsonl").read_text().splitlines())
    values = next(line["values"] for line in lines if line["split"] == "eval")
    assert values["held_in/toycli.first.zs_opt/examples"] == 11
    assert (values["held_in/examples"], values["held_in/tasks"]) == (22, 2)
    suite = json.loads((trained_run / "summary.json").read_text())["suites"][0]
    assert (suite["examples"], suite["left_out"]) == (22, 0)


@pytest.mark.parametrize("kind", ["file", "below a file", "read-only", "empty"])
def test_a_folder_that_takes_no_answers_is_refused_before_the_work(
    trained_run, kind, tmp_path, capfd, monkeypatch
):
    from flanx.evaluation import trained

    def opened(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(trained, "open_trained", opened)
    if kind == "read-only":  # which root does not meet
        monkeypatch.setattr(os, "access", lambda path, mode, **how: mode & os.W_OK == 0)
    (tmp_path / "taken").write_text("")
    place = {
        "file": tmp_path / "taken",
        "below a file": tmp_path / "taken" / "deeper",
        "read-only": tmp_path / "flanx",
        "empty": "",
    }[kind]
    assert main(["eval", str(trained_run), f"--output={place}"]) == 2
    error = capfd.readouterr().err.strip()
    assert "--output" in error
    assert str(place) in error
    assert "\n" not in error


def test_answers_that_their_folder_refuses_are_kept_elsewhere(
    trained_run, tmp_path, capsys, monkeypatch
):
    from flanx import atomic_files

    folder, real = tmp_path / "out", atomic_files.write

    def write(path, content):
        if str(path).startswith(str(folder)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, content)

    monkeypatch.setattr(atomic_files, "write", write)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["eval", str(trained_run), f"--output={folder}"]) == 1
    shown = capsys.readouterr()
    assert "held_in" in shown.out
    (instead,) = tmp_path.glob("flanx-eval-*")
    assert f"what it did not take is in {instead}" in shown.err
    assert sorted(path.name for path in instead.iterdir()) == [
        "index.json",
        "results-3.json",
        "toycli.first.zs_noopt-3.jsonl",
        "toycli.first.zs_opt-3.jsonl",
    ]


def test_a_recipe_on_a_runs_folder_takes_what_it_requires_of_the_run(trained_run, tmp_path):
    """runs/train.gin, which recipes include, asks for a model and a mixture that config.gin has."""
    recipe = tmp_path / "recipe.gin"
    recipe.write_text(
        "from __gin__ import dynamic_registration\n"
        "from flanx.evaluation import suites\n"
        "from flanx.training import config\n"
        'include "runs/train.gin"\n'
        "config.TrainConfig.evals = [@short/suites.EvalSuite()]\n"
        'short/suites.EvalSuite.name = "short"\n'
        'short/suites.EvalSuite.mixture = "toycli"\n'
        "short/suites.EvalSuite.max_examples = 2\n"
        "short/suites.EvalSuite.max_decode_length = 4\n"
    )
    cache = f"--gin.CACHE_DIR={trained_run.parent / 'cache'}"
    command = ["eval", str(trained_run), f"--gin_file={recipe}", cache, f"--output={tmp_path}"]
    assert main(command) == 0
    assert json.loads((tmp_path / "results-3.json").read_text())["short/examples"] == 4
