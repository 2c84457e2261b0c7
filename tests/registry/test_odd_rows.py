"""Values that are no texts, and options of odd shapes: one meaning is taken, anything else is refused by name."""

import datetime
import enum
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flanx
from flanx import registry
from flanx.registry.check import check


class Colour(enum.StrEnum):
    RED = "red"


class Old(str, enum.Enum):  # noqa: UP042 - its `str` names the member
    RED = "red"


def register_rows(rows: list[Any], **settings: Any) -> None:
    flanx.register(
        "odd.rows",
        **{
            "source": flanx.Generated(lambda split, index: rows[index], train=len(rows)),
            "fields": lambda row: row,
            "templates": [flanx.Template("{q}{options_}", "{answer}")],
            "template_types": ("zs_opt", "zs_noopt"),
            **settings,
        },
    )


def rendered(rows: list[Any], kind: str = "zs_noopt", **settings: Any) -> list[Any]:
    """Targets of the rows; for a dropped one its reason in brackets."""
    with registry.isolated():
        register_rows(rows, **settings)
        made = list(registry.get_task(f"odd.rows.{kind}").render("train"))
    return [one.targets if hasattr(one, "targets") else f"[{one.reason}]" for one in made]


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ([None, "k"], "k"),
        ([float("nan"), b"k"], "k"),
        ([None], "[empty answer]"),
        ([], "[empty answer]"),
        (b"caf\xc3\xa9", "café"),
        (bytearray(b"k"), "k"),
        (float("nan"), "[no answer]"),
        (np.float32("nan"), "[no answer]"),
        (Decimal("NaN"), "[no answer]"),
        (None, "[no answer]"),
        (39, "39"),
        (39.0, "39.0"),
        (np.int64(3), "3"),
        (np.array(["k"]), "k"),
        (Decimal("1.50"), "1.50"),
        (datetime.date(2024, 2, 1), "2024-02-01"),
        (Colour.RED, "red"),
        (Old.RED, "red"),
    ],
)
def test_values_with_one_meaning(answer: Any, target: str):
    assert rendered([{"q": "x", "answer": answer}]) == [target]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"text": ["k"], "start": [3]}, "a dict with the keys 'text', 'start'"),
        ({}, "an empty dict"),
        ([["k"], ["l"]], "a list of lists"),
        (["k", {"a": 1}], "a list that holds a dict"),
        (True, "a bool"),
        (np.bool_(True), "a bool"),
        ([True], "a list that holds a bool"),
        (b"\xff", "bytes that are not UTF-8"),
        (float("inf"), "the number inf"),
        pytest.param(10**5000, "a number of thousands of digits", id="digits"),
        ({"k"}, "a set, which has no order"),
        (map(str, "k"), "a map"),
        (datetime.timedelta(1), "a timedelta"),
    ],
)
def test_values_without_a_text_are_refused_by_name(answer: Any, kind: str):
    with pytest.raises(flanx.UserError) as caught:
        rendered([{"q": "x", "answer": "fine"}, {"q": "x", "answer": answer}])
    said = str(caught.value)
    assert said.startswith(f"generated train row 1: task 'odd.rows': field 'answer' is {kind}")
    assert "return None to leave the row out" in said
    assert "\n" not in said


def test_what_no_template_needs_may_be_anything():
    assert rendered([{"q": "x", "answer": "k", "meta": {"a": [True]}}]) == ["k"]
    from flanx.registry.rendering.texts import plain

    assert plain({"a": {"b": 1}, "c": [{"d": None}]}) == {"a": {"b": 1}, "c": [{"d": None}]}


