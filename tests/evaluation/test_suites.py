"""Suites: which questions they ask, whatever the run that asks them is trained on."""

import dataclasses
from types import SimpleNamespace

import pytest

import flanx
from flanx import registry
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.evaluation.suites import EvalSuite, scopes
from flanx.prep.cache_plan import plan
from flanx.training.config import DataConfig

LENGTHS = {"inputs": 64, "targets": 16}


@pytest.fixture
def mixture():
    """Eight datasets of `held.*`; the even ones have no validation split, 3 and 5 no zs_noopt."""
    name = "heldmix"
    with registry.isolated():
        _register(name)
        yield name


def _register(name):
    for number in range(8):
        splits = {"train": 9} | ({"validation": 5} if number % 2 else {})
        flanx.register(
            f"held.d{number}",
            source=flanx.Generated(lambda split, index: {"answer": f"{index}"}, **splits),
            fields=lambda row: row,
            templates=[flanx.Template("Say it.", "{answer}")],
            template_types=("zs_opt",) if number in (3, 5) else ("zs_opt", "zs_noopt"),
            vocabulary="bytes",
        )
    flanx.mixture(name, [flanx.Part("held.*")])


def _data(mixture, folder, **more):
    return DataConfig(mixture, LENGTHS, str(folder), **more)


def _datasets(request):
    return {one.dataset for one in plan(request).selected}


def test_questions_do_not_depend_on_num_tasks(tmp_path):
    suite = EvalSuite("held_in")
    few, many = (_data("m", tmp_path, num_tasks=n).eval_request(suite) for n in (8, 64))
    assert few == many == _data("m", tmp_path).eval_request(suite)
    assert few.num_tasks is None
    own = _data("m", tmp_path, num_tasks=8).eval_request(dataclasses.replace(suite, num_tasks=3))
    assert own.num_tasks == 3
    assert own.key != few.key


def test_a_suite_may_follow_what_is_trained_on(tmp_path):
    suite = EvalSuite("held_in", num_tasks="trained")
    few, many = (_data("m", tmp_path, num_tasks=n).eval_request(suite) for n in (8, 64))
    assert few.key != many.key
    assert few.num_tasks is None
    assert few.datasets_of == {"split": "train", "num_tasks": 8, "template_types": None}
    assert StoreRequest.from_json(few.to_json()) == few
    # Of a run on the whole mixture the questions are those of a suite that does not follow.
    whole = _data("m", tmp_path).eval_request(suite)
    assert whole == _data("m", tmp_path).eval_request(EvalSuite("held_in"))


def test_following_needs_the_mixture_trained_on(tmp_path):
    suite = EvalSuite("other", mixture="n", num_tasks="trained")
    with pytest.raises(UserError, match=r"EvalSuite.num_tasks = 'trained' of suite 'other'.*'m'"):
        _data("m", tmp_path).eval_request(suite)
    with pytest.raises(UserError, match=r"num_tasks = 'all' of suite 'x': give a number"):
        EvalSuite("x", num_tasks="all")
    with pytest.raises(UserError, match=r"EvalSuite.num_tasks = 0"):
        EvalSuite("x", num_tasks=0)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_what_follows_asks_only_what_is_trained_on(mixture, tmp_path, count):
    """Also where some of the mixture's datasets have no such split or type, which shifts a count of its own."""
    data = _data(mixture, tmp_path, num_tasks=count)
    trained = _datasets(data.request())
    assert len(trained) == count
    suite = EvalSuite("held_in", template_types=("zs_opt",), num_tasks="trained")
    with_validation = {f"held.d{number}" for number in (1, 3, 5, 7)}
    if not trained & with_validation:
        with pytest.raises(UserError, match="none of the"):
            plan(data.eval_request(suite))
        return
    assert _datasets(data.eval_request(suite)) == trained & with_validation
    fixed = dataclasses.replace(suite, num_tasks=None)
    assert _datasets(data.eval_request(fixed)) == with_validation


def _manifest(mixture, *datasets):
    return SimpleNamespace(
        mixture=mixture, entries=[SimpleNamespace(dataset=name) for name in datasets]
    )


def test_which_datasets_a_suite_asks_is_told():
    training = _manifest("m", "a", "b")
    asked = [_manifest("m", "a", "b", "c"), _manifest("m", "a"), _manifest("n", "z")]
    fixed, follows = EvalSuite("fixed"), EvalSuite("follows", num_tasks="trained")
    first, second = scopes([fixed, follows, EvalSuite("other", "n")], asked, training)
    assert "'fixed' asks 3 datasets whatever NUM_TASKS is, 2 of them trained on" in first
    assert "'follows' asks the 1 dataset trained on" in second
    assert scopes([fixed], [_manifest("m", "a", "b")], training) == []
