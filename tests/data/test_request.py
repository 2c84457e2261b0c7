"""Requests: keys that tell what matters, and JSON both ways."""

import json

import pytest

from flanx.data.request import StoreRequest, safe_name
from flanx.errors import UserError

LENGTHS = {"inputs": 64, "targets": 16}


def request(**changes):
    return StoreRequest(
        **{"mixture": "m", "feature_lengths": LENGTHS, "cache_dir": "/cache", **changes}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"template_types": ("zs_opt", "fs_opt"), "imports": ["a.b"], "num_tasks": 3},
        {"template_types": {"zs_opt": 1, "inv": 0.3}, "for_eval": True, "max_examples": 7},
    ],
)
def test_json_round_trip(changes):
    original = request(**changes)
    again = StoreRequest.from_json(json.loads(json.dumps(original.to_json())))
    assert again == original
    assert again.key == original.key


def test_key_tells_everything_but_the_cache_folder():
    keys = {
        request(**changes).key
        for changes in [
            {},
            {"mixture": "n"},
            {"split": "validation"},
            {"feature_lengths": {"inputs": 65, "targets": 16}},
            {"vocabulary": "bytes"},
            {"data_dir": "/data"},
            {"num_tasks": 2},
            {"template_types": ("inv",)},
            {"seed": 1},
            {"imports": ("x",)},
            {"max_examples": 1},
            {"for_eval": True},
        ]
    }
    assert len(keys) == 12
    assert request(cache_dir="/elsewhere").key == request().key


def test_key_takes_the_data_folder_as_an_absolute_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    absolute = request(data_dir=str(tmp_path / "data")).key
    assert request(data_dir="data").key == absolute
    monkeypatch.setenv("FLANX_DATA_DIR", str(tmp_path / "data"))
    assert request().key == absolute


def test_key_tells_the_working_directory(monkeypatch, tmp_path):
    here = request(vocabulary="spiece.model").key
    monkeypatch.chdir(tmp_path)  # the same relative names, other files
    assert request(vocabulary="spiece.model").key != here


def test_order_of_lengths_does_not_matter():
    assert request(feature_lengths={"targets": 16, "inputs": 64}).key == request().key


def test_manifest_path_is_a_plain_file_name():
    path = request(mixture="niv2.*.[zf]s_opt", split="train").manifest_path
    assert path.startswith("/cache/manifests/niv2._._zf_s_opt-train-")
    assert path.endswith(".json")
    assert safe_name("../../etc") == "_.._etc"


@pytest.mark.parametrize("lengths", [{"inputs": 4}, {"inputs": 4, "targets": 1}, {}])
def test_bad_lengths_are_refused(lengths):
    with pytest.raises(UserError, match="TASK_FEATURE_LENGTHS"):
        request(feature_lengths=lengths)


def test_unknown_and_missing_fields_are_named():
    with pytest.raises(UserError, match="unknown field 'spilt'; did you mean 'split'"):
        StoreRequest.from_json({**request().to_json(), "spilt": "train"})
    with pytest.raises(UserError, match="field 'cache_dir' is missing"):
        StoreRequest.from_json({"mixture": "m", "feature_lengths": LENGTHS})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_lengths", 5),
        ("mixture", 3),
        ("num_tasks", "2"),
        ("imports", "tasks"),
        ("seed", None),
    ],
)
def test_values_of_other_types_are_named(name, value):
    with pytest.raises(UserError, match=f"StoreRequest.{name} is {value!r}"):
        StoreRequest.from_json({**request().to_json(), name: value})


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ({"input": 64}, "no feature 'input'; did you mean 'inputs'"),
        ({"inputs": 64}, "'targets' is missing"),
        ({"inputs": 64, "targets": 1}, "'targets' is 1"),
    ],
)
def test_wrong_lengths_are_named_one_by_one(lengths, words):
    with pytest.raises(UserError, match=words):
        StoreRequest(mixture="a", feature_lengths=lengths, cache_dir="c")
