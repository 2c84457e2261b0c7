"""`flanx eval` on a finished run: the run's own figures again, other tasks by name, and mistakes."""

import json
import os
import shutil
import subprocess
import sys

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
from flanx.cli.main import main
assert main(["eval", {str(trained_run)!r}, "--output", {str(tmp_path)!r}]) == 0
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
