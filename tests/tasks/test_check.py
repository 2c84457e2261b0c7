"""The faults that `flanx tasks check` finds, each made on purpose, and what it must not take for one."""

import json
from pathlib import Path

import pytest

from flanx.data import vocabulary
from flanx.registry import Generated, Jsonl, Template, isolated, register, specs_of
from flanx.registry.check import check, find
from flanx.registry.leaks import lists_options, names_options
from flanx.registry.rendering import exemplars
from flanx.registry.rendering.options import ENDS, ITEMS, SEPARATORS, STARTS, OptionStyle

OPTIONS = ["red", "dark red", "blue"]
TOKENIZERS = Path(__file__).parents[1] / "data/fixtures/tokenizers"


@pytest.fixture(autouse=True)
def registry():
    with isolated():
        yield


def _row(split, index):
    return {"thing": f"{split} thing {index}", "colour": OPTIONS[index % 3]}


def _fields(row):
    return {"thing": row["thing"], "options": OPTIONS, "answer": row["colour"]}


def _register(templates, source=None, fields=_fields, **settings):
    source = source or Generated(_row, train=120, validation=30)
    register("t.x", source=source, fields=fields, templates=templates, **settings)


def _kinds(**settings):
    return {
        (one.task, one.split, one.kind): one.count for one in check(specs_of("t.x"), **settings)
    }


def _jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_sound_task_has_no_problems():
    _register([Template("{thing}{options_}", "{answer}"), Template("{thing}:", "{answer}")])
    assert _kinds() == {}


def test_labels_in_the_words_of_a_template():
    _register([Template("Red, dark red or blue? {thing}", "{answer}")])
    kind = "labels named by a no-option template"
    assert _kinds() == {
        (f"t.x.{t}", split, kind): n
        for t in ("zs_noopt", "fs_noopt")
        for split, n in (("train", 120), ("validation", 30))
    }


def test_options_that_the_fields_list():
    _register(
        [Template("{thing}", "{answer}")],
        fields=lambda row: {**_fields(row), "thing": f"{row['thing']}\n- " + "\n- ".join(OPTIONS)},
        template_types=["zs_noopt"],
    )
    assert _kinds() == {
        ("t.x.zs_noopt", "train", "options listed in a no-option input"): 120,
        ("t.x.zs_noopt", "validation", "options listed in a no-option input"): 30,
    }


def test_exemplars_that_end_and_answer_with_options_are_no_leak():
    def fields(row):
        return {**_fields(row), "thing": f"Not {OPTIONS[1]} like {row['thing']}: {OPTIONS[2]}"}

    _register([Template("{thing}", "{answer}")], fields=fields, template_types=["fs_noopt"])
    assert _kinds() == {}


def test_options_that_a_question_is_about_are_no_leak():
    _register(
        [Template("Which of red, dark red and blue things is {thing}", "{answer}")],
        fields=lambda row: {"thing": "red or blue?", "answer": row["colour"]},
        source=Generated(_row, train=3),
    )
    assert not any("option" in kind for _, _, kind in _kinds())


def test_a_template_that_shows_what_it_asks_for():
    _register([Template("{thing} is {answer}", "{answer}"), Template("{thing}", "{answer}")])
    found = {kind for _, split, kind in _kinds() if split == ""}
    assert found == {"template shows its target in the inputs"}


def test_a_template_that_no_row_can_use():
    _register(
        [Template("{thing}", "{answer}"), Template("{thing} {hint}", "{answer}")],
        fields=lambda row: {**_fields(row), "hint": ""},
        template_types=["zs_noopt"],
    )
    # An empty field leaves its place empty; a missing one drops the row, and the template is never used.
    assert _kinds() == {}
    with isolated():
        _register(
            [Template("{thing}", "{answer}"), Template("{thing} {hint}", "{answer}")],
            fields=lambda row: {**_fields(row), "hint": None},
            template_types=["zs_noopt"],
        )
        found = _kinds()
    assert ("t.x.zs_noopt", "", "template never used") in found
    assert found["t.x.zs_noopt", "train", "dropped: no hint"] > 20


