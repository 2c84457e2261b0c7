"""The evaluator against one example at a time, decoded by full forward passes."""

import dataclasses
import os
import re

import jax
import numpy as np
import pytest
import tiny_run as tiny

from flanx import named_modules
from flanx.data.vocabulary import load
from flanx.errors import UserError
from flanx.evaluation import metrics, predictions, scoring
from flanx.evaluation.evaluator import Evaluator
from flanx.evaluation.suites import EvalSuite
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import make_mesh, replicated


@pytest.fixture(autouse=True)
def _named():
    """As a user names the modules of metrics with --import."""
    named_modules.name([__name__, "json"])


F1, RANK, ACCURACY = (tiny.METRICS + m for m in ("token_f1", "rank_accuracy", "accuracy"))
SUITE = EvalSuite("held_out", batch_size=8, max_decode_length=7)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three tasks of unequal size: generated answers, ranked options, both."""
    cache = tmp_path_factory.mktemp("cache")
    tasks = {
        "t.free": (tiny.examples(13, seed=1), [F1, ACCURACY], None),
        "t.ranked": (tiny.examples(5, seed=2, options=3), [RANK], None),
        "t/both": (tiny.examples(4, seed=3, options=2), [ACCURACY, RANK], None),
        "t.none": (tiny.examples(2, seed=4), [], None),
    }
    model, params = tiny.model_and_params()
    return cache, tiny.manifest(cache, tasks), {k: v[0] for k, v in tasks.items()}, model, params


def _evaluate(world, folder, suite=SUITE, **kwargs):
    cache, manifest, _, model, params = world
    evaluator = Evaluator(model, tiny.VOCABULARY, [suite], [manifest], str(cache), folder, **kwargs)
    return evaluator.run(kwargs.pop("params", params), 7)


@pytest.fixture(scope="module")
def outcome(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return _evaluate(world, folder), folder


def test_losses_are_those_of_each_example_alone(world, outcome):
    _, _, tasks, model, params = world
    values, _ = outcome
    for task, rows in tasks.items():
        loss = tokens = correct = 0
        for row in rows:
            loss -= tiny.slow_log_probability(model, params, row.inputs, row.targets)
            logits = tiny.slow_logits(model, params, row.inputs, row.targets)
            correct += int(np.sum(np.argmax(logits, -1) == np.array(row.targets)))
            tokens += len(row.targets)
        assert values[f"held_out/{task}/loss"] == pytest.approx(loss / tokens, rel=1e-5)
        assert values[f"held_out/{task}/token_accuracy"] == pytest.approx(100 * correct / tokens)


def test_answers_are_those_of_full_forward_passes(world, outcome):
    _, _, tasks, model, params = world
    values, folder = outcome
    for task in ("t.free", "t/both"):
        records = predictions.read_predictions(
            folder / "eval" / f"{task.replace('/', '.')}-7.jsonl"
        )
        slow = [
            tiny.VOCABULARY.decode(tiny.slow_greedy(model, params, row.inputs, 7))
            for row in tasks[task]
        ]
        assert [r["prediction"] for r in records] == slow
        assert [r["index"] for r in records] == [row.example_id for row in tasks[task]]
        assert [r["input"] for r in records] == [row.inputs_text for row in tasks[task]]
        references = [r["references"] for r in records]
        assert references == [row.targets_text for row in tasks[task]]
        expected = metrics.accuracy(references, slow)["accuracy"]
        assert values[f"held_out/{task}/accuracy"] == expected
    free = predictions.read_predictions(folder / "eval" / "t.free-7.jsonl")
    f1 = metrics.token_f1([r["references"] for r in free], [r["prediction"] for r in free])
    assert values["held_out/t.free/token_f1"] == f1["token_f1"]
    assert len({r["prediction"] for r in free}) > 1


def test_options_are_scored_as_one_by_one(world, outcome):
    _, _, tasks, model, params = world
    values, folder = outcome
    for task in ("t.ranked", "t/both"):
        records = predictions.read_predictions(
            folder / "eval" / f"{task.replace('/', '.')}-7.jsonl"
        )
        hits = 0
        for record, row in zip(records, tasks[task], strict=True):
            assert record["options"] == row.options
            slow = [
                tiny.slow_log_probability(
                    model, params, row.inputs, [*tiny.VOCABULARY.encode(option), 1]
                )
                for option in row.options
            ]
            np.testing.assert_allclose(record["scores"], slow, rtol=1e-5)
            best = row.options[int(np.argmax(slow))]
            hits += best in row.targets_text
            if task == "t.ranked":
                assert record["prediction"] == best
        expected = pytest.approx(100 * hits / len(records))
        assert values[f"held_out/{task}/rank_accuracy"] == expected


def test_means_over_tasks(outcome):
    values, _ = outcome
    tasks = ("t.free", "t.ranked", "t/both", "t.none")
    losses = [values[f"held_out/{task}/loss"] for task in tasks]
    assert values["held_out/loss"] == pytest.approx(np.mean(losses))
    # Each task's first metric; t.none has none.
    firsts = ("t.free/token_f1", "t.ranked/rank_accuracy", "t/both/accuracy")
    headline = [values[f"held_out/{name}"] for name in firsts]
    assert values["held_out/score"] == pytest.approx(np.mean(headline))


def test_index_says_how_the_answers_are_scored(outcome):
    _, folder = outcome
    tasks = predictions.read_index(folder / "eval")["held_out"]
    assert (tasks["t.free"].headline, tasks["t.free"].headline_metric) == ("token_f1", F1)
    assert (tasks["t/both"].file, tasks["t/both"].examples) == ("t.both", 4)
    assert (tasks["t.none"].file, tasks["t.none"].headline) == (None, None)
    assert sorted(p.name for p in (folder / "eval").iterdir()) == [
        "index.json",
        "t.both-7.jsonl",
        "t.free-7.jsonl",
        "t.ranked-7.jsonl",
    ]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_results_do_not_depend_on_the_batching(world, outcome, tmp_path, batch_size):
    values, folder = outcome
    other = _evaluate(world, tmp_path, dataclasses.replace(SUITE, batch_size=batch_size))
    _assert_same(values, other, folder, tmp_path)


def test_results_do_not_depend_on_the_number_of_devices(world, outcome, tmp_path):
    cache, manifest, _, model, params = world
    values, folder = outcome
    mesh = make_mesh(MeshConfig(data=4, model=2))
    spread = jax.device_put(params, replicated(mesh))
    evaluator = Evaluator(
        model, tiny.VOCABULARY, [SUITE], [manifest], str(cache), tmp_path, mesh=mesh
    )
    _assert_same(values, evaluator.run(spread, 7), folder, tmp_path)


def _assert_same(values, other, folder, other_folder):
    assert values.keys() == other.keys()
    for name in values:
        assert other[name] == pytest.approx(values[name], rel=1e-5), name
    for path in (folder / "eval").glob("*.jsonl"):
        ours = predictions.read_predictions(path)
        theirs = predictions.read_predictions(other_folder / "eval" / path.name)
        assert [r["prediction"] for r in ours] == [r["prediction"] for r in theirs]


def test_twice_is_byte_identical(world, outcome, tmp_path):
    values, folder = outcome
    assert _evaluate(world, tmp_path) == values
    for path in (folder / "eval").iterdir():
        assert (tmp_path / "eval" / path.name).read_bytes() == path.read_bytes()


def test_tasks_share_batches(world, tmp_path, monkeypatch):
    """13 + 5 + 4 + 2 examples in batches of 8 are three teacher-forced batches, not five."""
    cache, manifest, _, model, params = world
    evaluator = Evaluator(model, tiny.VOCABULARY, [SUITE], [manifest], str(cache), tmp_path)
    shapes = []
    inner = evaluator._predictor._losses
    monkeypatch.setattr(
        evaluator._predictor,
        "_losses",
        lambda params, inputs, targets: (
            shapes.append(inputs.shape) or inner(params, inputs, targets)
        ),
    )
    evaluator.run(params, 0)
    assert shapes == [(8, 48)] * 3


def test_without_generation_there_is_no_answer_to_score(world, tmp_path):
    values = _evaluate(world, tmp_path, dataclasses.replace(SUITE, generate=False))
    assert "held_out/t.free/token_f1" not in values
    assert "held_out/t/both/accuracy" not in values
    assert "held_out/t/both/rank_accuracy" in values
    assert not (tmp_path / "eval" / "t.free-7.jsonl").exists()


def test_eval_steps_limits_the_loss_alone(world, tmp_path):
    _, _, tasks, model, params = world
    values = _evaluate(world, tmp_path, dataclasses.replace(SUITE, batch_size=2), eval_steps=2)
    rows = tasks["t.free"][:4]
    loss = -sum(tiny.slow_log_probability(model, params, r.inputs, r.targets) for r in rows)
    assert values["held_out/t.free/loss"] == pytest.approx(
        loss / sum(len(r.targets) for r in rows), rel=1e-5
    )
    assert len(predictions.read_predictions(tmp_path / "eval" / "t.free-7.jsonl")) == 13


def test_two_suites_with_one_task_keep_their_answers_apart(world, tmp_path):
    cache, manifest, _, model, params = world
    short = dataclasses.replace(SUITE, name="short", max_decode_length=2)
    evaluator = Evaluator(
        model, tiny.VOCABULARY, [SUITE, short], [manifest] * 2, str(cache), tmp_path
    )
    told = []
    evaluator.run(params, 7, lambda done, total, what: told.append((what, done, total)))
    assert len(predictions.read_predictions(tmp_path / "eval" / "t.free@short-7.jsonl")) == 13
    assert predictions.read_index(tmp_path / "eval")["short"]["t.free"].file == "t.free@short"
    # Of 24 examples each has a loss, 17 are answered and 9 have options.
    ends = [one for one in told if one[1] == one[2]]
    passes = {"loss": 24, "answers": 17, "options": 9}
    assert ends == [
        (f"{suite}: {what}", n, n) for suite in ("held_out", "short") for what, n in passes.items()
    ]
    assert all(0 <= done <= total for _, done, total in told)
    assert told[0] == ("held_out: loss", 0, 24)


def test_postprocessor_applies_to_predictions_and_references(world, tmp_path, monkeypatch):
    rows = tiny.examples(3, seed=9)
    manifest = tiny.manifest(
        tmp_path, {"t.x": (rows, [ACCURACY], "flanx.evaluation.postprocess:first_number")}
    )
    _, _, _, model, params = world
    evaluator = Evaluator(model, tiny.VOCABULARY, [SUITE], [manifest], str(tmp_path), tmp_path)
    # No digits in references; a prediction without digits is the same empty answer.
    values = evaluator.run(params, 0)
    records = predictions.read_predictions(tmp_path / "eval" / "t.x-0.jsonl")
    expected = sum(not any(c.isdigit() for c in r["prediction"]) for r in records)
    assert values["held_out/t.x/accuracy"] == pytest.approx(100 * expected / 3)


def test_mistakes(world, tmp_path):
    cache, manifest, _, model, _ = world
    with pytest.raises(UserError, match="two evaluation suites are named 'held_out'"):
        Evaluator(model, tiny.VOCABULARY, [SUITE] * 2, [manifest] * 2, str(cache), tmp_path)
    with pytest.raises(UserError, match=r"suite 'held_out' is tokenised with 'bytes.extra_ids=7'"):
        Evaluator(model, load("bytes?extra_ids=5"), [SUITE], [_foreign(manifest)], "", tmp_path)
    with pytest.raises(UserError, match="suite needs a name"):
        EvalSuite("a/b")
    with pytest.raises(UserError, match=r"EvalSuite.batch_size = 0 of suite 'x'"):
        EvalSuite("x", batch_size=0)


def _foreign(manifest):
    vocabulary = {**manifest.vocabulary, "fingerprint": "other+1", "spec": "bytes"}
    other = load("bytes?extra_ids=7")
    return dataclasses.replace(
        manifest, vocabulary={**vocabulary, "spec": "bytes?extra_ids=7", "size": other.size}
    )


def test_every_score_says_of_how_many_examples_it_is(world, tmp_path):
    values = _evaluate(world, tmp_path, dataclasses.replace(SUITE, batch_size=2), eval_steps=2)
    number = {name.removeprefix("held_out/"): value for name, value in values.items()}
    assert number["t.free/examples"] == 13
    assert number["t.free/loss_examples"] == 4
    assert "t.free/token_f1_examples" not in number
    # Of the four only every second has a third option, and all have options.
    assert number["t/both/examples"] == 4
    assert "t/both/rank_accuracy_examples" not in number
    assert (number["examples"], number["tasks"]) == (24, 4)
    assert (number["score_tasks"], number["rank_accuracy_tasks"]) == (3, 2)
    assert "left_out" not in number


def test_a_ranked_score_counts_examples_with_options_alone(world, tmp_path):
    _, _, _, model, params = world
    rows = [*tiny.examples(3, seed=5, options=2), *tiny.examples(4, seed=6)]
    manifest = tiny.manifest(tmp_path, {"t.x": (rows, [RANK], None)})
    evaluator = Evaluator(model, tiny.VOCABULARY, [SUITE], [manifest], str(tmp_path), tmp_path)
    values = evaluator.run(params, 0)
    assert values["held_out/t.x/examples"] == 7
    assert values["held_out/t.x/rank_accuracy_examples"] == 3
    assert evaluator.index["held_out"]["t.x"].scored == 3


def test_rows_left_out_are_counted(world, tmp_path):
    cache, manifest, _, model, params = world
    reason = "no exemplar fits the inputs"
    first, *others = manifest.entries
    short = dataclasses.replace(
        manifest,
        entries=(dataclasses.replace(first, dropped={reason: 6}), *others),
        left_out={"t.gone": {reason: 9}},
    )
    evaluator = Evaluator(model, tiny.VOCABULARY, [SUITE], [short], str(cache), tmp_path)
    values = evaluator.run(params, 7)
    assert values["held_out/t.free/left_out"] == 6
    assert (values["held_out/t.gone/examples"], values["held_out/t.gone/left_out"]) == (0, 9)
    assert (values["held_out/left_out"], values["held_out/tasks"]) == (15, 4)
    index = predictions.read_index(tmp_path / "eval")["held_out"]
    assert index["t.free"].left_out == {reason: 6}
    assert index["t.gone"].left_out == {reason: 9}
    assert index["t.gone"].headline is None


def _failing(name):
    return f"{__name__}:{name}"


def bad_metric(references, predictions):
    return {"share": 1 / len([p for p in predictions if p is None])}


def wordy_metric(references, predictions):
    return "71 percent"


def counting_metric(references, predictions):
    return {"examples": 7.0}


def bad_postprocessor(text):
    return text.split("#")[1]


@pytest.mark.parametrize(
    ("metric", "postprocessor", "function", "what"),
    [
        ("bad_metric", None, "metric", "ZeroDivisionError"),
        ("wordy_metric", None, "metric", "TypeError: a metric returns {name: percent}"),
        ("counting_metric", None, "metric", "'examples' is a name of a count"),
        ("wordy_metric", "bad_postprocessor", "postprocessor", "IndexError: list index out"),
    ],
)
def test_a_users_function_that_fails_costs_its_own_scores(
    world, tmp_path, metric, postprocessor, function, what
):
    _, _, _, model, params = world
    wrong = postprocessor or metric
    tasks = {
        "t.x": (
            tiny.examples(3, seed=1),
            [_failing(metric)],
            postprocessor and _failing(postprocessor),
        ),
        "t.y": (
            tiny.examples(2, seed=2),
            [_failing(metric)],
            postprocessor and _failing(postprocessor),
        ),
        "t.z": (tiny.examples(2, seed=3), [ACCURACY], None),
    }
    manifest = tiny.manifest(tmp_path, tasks)
    evaluator = Evaluator(model, tiny.VOCABULARY, [SUITE], [manifest], str(tmp_path), tmp_path)
    values = evaluator.run(params, 0)
    assert "held_out/t.z/accuracy" in values
    assert values["held_out/score_tasks"] == 1
    assert "held_out/t.x/loss" in values
    assert len(predictions.read_predictions(tmp_path / "eval" / "t.x-0.jsonl")) == 3
    (line,) = scoring.lines(evaluator.failures)
    code = globals()[wrong].__code__
    assert line.startswith(f"{function} '{_failing(wrong)}' of task 't.x' and 1 more task fails at")
    first = code.co_firstlineno
    assert re.search(rf"{re.escape(__file__)}:({first}|{first + 1}): ", line)
    assert what in line


def test_an_error_inside_a_library_is_told_at_the_users_line(world, tmp_path):
    """`json.loads` is a library's: its own frames are all there is."""
    _, _, _, model, params = world
    manifest = tiny.manifest(tmp_path, {"t.x": (tiny.examples(1, seed=1), ["json:loads"], None)})
    evaluator = Evaluator(model, tiny.VOCABULARY, [SUITE], [manifest], str(tmp_path), tmp_path)
    evaluator.run(params, 0)
    (failure,) = evaluator.failures
    assert (failure.function, failure.task) == ("metric 'json:loads'", "t.x")
    assert "json/__init__.py:" in failure.what


def test_files_go_through_the_writer_that_is_given(world, tmp_path):
    cache, manifest, _, model, params = world
    files = {}
    evaluator = Evaluator(
        model,
        tiny.VOCABULARY,
        [SUITE],
        [manifest],
        str(cache),
        tmp_path,
        write=lambda path, content: files.update({os.path.basename(path): content}),
    )
    evaluator.run(params, 7)
    assert sorted(files) == ["index.json", "t.both-7.jsonl", "t.free-7.jsonl", "t.ranked-7.jsonl"]
    assert not (tmp_path / "eval").exists()
