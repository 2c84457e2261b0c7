"""The playground: every task renders, its answers are right, and what is held out stays so."""

import itertools
import re

import pytest

import flanx.mixtures.playground  # noqa: F401
from flanx.data import vocabulary
from flanx.registry import get_task, resolve, task_names
from flanx.registry.rendering.renderer import Rendered
from flanx.tasks import playground, playground_corpus
from flanx.tasks.playground_parts import (
    corpus,
    lists,
    make_vocabulary,
    statements,
    stories,
    word_forms,
)
from flanx.tasks.playground_parts.every import EXERCISES
from flanx.tasks.playground_parts.words import KIND_OF, KINDS, OPPOSITES, ORDERS

LENGTHS = {"inputs": 64, "targets": 24}
TEXT_LENGTHS = {"inputs": 64, "targets": 32}
ZERO_SHOT = {"zs_opt": 1.0, "zs_noopt": 1.0, "inv": 0.3}
DIRECT = [one for one in EXERCISES if one.target == "{answer}"]


@pytest.fixture(scope="module")
def pieces():
    return vocabulary.load(playground.VOCABULARY)


def rows(exercise, split, count):
    there = exercise.rows[split == "validation"]
    return [exercise.row(split, index) for index in range(min(count, there))]


def test_there_are_enough_tasks_categories_and_templates():
    assert len(EXERCISES) >= 48
    assert len({one.name for one in EXERCISES}) == len(EXERCISES)
    assert len({one.category for one in EXERCISES}) >= 8
    assert min(len(set(one.prompts)) for one in EXERCISES) >= 6
    assert {"zs_opt", "zs_noopt", "inv"} <= {
        get_task(name).type for name in task_names("playground.*")
    }


def test_every_task_renders_within_the_lengths_and_without_unknown_pieces(pieces):
    for name in task_names("playground.*"):
        task = get_task(name)
        if task.is_few_shot:
            continue
        split = "train" if "train" in task.splits else "validation"
        for example in task.render(split, max_examples=12):
            assert isinstance(example, Rendered), (name, example)
            inputs, targets = pieces.encode(example.inputs), pieces.encode(example.targets)
            assert len(inputs) < LENGTHS["inputs"], example
            assert len(targets) < LENGTHS["targets"], example
            assert pieces.unk_id not in inputs + targets
            assert pieces.decode(targets) == example.targets


def test_train_and_validation_share_no_question():
    for one in EXERCISES:
        if one.held_out:
            continue
        asked = {
            split: {row["key"] for row in rows(one, split, 150)}
            for split in ("train", "validation")
        }
        assert asked["validation"], one.name
        assert len(rows(one, "validation", 100)) == len(
            {row["key"] for row in rows(one, "validation", 100)}
        )
        assert not asked["train"] & asked["validation"], one.name


def test_explained_tasks_share_the_splits_of_the_plain_ones():
    for one in EXERCISES:
        if one.rows_of:
            plain = next(other for other in EXERCISES if other.name == one.rows_of)
            assert rows(one, "validation", 20) == rows(plain, "validation", 20)


def test_held_out_tasks_are_in_no_training_mixture_and_have_no_train_rows():
    trained = {one.dataset for one in resolve("playground", template_types=ZERO_SHOT)}
    held_out = {one.dataset for one in resolve("playground.held_out", split="validation")}
    assert held_out == set(playground.HELD_OUT)
    assert len(held_out) >= 10
    assert not trained & held_out
    assert len(trained) >= 48
    for name in playground.HELD_OUT:
        assert get_task(f"{name}.zs_noopt").splits == ("validation",)


def test_held_out_cells_share_row_and_column_with_trained_ones():
    for operation, (trained, held_out) in lists.GRID.items():
        assert trained and not set(trained) & set(held_out), operation
        for kind in held_out:
            assert any(kind in other for other, _ in lists.GRID.values()), kind


def test_the_corpus_says_nothing_of_held_out_cells():
    read = [corpus.row("train", index) for index in range(20_000)]
    text = "\n".join(f"{row['inputs']} -> {row['targets']}" for row in read)
    for operation in ("first", "second", "last"):
        (kind,) = lists.GRID[operation][1]
        assert not re.search(rf"\bthe {operation} {kind}\b", text)
        assert not re.search(rf"of the {kind}s in [a-z ]+ the {operation}\b", text)
    assert f"without the {lists.GRID['drop'][1][0]}s" not in text
    assert f"the number of {lists.GRID['count'][1][0]}s" not in text
    assert f"{lists.GRID['count'][1][0]}s in reverse" not in text
    for word in stories.SUPERLATIVES[1]:
        assert f"the {word} is" not in text
    for operation, spoken in statements.SPOKEN.items():
        assert set(spoken) <= set(lists.GRID[operation][0])
    assert set(statements.SUPERLATIVES) <= set(stories.SUPERLATIVES[0])
    for form, (_, held_out) in word_forms.GRID.items():
        for place in held_out:
            assert f"{word_forms.FORMS[form][1]} the {place} word" not in text
    assert "smallest number" not in text
    assert not re.search(r"\?|What|Which|Give|Tell|Name", text)


