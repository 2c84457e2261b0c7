"""Filters' settings: every way to write them gives the same, and a wrong one is named with its mend."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.data import filters
from flanx.data.filters import (
    Decontaminate,
    ExactDuplicates,
    Function,
    Language,
    Length,
    NearDuplicates,
)
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.evaluation.suites import EvalSuite
from flanx.training.config import DataConfig

ALL = (
    ExactDuplicates(between_tasks=False),
    NearDuplicates(threshold=0.7, words=3),
    Decontaminate(against=("mgsm.*", "bbh"), words=10),
    Length("targets", "words", min=1, max=50),
    Language(keep=("en", "fr"), of=("targets",)),
    Function("my.module:keep"),
)


def request(**changes):
    lengths = {"inputs": 8, "targets": 8}
    return StoreRequest("a.b", lengths, "/cache", **changes)


def test_json_and_back():
    written = json.loads(json.dumps([filters.to_json(one) for one in ALL]))
    assert filters.read(written) == ALL
    assert written[0] == {"filter": "ExactDuplicates", "between_tasks": False}


def test_a_call_as_text_is_the_filter():
    assert filters.read([repr(one) for one in ALL]) == ALL
    assert filters.read("ExactDuplicates") == (ExactDuplicates(),)
    assert filters.read(["Length('targets', max=3)"]) == (Length("targets", max=3),)


@given(
    threshold=st.floats(0.01, 1.0),
    words=st.integers(1, 20),
    keep=st.lists(st.text(min_size=1), min_size=1, max_size=3).map(tuple),
)
def test_settings_survive_every_form(threshold, words, keep):
    given_ones = (NearDuplicates(threshold=threshold, words=words), Language(keep=keep))
    assert filters.read(map(repr, given_ones)) == given_ones
    assert filters.read(map(filters.to_json, given_ones)) == given_ones


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NearDuplicate()", "unknown filter 'NearDuplicate'; did you mean 'NearDuplicates'?"),
        ("NearDuplicates(treshold=0.5)", "no setting 'treshold'; did you mean 'threshold'?"),
        ("NearDuplicates(threshold=2)", "threshold is 2; give a number above 0 and at most 1"),
        ("NearDuplicates(threshold='x')", "NearDuplicates.threshold is 'x': give a number"),
        ("NearDuplicates(permutations=3)", "permutations is 3"),
        ("NearDuplicates(", "cannot be read"),
        ("NearDuplicates(threshold=f())", "cannot be read"),
        ("Length()", "needs a value for 'of'"),
        ("Length('inputs')", "has no limit"),
        ("Length('input', max=3)", "of is 'input'; give 'inputs' or 'targets'"),
        ("Length('inputs', min=5, max=3)", "max is 3; give at least min=5"),
        ("Length('inputs', 'bytes', 1, 2, 3)", "has 4 settings, not 5"),
        ("Decontaminate()", "needs a value for 'against'"),
        ("Decontaminate('x', words=300)", "words is 300; give 1 to 255"),
        ("Decontaminate('x', shortest=20)", "shortest is 20; give 1 to words=13"),
        ("Language(of='answers')", "of names 'answers'"),
        ("Function('keep')", "name is 'keep'; write 'module:function'"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UserError) as raised:
        filters.read([text])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_request_carries_them():
    made = request(filters=["ExactDuplicates()", *ALL[1:]])
    assert made.filters == (ExactDuplicates(), *ALL[1:])
    assert StoreRequest.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert len({request(filters=f).key for f in [(), *((one,) for one in ALL)]}) == 1 + len(ALL)


def test_a_request_without_any_is_as_it_was():
    assert "filters" not in request().to_json()
    assert request(filters=[]).key == request().key


def test_training_has_filters_and_evaluation_none():
    data = DataConfig(
        "a.b", {"inputs": 8, "targets": 8}, "/cache", filters=("ExactDuplicates", ALL[1])
    )
    assert data.request().filters == (ExactDuplicates(), ALL[1])
    suite = EvalSuite("s", mixture="a.b")
    assert data.eval_request(suite).filters == ()