@pytest.mark.parametrize(
    ("options", "answer", "target", "shown"),
    [
        (["red", "green"], "red", "red", ("red", "green")),
        (("red", None, "green"), "red", "red", ("red", "green")),
        (["Yes", "No"], "yes", "Yes", ("Yes", "No")),
        (["red ", "green"], "red", "red ", ("red ", "green")),
        ([1, 2, 3], 2, "2", ("1", "2", "3")),
        ([1.0, 2.0], 2, "2.0", ("1.0", "2.0")),
        (["red", "red", "blue"], "red", "red", ("red", "blue")),
        (["", "red"], "red", "red", ("red",)),
        (["a", "A"], "A", "A", ("a", "A")),
        (["red", "green"], ["green", "mauve"], "green", ("red", "green")),
        (["Red", "green"], ["mauve", "red"], "Red", ("Red", "green")),
        (None, "red", "red", None),
        ([], "red", "red", None),
    ],
)
def test_options_with_one_meaning(options: Any, answer: Any, target: str, shown: Any):
    register_rows([{"q": "x", "options": options, "answer": answer}])
    (one,) = registry.get_task("odd.rows.zs_noopt").render("train")
    assert (one.targets, one.options) == (target, shown)


@pytest.mark.parametrize(
    ("options", "answer", "kind", "fix"),
    [
        ("red, green", "red", "options is a text", ".split(', ')"),
        ({"A": "red", "B": "green"}, "red", "options is a dict", "list(row['options'].values())"),
        ({"text": ["red"], "label": ["A"]}, "A", "options is a dict of lists", "['text']"),
        ([{"label": "A", "text": "red"}], "red", "options is a list of dicts", "one['text'] for"),
        ([["red"], ["green"]], "red", "options is a list of lists", "one[0] for"),
        ([True, False], True, "options is a list that holds a bool", "'yes'"),
        ({"red", "green"}, "red", "options is a set", "sorted"),
        (["true", "false"], True, "answer is a bool", "'yes'"),
        (["red", "green"], {"text": "red"}, "answer is a dict", "['text']"),
        (["red", "green"], 1, "answer 1 is a number", "options[answer]"),
        (["red", "green"], -1, "answer -1 is a number", "options[answer]"),
        (["red", "green"], "2", "answer 2 is a number", "options[answer]"),
        (["red", "green"], "B", "answer 'B' is a label", "options['AB'.index('B')]"),
        (["red", "green"], ["(b)"], "answer '(b)' is a label", "options['AB'.index('B')]"),
        (["(A) red", "(B) green"], "(B)", "answer '(B)' is a label", "without labels"),
    ],
)
@pytest.mark.parametrize("type_", ["zs_opt", "zs_noopt"])
def test_options_of_several_meanings(options: Any, answer: Any, kind: str, fix: str, type_: str):
    with pytest.raises(flanx.UserError) as caught:
        rendered([{"q": "x", "options": options, "answer": answer}], type_)
    said = str(caught.value)
    assert said.startswith(f"generated train row 0: task 'odd.rows': {kind}")
    assert fix in said


def test_an_answer_that_contradicts_its_options_makes_no_example_with_or_without_them():
    rows = [
        {"q": "x", "options": ["red", "green"], "answer": answer} for answer in ("mauve", "red")
    ]
    rows.append({"q": "x", "options": ["1", "2"], "answer": 3})
    dropped = "[answer not among the options]"
    assert rendered(rows, "zs_noopt") == [dropped, "red", dropped]
    assert rendered(rows, "zs_opt")[0] == dropped