def test_the_corpus_fits_and_reads_back(pieces):
    for index in range(500):
        row = corpus.row("validation", index)
        inputs, targets = pieces.encode(row["inputs"]), pieces.encode(row["targets"])
        assert len(inputs) < TEXT_LENGTHS["inputs"] and len(targets) < TEXT_LENGTHS["targets"]
        assert targets and pieces.unk_id not in inputs + targets
    assert playground_corpus.ROWS >= 100_000


def words_of(row):
    return row["text"].split()


def in_kind(row, kind):
    return [word for word in words_of(row) if word in KINDS[kind]]


def test_answers_of_list_tasks_by_another_way():
    for one in DIRECT:
        operation, _, rest = one.name.rpartition("_")
        kind = rest.removesuffix("s")
        if kind not in KINDS or operation == "is":
            continue
        for row in rows(one, "validation", 30):
            found = in_kind(row, kind)
            expected = {
                "first": lambda found=found: found[0],
                "second": lambda found=found: found[1],
                "last": lambda found=found: found[-1],
                "first_not": lambda row=row, found=found: next(
                    word for word in words_of(row) if word not in found
                ),
                "last_not": lambda row=row, found=found: next(
                    word for word in reversed(words_of(row)) if word not in found
                ),
                "keep": lambda found=found: " ".join(found),
                "drop": lambda row=row, found=found: " ".join(
                    itertools.filterfalse(found.__contains__, words_of(row))
                ),
                "count": lambda found=found: str(len(found)),
                "any": lambda found=found: "yes" if found else "no",
                "reverse": lambda found=found: " ".join(reversed(found)),
                "sort": lambda found=found: " ".join(sorted(found)),
            }[operation]()
            assert row["answer"] == expected, (one.name, row)


def test_answers_of_arithmetic_by_another_way():
    by_name = {one.name: one for one in EXERCISES}
    for row in rows(by_name["add"], "validation", 30):
        assert len("x" * row["a"] + "x" * row["b"]) == int(row["answer"])
    for row in rows(by_name["sum_more"], "validation", 30):
        assert row["answer"] == ("yes" if row["a"] > row["c"] - row["b"] else "no")
        assert row["rationale"].endswith(f"than {row['c']}.")
    for row in rows(by_name["add_three_explained"], "validation", 30):
        assert row["rationale"].split()[-1] == f"{row['answer']}."
    for row in rows(by_name["smallest"], "validation", 30):
        assert all(int(row["answer"]) <= int(word) for word in words_of(row))


def test_answers_of_orders_by_another_way():
    """Puts the two sentences together: whoever is never on the lesser side is first, and the other way round."""
    positive = {names[0]: word for word, names in ORDERS.items()}
    negative = {names[2]: word for word, names in ORDERS.items()}
    for one in EXERCISES:
        if one.category != "logic":
            continue
        comparative = positive.get(one.name) or negative.get(one.name)
        if comparative is None:
            continue  # a question about two of them
        for row in rows(one, "validation", 30):
            more, less = set(), set()
            for left, word, right in re.findall(r"(\w+) is (\w+) than (\w+)\.", row["text"]):
                high, low = (left, right) if word == comparative else (right, left)
                more.add(high)
                less.add(low)
            (top,), (bottom,) = more - less, less - more
            assert row["answer"] == (top if one.name in positive else bottom), row


def test_options_hold_the_answer_once():
    for one in EXERCISES:
        for row in rows(one, "validation", 20):
            if "options" in row:
                assert list(row["options"]).count(row["answer"]) == 1, (one.name, row)


def test_the_world_is_consistent():
    assert sum(map(len, KINDS.values())) == len(KIND_OF), "a word of two kinds"
    assert all(OPPOSITES[OPPOSITES[word]] == word for word in OPPOSITES)


def test_the_vocabulary_is_what_its_script_makes(tmp_path, pieces):
    make_vocabulary.main(tmp_path / "vocabulary.model")
    again = vocabulary.load(str(tmp_path / "vocabulary.model"))
    assert again.size == pieces.size <= 1280
    text = "What is the last animal in this list? fox plum Émile 12345 {odd} text"
    assert again.encode(text) == pieces.encode(text)
    assert pieces.decode(pieces.encode(text)) == text
    for word in (*KIND_OF, "animals", "backwards", "yes"):
        assert len(pieces.encode(word)) == 1, word
    assert pieces.encode("<extra_id_0> fox")[0] == pieces.size - 1


def test_the_base_checkpoint_is_small_and_fits_the_vocabulary(pieces):
    from flanx.training import params_io

    folder = params_io.find_params("pkg://flanx.tasks/playground_parts/base")
    facts = params_io.read_facts(folder)
    assert facts["vocabulary"]["fingerprint"] == pieces.fingerprint
    assert facts["model"]["vocab_size"] == pieces.size
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    shapes = params_io.stored_shapes(folder / "params")
    assert shapes[("token_embedder", "embedding")] == (pieces.size, facts["model"]["emb_dim"])
