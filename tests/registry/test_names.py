"""Names and arguments that do not exist: the nearest is offered, in one line with the user's file and line."""

import math
from pathlib import Path
from typing import Any

import pytest

import flanx
from flanx.registry import FewShot, Part
from flanx.user_code.importing import import_users


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Csv", "Tsv"),
        ("JSONL", "Jsonl"),
        ("jsonl", "Jsonl"),
        ("Template_", "Template"),
        ("metric", "metrics"),
    ],
)
def test_a_name_that_flanx_lacks_offers_the_nearest(name: str, nearest: str):
    assert not hasattr(flanx, name)
    with pytest.raises(
        AttributeError, match=f"no attribute '{name}'; did you mean '{nearest}'"
    ) as caught:
        getattr(flanx, name)
    assert "Parquet" in str(caught.value)


def test_a_metric_that_does_not_exist_offers_the_nearest():
    assert not hasattr(flanx.metrics, "__wrapped__")
    with pytest.raises(AttributeError, match=r"no attribute 'acuracy'; did you mean 'accuracy'"):
        _ = flanx.metrics.acuracy


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import flanx\nflanx.Csv(train='x')", r"did you mean 'Tsv'.*{file}:2"),
        ("from flanx import Csv", r"did you mean 'Tsv'.*{file}:1"),
        ("import flanx\n\nflanx.metrics.rougel", r"did you mean 'rouge_l'.*{file}:3"),
        (
            "import flanx\nflanx.register('a.b', surce=1)",
            r"no argument 'surce'; did you mean 'source'.*{file}:2",
        ),
        ("import no_such_thing", r"No module named 'no_such_thing', .*{file}:1"),
        ("x = (", r"{file}:1: SyntaxError: "),
        ("1 / 0", r"ZeroDivisionError.*{file}:1"),
    ],
)
def test_a_module_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
):
    name = f"failing_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(flanx.UserError, match=said.format(file=rf"{name}\.py")) as caught:
        import_users(name, f"--import {name}")
    assert str(caught.value).startswith(f"--import {name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["rate", "cap", "share", "temperature"])
@pytest.mark.parametrize("value", [math.nan, -1, -math.inf, 0, "1", True, lambda task: 1.0])
def test_weights_of_a_part_are_numbers_above_0(name: str, value: Any):
    with pytest.raises(flanx.UserError, match=rf"part 'a\.\*': {name} "):
        Part("a.*", **{name: value})
    if name in ("cap", "temperature"):
        with pytest.raises(flanx.UserError, match=rf"mixture 'm' .*: {name} "):
            flanx.mixture("m", ["a.*"], **{name: value})


def test_infinite_weights():
    for name in ("rate", "share"):
        with pytest.raises(flanx.UserError, match=f"{name} inf is not finite"):
            Part("a.*", **{name: math.inf})
    assert Part("a.*", temperature=math.inf).temperature == math.inf  # all alike
    with pytest.raises(flanx.UserError, match="share inf is not above 0 and finite"):
        flanx.registry.resolve("a.*", template_types={"inv": math.inf})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": 3}, "the name 3 is no text"),
        ({"templates": "{q}"}, "templates is '{q}'; give a list"),
        ({"templates": 3}, "templates is 3; give a list"),
        ({"source": flanx.Jsonl}, "is no source"),
        ({"category": 3}, "category is 3; give a text"),
        ({"vocabulary": 3}, "vocabulary is 3; give a text"),
        ({"template_types": 3}, "template_types is 3; give a list"),
        ({"template_types": [3]}, "unknown template type '3'"),
    ],
)
def test_wrong_arguments_of_register(settings: dict[str, Any], said: str):
    given = {
        "name": "a.b",
        "source": flanx.Jsonl(train="x"),
        "fields": {"q": "q"},
        "templates": [flanx.Template("{q}", "{q}")],
        **settings,
    }
    with pytest.raises(flanx.UserError) as caught:
        flanx.register(given.pop("name"), **given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FewShot(pool=0), "pool must be at least 1"),
        (lambda: FewShot(max_exemplars=2.5), "2.5 is no whole number"),
        (lambda: FewShot(items="{q}"), "items is '{q}'; give a list"),
        (lambda: FewShot(own=3), "own is 3; give a list"),
        (lambda: flanx.Template(3, "{q}"), "inputs is 3; give a text"),
        (lambda: flanx.Template("{q}", "{q}", exemplars="{q}"), "exemplars is '{q}'; give a list"),
    ],
)
def test_wrong_arguments_of_templates_and_few_shot(make: Any, said: str):
    with pytest.raises(flanx.UserError) as caught:
        make()
    assert said in str(caught.value)


def test_one_template_needs_no_list():
    flanx.register(
        "a.b",
        source=flanx.Jsonl(train="x"),
        fields={"q": "q"},
        templates=flanx.Template("{q}", "{q}"),  # type: ignore[arg-type]
    )
    assert flanx.registry.get_task("a.b.zs_noopt").templates == (flanx.Template("{q}", "{q}"),)
