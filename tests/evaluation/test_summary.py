"""The summary from fabricated metrics.jsonl and eval/ files: every figure worked by hand."""

import dataclasses
import io
import json

import pytest
from PIL import Image
from rich.console import Console

from flanx import named_modules
from flanx.evaluation import history, predictions, summary
from flanx.evaluation.majority import majority
from flanx.evaluation.predictions import TaskIndex

ACCURACY = "flanx.evaluation.metrics:accuracy"
RANK = "flanx.evaluation.metrics:rank_accuracy"
F1 = "flanx.evaluation.metrics:token_f1"


def _index(metric, headline, file="t", postprocessor=None, examples=4):
    return TaskIndex(file, (metric,), headline, metric, postprocessor, examples)


@pytest.fixture
def model_dir(tmp_path):
    """Two suites; `a.x` labels, `b.y` ranked; steps 0, 10 and 20, step 20 logged twice by a restart."""

    def line(step, split, **values):
        return json.dumps({"step": step, "split": split, "values": values}) + "\n"

    def evaluation(step, x, y):
        return line(
            step,
            "eval",
            **{
                "held_out/a.x/accuracy": x,
                "held_out/a.x/loss": 1.0,
                "held_out/b.y/rank_accuracy": y,
                "held_out/score": (x + y) / 2,
                "held_in/c.z/accuracy": 90.0,
                "held_in/score": 90.0,
            },
        )

    (tmp_path / "metrics.jsonl").write_text(
        evaluation(0, 5.0, 50.0)
        + "".join(line(s, "train", loss=9.0 - s / 4, task_loss={"c.z": 1.0}) for s in range(1, 11))
        + evaluation(10, 30.0, 60.0)
        + line(15, "train", loss=4.0)
        + evaluation(20, 1.0, 1.0)
        + line(15, "train", loss=3.5)
        + evaluation(20, 75.0, 80.0)
        + '{"step": 21, "spl'
    )
    folder = tmp_path / "eval"
    predictions.write_index(
        folder,
        {
            "held_out": {
                "a.x": _index(ACCURACY, "accuracy", "a.x"),
                "b.y": _index(RANK, "rank_accuracy", "b.y"),
            },
            "held_in": {"c.z": _index(ACCURACY, "accuracy", "c.z")},
        },
    )
    labels = [["yes"], ["no"], ["no"], ["maybe", "no"]]
    records = [{"references": refs, "prediction": "yes"} for refs in labels]
    predictions.write_predictions(folder / "a.x-20.jsonl", records)
    ranked = [{"references": [r], "prediction": "b", "scores": [0.0, 1.0]} for r in "aabbb"]
    ranked.append({"references": ["zzz"], "prediction": "?"})  # no options: not ranked
    predictions.write_predictions(folder / "b.y-20.jsonl", ranked)
    return tmp_path


def test_figures(model_dir):
    found = summary.summarise(model_dir)
    assert found.step == 20
    held_out, held_in = found.suites
    x, y = held_out.tasks
    assert (x.task, x.metric, x.tuned, x.untuned) == ("a.x", "accuracy", 75.0, 5.0)
    assert (x.majority, x.majority_answer) == (75.0, "no")
    assert (y.tuned, y.untuned, y.majority) == (80.0, 50.0, pytest.approx(60.0))
    assert (held_out.tuned, held_out.untuned) == (77.5, 27.5)
    assert held_out.majority == pytest.approx(67.5)
    # c.z left no answers: no majority for it, and so none for its suite.
    assert (held_in.tuned, held_in.majority) == (90.0, None)


def test_history(model_dir):
    past = history.read(model_dir)
    assert past.loss[15] == 3.5
    assert list(past.loss) == [*range(1, 11), 15]
    assert past.series("held_out/score") == {0: 27.5, 10: 45.0, 20: 77.5}