def test_targets_that_are_empty_or_too_long(tmp_path):
    class Words:
        def encode(self, text):
            return text.split()

    rows = [{"q": "a", "a": "one two three"}, {"q": "b", "a": " "}, {"q": "c", "a": "one two"}]
    register(
        "t.x",
        source=Jsonl(train=_jsonl(tmp_path / "rows.jsonl", rows)),
        fields={"q": "q", "answer": "a"},
        templates=[Template("{q}", "{answer}")],
        template_types=["zs_noopt"],
    )
    lengths = {"inputs": 8, "targets": 3}
    problems = check(specs_of("t.x"), vocabulary=Words(), feature_lengths=lengths)
    by_kind = {one.kind: one for one in problems}
    assert set(by_kind) == {"dropped: empty target", "target longer than 3 tokens"}
    assert by_kind["target longer than 3 tokens"].count == 1
    assert by_kind["target longer than 3 tokens"].example == "'one two three'"
    assert by_kind["dropped: empty target"].example == f"{tmp_path / 'rows.jsonl'}:2"
    assert "dropped: empty target: 1, for instance" in str(by_kind["dropped: empty target"])


def test_duplicates_and_train_rows_in_validation(tmp_path):
    train = [{"thing": "a", "colour": "red"}, {"thing": "b", "colour": "blue"}]
    train += [{"thing": "a", "colour": "red"}, {"thing": "a", "colour": "blue"}]
    validation = [{"thing": "b", "colour": "red"}, {"thing": "new", "colour": "red"}]
    source = Jsonl(
        train=_jsonl(tmp_path / "train.jsonl", train),
        validation=_jsonl(tmp_path / "validation.jsonl", validation),
    )
    _register([Template("{thing}", "{answer}")], source=source, template_types=["zs_noopt"])
    problems = {one.kind: one for one in check(specs_of("t.x"))}
    assert set(problems) == {"duplicate row", "train row"}
    assert (problems["duplicate row"].count, problems["duplicate row"].split) == (1, "train")
    assert problems["duplicate row"].example.endswith("train.jsonl:3")
    assert (problems["train row"].count, problems["train row"].split) == (1, "validation")
    assert problems["train row"].example.endswith("validation.jsonl:1")


def test_find_takes_a_name():
    _register([Template("Red, dark red or blue? {thing}", "{answer}")])
    assert {one.task for one in find("t.x.zs_noopt")} == {"t.x.zs_noopt"}


@pytest.mark.parametrize("item", ITEMS)
def test_every_option_style_is_seen_as_a_list(item):
    for start in STARTS:
        for separator in SEPARATORS:
            style = OptionStyle(start, item, separator, ENDS[0], False)
            text = "A red thing." + style.block(OPTIONS, with_end=False) + "\nWell?"
            assert lists_options(text, OPTIONS), text


def test_words_in_running_text_are_no_list():
    assert not lists_options("Is it red, dark red or blue?", OPTIONS)
    assert not lists_options("Q: x\nA: red\n\nQ: y\nA: dark red\n\nQ: z\nA: blue\n\nQ: w", OPTIONS)
    assert not lists_options("3 or 4", ["3", "4"])
    assert not lists_options("- red", ["red"])
    assert not lists_options("\n- red\n- blue", OPTIONS)


def test_phrases_are_found_whole():
    assert names_options("blue, red and dark red", OPTIONS)
    assert not names_options("blue and dark red", OPTIONS)
    assert not names_options("bluered, dark red", OPTIONS)
    assert not names_options("", [])


def _from_file(name, path, fields=None):
    register(
        name,
        source=Jsonl(train=str(path)),
        fields=fields or {"q": "q", "answer": "a"},
        templates=[Template("{q}", "{answer}")],
        template_types=["zs_noopt"],
    )


def test_broken_files_do_not_stop_the_others(tmp_path):
    (tmp_path / "cut.jsonl").write_text('{"q": "x", "a": "y"}\n{"q": "x", "a"')
    (tmp_path / "latin.jsonl").write_bytes('{"q": "é", "a": "y"}\n'.encode("latin-1"))
    (tmp_path / "fine.jsonl").write_text('{"q": "x", "a": "y"}\n{"q": "x", "a": "y"}\n')
    for name in ("cut", "latin", "fine"):
        _from_file(f"t.{name}", tmp_path / f"{name}.jsonl")
    found = {(one.task, one.kind): one for one in check(specs_of("t.*"))}
    assert set(found) == {
        ("t.cut", "cannot be read"),
        ("t.latin", "cannot be read"),
        ("t.fine", "duplicate row"),
    }
    assert "cut.jsonl:2: " in found["t.cut", "cannot be read"].example
    assert "latin.jsonl:1: not UTF-8" in found["t.latin", "cannot be read"].example