def test_half_a_surrogate_pair_drops_the_row_and_is_counted(tmp_path: Path):
    lines = ['{"q": "half \\ud83d emoji", "a": "x"}', '{"q": "whole \\ud83d\\ude00", "a": "y"}']
    lines += ['{"q": "b", "a": ["\\udc00", "z"]}'] + [f'{{"q": "{i}", "a": "k"}}' for i in range(9)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    flanx.register(
        "odd.pairs",
        source=flanx.Jsonl(train=str(tmp_path / "a.jsonl")),
        fields={"q": "q", "answer": "a"},
        templates=[flanx.Template("{q}", "{answer}")],
    )
    reasons = [
        getattr(one, "reason", "")
        for one in registry.get_task("odd.pairs.zs_noopt").render("train")
    ]
    assert reasons == ["half a surrogate pair", "", "half a surrogate pair", *[""] * 9]
    few = list(registry.get_task("odd.pairs.fs_noopt").render("train"))
    assert [
        getattr(one, "reason", "") for one in few
    ] == reasons  # none of the others has one as an exemplar
    assert {(one.task, one.kind, one.count) for one in check(registry.specs_of("odd.pairs"))} >= {
        ("odd.pairs.zs_noopt", "dropped: half a surrogate pair", 2)
    }


def test_fields_may_leave_a_row_out():
    rows = [{"q": "x", "answer": "k"}, {"q": "", "answer": "k"}]
    fields = lambda row: row if row["q"] else None  # noqa: E731
    assert rendered(rows, fields=fields) == ["k", "[left out by `fields`]"]

    def named(row):
        if not row["q"]:
            return None
        return {"q": row["q"], "answer": row["answer"]}

    with pytest.raises(flanx.UserError, match="unknown field 'question'"):
        register_rows(rows, fields=named, templates=[flanx.Template("{question}", "{answer}")])


@pytest.mark.parametrize("given", [[{"q": "x"}], "x", 3])
def test_fields_that_give_no_mapping(given: Any):
    with pytest.raises(flanx.UserError, match=r"train row 0: task 'odd\.rows': `fields` gives a"):
        rendered([{"q": "x"}], fields=lambda row: given)


def test_an_exception_out_of_fields_names_its_line_and_the_row(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"q": "1"}\n{"q": "one"}\n')

    def fields(row):
        return {"q": row["q"], "answer": json.loads(row["q"])}

    flanx.register(
        "odd.code",
        source=flanx.Jsonl(train=str(tmp_path / "a.jsonl")),
        fields=fields,
        templates=[flanx.Template("{q}", "{answer}")],
    )
    line = fields.__code__.co_firstlineno + 1
    with pytest.raises(flanx.UserError) as caught:
        list(registry.get_task("odd.code.zs_noopt").render("train"))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/a.jsonl:2: `fields` of task 'odd.code' fails")
    assert "JSONDecodeError" in said
    assert f"test_odd_rows.py:{line})" in said


def test_an_exception_out_of_a_generated_row_names_its_line():
    def make(split, index):
        return {"q": "x", "answer": str(1 // (index - 2))}

    flanx.register(
        "odd.made",
        source=flanx.Generated(make, train=4),
        fields=lambda row: row,
        templates=[flanx.Template("{q}", "{answer}")],
    )
    line = make.__code__.co_firstlineno + 1
    with pytest.raises(flanx.UserError, match=rf"train row 2: `make` fails \(ZeroDiv.*:{line}\)"):
        list(registry.get_task("odd.made.zs_noopt").render("train"))


def test_an_exception_out_of_a_users_source_names_its_line():
    class Own:
        splits = ("train",)

        def rows(self, split, data_dir=None):
            yield {"q": "x", "answer": "k"}
            raise RuntimeError("no more")

        def count(self, split, data_dir=None):
            return 2

        def files(self, split, data_dir=None):
            return []

        def fingerprint(self, split, data_dir=None):
            return {}

        def where(self, split, index, data_dir=None):
            return f"row {index}"

    register_rows([], source=Own())
    with pytest.raises(
        flanx.UserError, match=r"fails after 1 rows of train \(RuntimeError: no more, .*:\d+"
    ):
        list(registry.get_task("odd.rows.zs_noopt").render("train"))


def test_exemplars_of_the_row_are_texts_too():
    few_shot = flanx.FewShot(exemplars="shots", items=("{q} is {answer}",))
    settings = {"few_shot": few_shot, "template_types": ["fs_noopt"]}
    row = {"q": "x", "answer": "k", "shots": [{"q": "y", "answer": [None, 3.5]}]}
    register_rows([row], **settings)
    (one,) = registry.get_task("odd.rows.fs_noopt").render("train")
    assert "y is 3.5" in one.inputs
    bad = {**row, "shots": [{"q": "y", "answer": {"text": "k"}}]}
    with pytest.raises(flanx.UserError, match="field 'answer' is a dict"):
        rendered([bad], "fs_noopt", **settings)
    with pytest.raises(flanx.UserError, match="field 'shots' is a str; give a list of dicts"):
        rendered([{**row, "shots": "y is k"}], "fs_noopt", **settings)