def test_report_prints_writes_and_draws(model_dir):
    out = io.StringIO()
    summary.report(model_dir, Console(file=out, width=100))
    text = out.getvalue()
    assert "After 20 steps" in text
    (row,) = [line for line in text.splitlines() if "a.x" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "a.x",
        "accuracy",
        "75.0",
        "5.0",
        "75.0",
        "4",
    ]
    assert "held_out: mean of 2 tasks" in text
    assert "held_in: mean of 1 task " in text
    stored = json.loads((model_dir / "summary.json").read_text())
    assert stored["suites"][0]["tasks"][1]["tuned"] == 80.0
    with Image.open(model_dir / "curves.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    first = (model_dir / "summary.json").read_bytes()
    summary.report(model_dir)
    assert (model_dir / "summary.json").read_bytes() == first


def test_a_large_suite_is_printed_by_its_average(model_dir, monkeypatch):
    monkeypatch.setattr(summary, "MOST_ROWS", 1)
    out = io.StringIO()
    summary.report(model_dir, Console(file=out, width=100))
    assert "a.x" not in out.getvalue()
    assert "c.z" in out.getvalue()
    assert len(json.loads((model_dir / "summary.json").read_text())["suites"][0]["tasks"]) == 2


def test_no_untuned_evaluation(model_dir):
    lines = (model_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (model_dir / "metrics.jsonl").write_text("".join(lines[1:]))
    held_out = summary.summarise(model_dir).suites[0]
    assert held_out.untuned is None
    assert held_out.tasks[0].untuned is None


def test_a_run_without_evaluation_still_gets_its_loss_drawn(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "split": "train", "values": {"loss": 2.0}}\n'
    )
    assert summary.report(tmp_path) is None
    assert (tmp_path / "curves.png").exists()
    assert not (tmp_path / "summary.json").exists()


def test_majority_counts_an_answer_once_an_example_and_postprocesses():
    how = _index(
        ACCURACY,
        "accuracy",
        postprocessor="flanx.evaluation.postprocess:after_the_answer_is",
    )
    references = [["so the answer is b", "b"], ["a"], ["The answer is a."], ["b"], ["b"]]
    found = majority(how, [{"references": refs, "prediction": ""} for refs in references])
    assert (found.answer, found.score) == ("b", 60.0)


def test_majority_of_a_soft_metric_is_the_best_constant_not_the_commonest():
    # "x" twice scores 2/5; "p q" once scores 1 for itself, 2/3 for "p" and 4/5 for "p q r": 0.493.
    references = [["x"], ["x"], ["p q"], ["p"], ["p q r"]]
    found = majority(
        _index(F1, "token_f1"), [{"references": r, "prediction": ""} for r in references]
    )
    assert found.answer == "p q"
    assert found.score == pytest.approx(100 * (1 + 2 / 3 + 4 / 5) / 5)


def test_majority_needs_a_headline_and_examples():
    assert majority(_index(ACCURACY, None), [{"references": ["a"]}]) is None
    assert majority(_index(ACCURACY, "accuracy"), []) is None


def test_figures_say_of_how_many_examples_they_are(model_dir):
    index = predictions.read_index(model_dir / "eval")
    tasks = index["held_out"]
    tasks["a.x"] = dataclasses.replace(tasks["a.x"], left_out={"too long": 3}, trained_on=True)
    tasks["b.y"] = dataclasses.replace(tasks["b.y"], examples=6, scored=5, trained_on=False)
    tasks["a.gone"] = predictions.no_examples({"too long": 1200})
    predictions.write_index(model_dir / "eval", index)
    out = io.StringIO()
    summary.report(model_dir, Console(file=out, width=140))
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in out.getvalue().splitlines()
        if line.startswith("│")
    ]
    assert [row[0] for row in cells] == [
        "a.x",
        "b.y",
        "a.gone",
        "held_out: mean of 2 tasks (1 trained on)",
        "c.z",
        "held_in: mean of 1 task",
    ]
    assert [row[-2:] for row in cells] == [
        ["4", "3"],
        ["5", "0"],
        ["0", "1,200"],
        ["9", "1,203"],
        ["4", "0"],
        ["4", "0"],
    ]
    stored = json.loads((model_dir / "summary.json").read_text())["suites"][0]
    assert (stored["examples"], stored["left_out"]) == (9, 1203)
    assert stored["without_examples"] == {"a.gone": 1200}
    assert [task["examples"] for task in stored["tasks"]] == [4, 5]
    assert [task["trained_on"] for task in stored["tasks"]] == [True, False]


def test_a_metric_that_fails_on_constants_has_no_majority():
    named_modules.name(["json"])
    how = TaskIndex("t", ("json:loads",), "x", "json:loads", None, 1)
    assert majority(how, [{"references": ["a"], "prediction": "a"}]) is None