def test_odd_rows_are_counted_and_the_others_checked(tmp_path):
    rows = [{"q": str(i), "a": {"text": "k"} if i % 3 == 1 else "k"} for i in range(9)]
    rows += [{"q": "no answer"}, {"q": "", "a": "k"}, {"q": "8", "a": "k"}]
    path = _jsonl(tmp_path / "rows.jsonl", rows)

    def fields(row):
        options = "k, l" if row["q"] == "2" else ["k", "l"]
        return {"q": row["q"], "answer": row["a"], "options": options} if row["q"] else None

    _from_file("t.odd", path, fields)
    found = {(one.task, one.kind): one for one in check(specs_of("t.odd"))}
    odd = found["t.odd", "answer is a dict with the keys 'text'"]
    assert odd.count == 3
    assert f"{path}:2: task 't.odd'" in odd.example
    assert found["t.odd", "options is a text, not a list"].count == 1
    assert found["t.odd", "no field 'a'"].count == 1
    assert found["t.odd", "duplicate row"].count == 1
    assert found["t.odd.zs_noopt", "dropped: left out by `fields`"].example == f"{path}:11"
    assert len(found) == 5


def test_targets_with_pieces_that_the_vocabulary_lacks(tmp_path):
    class Letters:
        unk_id = 2

        def encode(self, text):
            return [ord(one) if one.isalpha() else 2 for one in text if one != " "]

    rows = [{"q": "a", "a": "f {x}"}, {"q": "b", "a": "all known"}, {"q": "c", "a": "<"}]
    _from_file("t.code", _jsonl(tmp_path / "rows.jsonl", rows))
    _from_file("t.words", _jsonl(tmp_path / "words.jsonl", rows[1:2]))
    (problem,) = check(specs_of("t.*"), vocabulary=Letters())
    assert (problem.task, problem.split, problem.count) == ("t.code.zs_noopt", "train", 2)
    assert problem.kind.startswith("target with pieces unknown to the vocabulary")
    assert problem.example == repr("'{' '}' in f {x}")


def test_characters_that_the_vocabulary_cannot_write_are_counted_by_task(tmp_path):
    rows = [{"q": f"a{i}\n{{x}}", "a": "{"} for i in range(700)]
    _from_file("t.code", _jsonl(tmp_path / "rows.jsonl", rows))
    _from_file("t.words", _jsonl(tmp_path / "words.jsonl", [{"q": "one", "a": "two"}]))
    unwritable = {}
    words = vocabulary.load(str(TOKENIZERS / "t5"))
    check(specs_of("t.*"), vocabulary=words, unwritable=unwritable, max_examples=None)
    assert unwritable["t.words.zs_noopt"].characters == 0
    found = unwritable["t.code.zs_noopt"]
    assert found.commonest["{"] == 1400 and found.commonest["\n"] == 700
    assert found.characters == sum(found.commonest.values())


def test_a_tokeniser_that_only_encodes_is_not_asked_what_it_loses(tmp_path):
    class Letters:
        def encode(self, text):
            return list(map(ord, text))

    _from_file("t.code", _jsonl(tmp_path / "rows.jsonl", [{"q": "{", "a": "b"}]))
    unwritable = {}
    check(specs_of("t.code"), vocabulary=Letters(), unwritable=unwritable)
    assert unwritable == {}


def test_a_bad_exemplar_is_one_problem_and_read_once(tmp_path, monkeypatch):
    """A few-shot task whose train split has one row that cannot be rendered: every question meets it again."""
    rows = [{"q": str(i), "a": "k"} for i in range(40)]
    del rows[3]["a"]
    path = _jsonl(tmp_path / "rows.jsonl", rows)
    register(
        "t.shots",
        source=Jsonl(train=str(path), validation=str(_jsonl(tmp_path / "val.jsonl", rows[10:30]))),
        fields=lambda row: {"q": row["q"], "answer": row["a"]},
        templates=[Template("{q}?", "{answer}")],
        template_types=("fs_noopt",),
    )
    reads = []
    read_pool = exemplars.read_pool
    monkeypatch.setattr(
        exemplars, "read_pool", lambda *a, **k: reads.append(1) or read_pool(*a, **k)
    )
    found = check(specs_of("t.shots"))
    kinds = {(one.task, one.split): one.count for one in found if one.kind == "no field 'a'"}
    assert kinds[("t.shots.fs_noopt", "validation")] == 1
    assert len(reads) == 2  # one for each split
