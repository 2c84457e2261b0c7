"""Natural Instructions: names, counts, TF-free registration, and rendering of the real task files."""

import subprocess
import sys
from collections import Counter

import pytest

from flanx.data import vocabulary
from flanx.errors import UserError
from flanx.registry import Dropped, dataset_names, get_task, load_for, resolve
from flanx.tasks import niv2

load_for("niv2.train")

LENGTHS = {"inputs": 1024, "targets": 256}


def test_the_names_are_the_official_ones():
    names = [name for name, _, _ in niv2.tasks()]
    assert len(names) == len(set(names)) == 1613
    assert Counter(split for _, split, _ in niv2.tasks()) == {
        "train": 756,
        "test": 119,
        "excluded": 738,
    }
    assert all(name.startswith("task") and category for name, _, category in niv2.tasks())


def test_tasks_are_keyed_by_full_name():
    numbered = [name for name, _, _ in niv2.tasks() if name.startswith("task861_")]
    assert numbered == [
        "task861_asdiv_addsub_question_answering",
        "task861_prost_mcq_answers_generation",
    ]
    assert set(map(niv2.dataset, numbered)) <= set(dataset_names("niv2.*"))
    assert len(dataset_names("niv2.*")) == 1613  # no two become one when hyphens become underscores


def test_names_agree_with_the_split_lists(shared_data):
    for split in ("train", "test"):
        official = shared_data / f"natural-instructions/splits/official_default/{split}_tasks.txt"
        ours = {name for name, its_split, _ in niv2.tasks() if its_split == split}
        assert ours == set(official.read_text().split())


def test_every_file_here_has_its_dataset(shared_data):
    files = {path.stem for path in (shared_data / "natural-instructions/tasks").glob("*.json")}
    assert len(files) == 171
    assert files <= {name for name, _, _ in niv2.tasks()}


def test_registration_imports_no_tensorflow():
    code = (
        "import sys, flanx.tasks.niv2, flanx.mixtures.niv2, flanx.tasks.cot, flanx.mixtures.flan2022\n"
        "from flanx.registry import task_names\n"
        "assert len(task_names('niv2.*')) == 2 * 1613\n"
        "heavy = {'tensorflow', 'seqio', 'jax', 'pyarrow', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_follow_the_category():
    rouge = "flanx.evaluation.metrics:rouge_l"
    exact = "flanx.evaluation.metrics:exact_match"
    generation = get_task("niv2.task001_quoref_question_generation.zs_opt")
    labels = get_task("niv2.task069_abductivenli_classification.zs_opt")
    assert generation.metrics == (rouge,)
    assert labels.metrics == (rouge, exact)
    assert {niv2.answers_with_labels(name) for name in ("Textual Entailment", "Word Analogy")} == {
        True
    }
    assert not niv2.answers_with_labels("Question Rewriting")


def test_templates_are_many_and_complete():
    assert len(niv2.TEMPLATES) >= 6
    assert len({template.inputs for template in niv2.TEMPLATES}) == len(niv2.TEMPLATES)
    for template in niv2.TEMPLATES:
        assert template.fields == {"definition", "input", "output"}
        assert "exemplars_" in template.input_fields
        plain, explained = template.exemplars
        assert "{explanation}" not in plain
        assert "{explanation}" in explained


@pytest.mark.parametrize(
    ("task", "split", "folder"),
    [
        ("task094_conala_calculate_mean", "train", "natural-instructions"),
        ("task048_multirc_question_generation", "train", "natural-instructions"),
        ("task1622_disfl_qa_text_modication", "test", ""),
        ("task709_mmmlu_answer_generation_high_school_psychology", "validation", ""),
        ("task603_wikitext-103_fill_in_the_blank", "train", ""),
    ],
)
def test_zero_shot_holds_definition_and_input(shared_data, task, split, folder):
    spec = get_task(f"{niv2.dataset(task)}.zs_opt")
    examples = list(spec.render(split, data_dir=str(shared_data / folder), max_examples=40))
    rows = list(spec.source.rows(split, str(shared_data / folder)))
    assert len(examples) == min(len(rows), 40) > 0
    for example, row in zip(examples, rows, strict=False):
        assert not isinstance(example, Dropped)
        assert row["definition"].strip() in example.inputs
        assert row["input"].strip() in example.inputs
        assert example.targets in example.references
        assert set(example.references) == {output.strip() for output in row["output"]}


def test_two_shot_shows_the_first_two_positive_examples(shared_data):
    spec = get_task("niv2.task081_piqa_wrong_answer_generation.fs_opt")
    explained = 0
    examples = list(spec.render("train", data_dir=str(shared_data)))
    positives = next(spec.source.rows("train", str(shared_data)))["positive_examples"]
    for example in examples:
        assert not isinstance(example, Dropped)
        for positive in positives[:2]:
            assert positive["input"].strip() in example.inputs
        assert positives[2]["input"].strip() not in example.inputs
        shown = [positive["explanation"].strip() in example.inputs for positive in positives[:2]]
        assert shown[0] == shown[1]
        explained += shown[0]
    assert len(examples) / 4 < explained < len(examples) * 3 / 4
    assert {example.template for example in examples} == set(range(len(niv2.TEMPLATES)))


def test_examples_without_explanations_are_shown_plain(shared_data):
    spec = get_task("niv2.task709_mmmlu_answer_generation_high_school_psychology.fs_opt")
    for example in spec.render("train", data_dir=str(shared_data)):
        assert not isinstance(example, Dropped)
        assert not any(
            word in example.inputs for word in ("Explanation:", "Reason:", "Why:", "Note:")
        )


def test_two_shot_keeps_to_the_inputs_length(shared_data):
    words = vocabulary.load(str(shared_data / "vocab/t5_v1_1_cc_all_32000/spiece.model"))
    spec = get_task("niv2.task048_multirc_question_generation.fs_opt")
    made = list(
        spec.render("train", data_dir=str(shared_data), vocabulary=words, feature_lengths=LENGTHS)
    )
    lengths = [len(words.encode(one.inputs)) + 1 for one in made if not isinstance(one, Dropped)]
    assert lengths
    assert max(lengths) <= LENGTHS["inputs"]
    assert {one.reason for one in made if isinstance(one, Dropped)} <= {
        "no exemplar fits the inputs"
    }


def test_test_tasks_have_their_first_hundred_instances(shared_data):
    selected = resolve(
        "niv2.test", split="test", data_dir=str(shared_data), template_types="zs_opt"
    )
    counts = {one.spec.count("test", str(shared_data)) for one in selected}
    assert len(selected) == 11
    assert max(counts) == 100
    assert all(one.spec.splits == ("test",) for one in selected)


def test_a_missing_file_names_the_places_looked_in(tmp_path):
    spec = get_task("niv2.task001_quoref_question_generation.zs_opt")
    with pytest.raises(
        UserError, match=r"task001_quoref_question_generation.json.*natural-instructions/tasks"
    ):
        list(spec.render("train", data_dir=str(tmp_path)))
