"""flanx.register: the tasks that it makes, and every mistake found at the call."""

from collections.abc import Callable
from typing import Any

import pytest

import flanx
from flanx import registry

Register = Callable[..., None]


def other_fields(row: dict[str, Any]) -> dict[str, Any]:
    """A function with two ways out."""
    if "options" in row:
        return {"ticket": row["text"], "options": row["options"], "answer": row["team"]}
    made = {"ticket": row["text"]}
    made["answer"] = row["team"]
    return made


def opaque_fields(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "ticket": row["text"]}


def test_one_task_a_template_type(tickets: None):
    assert registry.task_names() == [
        f"tickets.triage.{kind}" for kind in ("fs_noopt", "fs_opt", "inv", "zs_noopt", "zs_opt")
    ]
    spec = registry.get_task("tickets.triage.zs_opt")
    assert (spec.dataset, spec.type, spec.category) == (
        "tickets.triage",
        "zs_opt",
        "classification",
    )
    assert spec.metrics == ("flanx.evaluation.metrics:accuracy",)
    assert spec.splits == ("train", "validation")
    assert spec.place.startswith(__file__.removesuffix("test_registration.py"))
    assert registry.get_task("tickets.triage.inv").metrics == ()
    assert registry.dataset_names("tickets.*") == ["tickets.triage"]


def test_types_without_options_and_without_train(register_tickets: Register):
    plain = [flanx.Template("{ticket}", "{answer}")]
    register_tickets("a.plain", templates=plain, inverted=())
    assert registry.task_names("a.plain") == ["a.plain.fs_noopt", "a.plain.zs_noopt"]
    register_tickets(
        "a.test", templates=plain, inverted=(), source=flanx.Generated(lambda s, i: {}, test=3)
    )
    assert registry.task_names("a.test") == ["a.test.zs_noopt"]
    register_tickets("a.own", templates=plain, inverted=(), template_types=("zs_opt", "fs_opt"))
    assert registry.task_names("a.own") == ["a.own.fs_opt", "a.own.zs_opt"]


def test_mapping_fields(register_tickets: Register):
    register_tickets(
        fields={"ticket": "text", "answer": "team", "options": lambda row: [row["team"], "none"]}
    )
    first = next(registry.get_task("tickets.triage.zs_noopt").render("train"))
    assert isinstance(first, registry.Rendered)
    assert first.targets == "billing"
    assert first.options == ("billing", "none")


@pytest.mark.parametrize(
    "fields", [other_fields, {"ticket": "text", "options": "o", "answer": "team"}]
)
def test_unknown_field_is_found_at_registration(register_tickets: Register, fields: Any):
    with pytest.raises(flanx.UserError) as caught:
        register_tickets(
            fields=fields, templates=[flanx.Template("{tickte}{options_}", "{answer}")]
        )
    assert "task 'tickets.triage': template 1" in str(caught.value)
    assert "unknown field 'tickte'; did you mean 'ticket'?" in str(caught.value)
    assert registry.task_names() == []


def test_unknown_field_in_lambdas_of_one_line(register_tickets: Register):
    one, two = (lambda row: {"x": row["text"]}), (lambda row: {"y": row["text"]})
    register_tickets("a.x", fields=one, templates=[flanx.Template("{x}", "{x}")], inverted=())
    register_tickets("a.y", fields=two, templates=[flanx.Template("{y}", "{y}")], inverted=())
    with pytest.raises(flanx.UserError, match="unknown field 'x'"):
        register_tickets("a.z", fields=two, templates=[flanx.Template("{x}", "{y}")], inverted=())


def test_unknown_field_of_opaque_function_is_found_at_the_first_row(register_tickets: Register):
    register_tickets(
        fields=opaque_fields, templates=[flanx.Template("{tickte}", "{team}")], inverted=()
    )
    with pytest.raises(flanx.UserError) as caught:
        next(registry.get_task("tickets.triage.zs_noopt").render("train"))
    assert "names the unknown field 'tickte'; did you mean 'ticket'?" in str(caught.value)
    assert "generated train row 0" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"templates": []}, "task 'tickets.triage': no templates; give at least one"),
        ({"templates": ["{ticket}"]}, "templates holds '{ticket}'; give flanx.Template"),
        (
            {"templates": [flanx.Template("{options}", "{answer}")]},
            "names {options}; write {options_}",
        ),
        (
            {"inverted": [flanx.Template("{answer}{options_}", "{ticket}")]},
            "inverted template 1 ('{answer}{options_}' -> '{ticket}') lists options",
        ),
        (
            {"fields": lambda row: {"ticket": 1, "answer": 2}},
            "template 1 ('{ticket}\\n\\nWhich team takes this?{options_}' -> '{answer}') names the "
            "unknown field 'options'",
        ),
        (
            {"metrics": ["acuracy"]},
            "task 'tickets.triage': unknown metric 'acuracy'; did you mean 'accuracy'?",
        ),
        ({"metrics": [lambda r, p: {}]}, "task 'tickets.triage': metric "),
        ({"postprocessor": "frist_line"}, "did you mean 'first_line'?"),
        (
            {"template_types": ["zs_opts"]},
            "unknown template type 'zs_opts'; did you mean 'zs_opt'?",
        ),
        ({"template_types": []}, "template_types is empty"),
        ({"template_types": ["inv"], "inverted": ()}, "'inv' needs inverted=[...]"),
        (
            {"template_types": ["fs_opt"], "source": flanx.Generated(lambda s, i: {}, test=1)},
            "'fs_opt' draws exemplars from a train split",
        ),
        ({"source": "train.jsonl"}, "'train.jsonl' is no source; give flanx.Jsonl(train='...')"),
        ({"fields": 3}, "fields is 3; give a function of the row, or a mapping"),
        ({"few_shot": 3}, "few_shot is 3"),
        (
            {"few_shot": registry.FewShot(exemplars="shots")},
            "exemplars from the unknown field 'shots'",
        ),
        (
            {"few_shot": registry.FewShot(items=("{tickt}",))},
            "'{tickt}' names the unknown field 'tickt'",
        ),
    ],
)
def test_mistakes(register_tickets: Register, changes: dict[str, Any], said: str):
    with pytest.raises(flanx.UserError) as caught:
        register_tickets(**changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert registry.task_names() == []


@pytest.mark.parametrize("name", ["tickets", "tickets.", "tickets.a b", "tickets/a.b", ".a"])
def test_malformed_names(register_tickets: Register, name: str):
    with pytest.raises(flanx.UserError, match=r"a name is 'collection\.dataset'"):
        register_tickets(name)


def test_two_tasks_of_one_name(register_tickets: Register, tickets: None):
    with pytest.raises(
        flanx.UserError, match=r"two tasks of one name: 'tickets\.triage'"
    ) as caught:
        register_tickets()
    assert str(caught.value).count("conftest.py:") == 2


def test_unknown_task(tickets: None):
    with pytest.raises(flanx.UserError, match=r"did you mean 'tickets\.triage\.zs_opt'\?"):
        registry.get_task("tickets.triage.zs_op")


def test_few_shot_settings():
    with pytest.raises(flanx.UserError, match="0 exemplars"):
        registry.FewShot(counts=(0, 2))
    with pytest.raises(flanx.UserError, match="must not be empty"):
        registry.FewShot(separators=())
