"""Chain of thought: the sets, their forms, and rendering of the real files."""

import pytest

from flanx.errors import UserError
from flanx.evaluation.postprocess import after_the_answer_is
from flanx.registry import Dropped, dataset_names, get_task, load_for
from flanx.tasks import cot

load_for("cot")

HERE = ("aqua", "creak", "ecqa", "gsm8k", "qasc", "strategyqa")


def _render(shared_data, task, split="validation", count=60):
    made = list(get_task(task).render(split, data_dir=str(shared_data), max_examples=count))
    assert made
    assert not any(isinstance(one, Dropped) for one in made)
    return made


def test_nine_sets_each_with_and_without_rationale():
    names = set(cot.SETS)
    assert names == {*HERE, "esnli", "qed", "sensemaking"}
    assert set(dataset_names("cot.*")) == {
        f"cot.{n}{form}" for n in names for form in ("", "_direct")
    }
    assert len(set(cot.SETS.values())) == 9


def test_every_form_has_six_templates_or_more():
    inverted = (
        cot.ASK_QUESTION,
        cot.ASK_RATIONALE,
        cot.ASK_QUESTION_AND_ANSWER,
        cot.ASK_QUESTION_AND_RATIONALE,
    )
    for templates in (cot.WITH_RATIONALE, cot.ANSWER_ONLY, *inverted):
        assert len(templates) >= 6
        assert len(set(templates)) == len(templates)


def test_inversions_ask_for_what_they_do_not_show():
    for template in cot.INVERTED:
        assert not template.input_fields & template.target_fields
        assert template.input_fields | template.target_fields == {
            "question",
            "rationale",
            "answer",
        } or (template.input_fields == {"answer"})


@pytest.mark.parametrize("name", HERE)
def test_the_answer_is_found_after_the_rationale(shared_data, name):
    spec = get_task(f"cot.{name}.zs_opt")
    rows = spec.source.rows("validation", str(shared_data))
    for example, row in zip(_render(shared_data, spec.name), rows, strict=False):
        assert row["rationale"].strip() in example.inputs + example.targets
        assert after_the_answer_is(example.targets) == after_the_answer_is(row["answer"].strip())
        assert row["question"].strip() in example.inputs


@pytest.mark.parametrize("name", HERE)
def test_answer_only_asks_for_the_answer_alone(shared_data, name):
    spec = get_task(f"cot.{name}_direct.zs_opt")
    rows = spec.source.rows("validation", str(shared_data))
    for example, row in zip(_render(shared_data, spec.name), rows, strict=False):
        assert example.targets == row["answer"].strip()
        assert row["rationale"].strip() not in example.inputs


def test_line_breaks_are_line_breaks(shared_data):
    example = _render(shared_data, "cot.aqua_direct.zs_opt")[0]
    assert "\nOptions:\n(A)" in example.inputs
    assert "\\n" not in example.inputs


def test_held_out_questions_are_the_same_in_both_datasets_and_in_no_train_split(shared_data):
    for name in HERE:
        with_rationale = get_task(f"cot.{name}.zs_opt").source
        direct = get_task(f"cot.{name}_direct.zs_opt").source
        held = [row["question"] for row in with_rationale.rows("validation", str(shared_data))]
        assert held == [row["question"] for row in direct.rows("validation", str(shared_data))]
        train = {row["question"] for row in with_rationale.rows("train", str(shared_data))}
        assert not train & set(held)
        assert 0.03 < len(held) / (len(held) + len(train)) < 0.07


@pytest.mark.parametrize("folder", ["", "flan/v2", "flan/v2/cot_data"])
def test_files_are_found_in_three_folders(shared_data, folder):
    spec = get_task("cot.qasc.zs_opt")
    (file,) = spec.files("train", str(shared_data / folder))
    assert file.endswith("flan/v2/cot_data/qasc_train.tsv")


def test_a_missing_file_is_named(shared_data):
    with pytest.raises(UserError, match=r"esnli_train.tsv.*'cot_data', 'flan/v2/cot_data'"):
        list(get_task("cot.esnli.zs_opt").render("train", data_dir=str(shared_data)))


def test_a_wrong_number_of_columns_is_named_by_line(tmp_path):
    (tmp_path / "gsm8k_train.tsv").write_text("How many?\t3\tOne and two.\nHow much?\t4\n")
    with pytest.raises(UserError, match=r"gsm8k_train.tsv:2: 2 columns where 3 are expected"):
        list(get_task("cot.gsm8k.zs_opt").source.rows("train", str(tmp_path)))
