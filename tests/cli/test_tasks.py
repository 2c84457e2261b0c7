"""`flanx tasks`: what each action prints, its exit status, and every message."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flanx.cli import main as cli
from flanx.cli import tasks
from flanx.cli.task_panels import visible
from flanx.errors import UserError
from flanx.registry import Generated, Jsonl, Template, isolated, load_for, register

for _name in ("niv2.train", "cot"):
    load_for(_name)


def flanx_tasks(*argv):
    parser = argparse.ArgumentParser()
    tasks.add_arguments(parser)
    return tasks.run(parser.parse_args([str(word) for word in argv]))


@pytest.fixture
def registry():
    with isolated():
        yield


def _labels(split, index):
    word = ("good", "bad")[index % 2]
    return {"text": f"{split} sentence {index} is fine", "label": word}


def _register(name, templates, rows=None, **settings):
    rows = rows or Generated(_labels, train=80, validation=20)
    register(
        name,
        source=rows,
        fields=lambda row: {
            "text": row["text"],
            "options": ["good", "bad"],
            "answer": row["label"],
        },
        templates=templates,
        **settings,
    )


# --- list


def test_list_prints_a_line_a_dataset(capsys):
    assert flanx_tasks("list", "cot.qasc*") == 0
    assert capsys.readouterr().out.splitlines() == [
        "dataset\ttypes\tcategory\tsplits",
        "cot.qasc\tzs_opt fs_opt inv\tscience question answering\ttrain validation",
        "cot.qasc_direct\tzs_opt fs_opt\tscience question answering\ttrain validation",
    ]


def test_list_counts_where_the_data_is(capsys, shared_data):
    assert flanx_tasks("list", "cot.*_direct", "--count", "--data_dir", shared_data) == 0
    lines = dict(line.split("\t")[::3] for line in capsys.readouterr().out.splitlines())
    assert lines["cot.qasc_direct"] == "train 935 validation 42"
    assert lines["cot.esnli_direct"] == "no data here"


def test_list_of_a_mixture_shows_its_parts(capsys):
    assert flanx_tasks("list", "cot.inverted") == 0
    out = capsys.readouterr().out
    assert "mixture\tparts" in out
    assert "cot.inverted\tcot.aqua.inv cot.creak.inv cot.ecqa.inv cot.esnli.inv and 5 more" in out


def test_list_on_a_terminal_is_a_table(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert flanx_tasks("list", "cot.qasc*") == 0
    out = capsys.readouterr().out
    assert "\t" not in out
    assert "cot.qasc_direct" in out


def test_list_of_all_of_natural_instructions(capsys):
    assert flanx_tasks("list", "niv2.*") == 0
    datasets, mixtures = capsys.readouterr().out.split("\n\n")
    assert len(datasets.splitlines()) == 1614
    assert [line.split("\t")[0] for line in mixtures.splitlines()] == [
        "mixture",
        "niv2.test",
        "niv2.train",
    ]


def test_list_of_a_glob_of_mixtures_alone(capsys):
    assert flanx_tasks("list", "flan2022.*") == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        "mixture",
        "flan2022.niv2_cot",
        "flan2022.niv2_cot_scaling",
    ]


def test_a_glob_that_matches_nothing_offers_the_nearest():
    with pytest.raises(
        UserError, match=r"'cot.gsm8' matches no task or mixture; did you mean 'cot.gsm8k'"
    ):
        flanx_tasks("list", "cot.gsm8")


# --- show


def test_show_sets_inputs_and_targets_apart(capsys, shared_data):
    assert flanx_tasks("show", "cot.gsm8k_direct", "-n", 2, "--data_dir", shared_data) == 0
    out = capsys.readouterr().out
    assert (
        out.count("cot.gsm8k_direct.zs_opt  train")
        == out.count("cot.gsm8k_direct.fs_opt  train")
        == 2
    )
    assert out.count(" targets ") == 4
    assert "of 8" in out
    assert "tokens" not in out


def test_show_counts_tokens_with_a_vocabulary(capsys, shared_data):
    model = shared_data / "vocab/t5_v1_1_cc_all_32000/spiece.model"
    argv = ["show", "niv2.task094_conala_calculate_mean", "-n", 1, "--type", "fs_opt"]
    argv += ["--split", "validation", "--data_dir", shared_data, "--vocabulary", model]
    assert flanx_tasks(*argv) == 0
    out = capsys.readouterr().out
    assert "niv2.task094_conala_calculate_mean.fs_opt  validation" in out
    assert "zs_opt" not in out
    assert " tokens" in out


def test_show_depends_on_the_seed(capsys, shared_data):
    shown = []
    for seed in (0, 0, 1):
        flanx_tasks("show", "cot.gsm8k", "--data_dir", shared_data, "--seed", seed)
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] != shown[2]


def test_show_lists_further_references(capsys, shared_data):
    argv = ["show", "niv2.task048_multirc_question_generation", "-n", 1, "--type", "zs_opt"]
    assert flanx_tasks(*argv, "--data_dir", shared_data) == 0
    out = capsys.readouterr().out
    assert "other references" in out
    assert "more" in out


def test_invisible_characters_are_made_visible():
    assert (
        visible("a\tb\u00a0\n ends  \nc\u2028\x00").plain == "a→\tb\\xa0⏎\n ends··⏎\nc\\u2028\\x00"
    )
    assert visible("").plain == "(empty)"
    assert visible("Straße 東京 [bold]x[/]").plain == "Straße 東京 [bold]x[/]"


def test_show_says_what_it_passed_over(capsys, registry, tmp_path):
    rows = [{"text": "one", "label": ""}, {"text": "two", "label": "good"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    register(
        "mine.rows",
        source=Jsonl(train="rows.jsonl"),
        fields={"text": "text", "answer": "label"},
        templates=[Template("{text}?", "{answer}")],
        template_types=["zs_noopt"],
    )
    assert flanx_tasks("show", "mine.rows", "--data_dir", tmp_path) == 0
    out = capsys.readouterr().out
    assert "two?" in out
    assert "mine.rows.zs_noopt train: 1 rows passed over: empty target" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["show", "cot.*"], "'cot.*' is 18 datasets; show one of them, for instance 'cot.aqua'"),
        (
            ["show", "cot.gsm8k", "--type", "fs_noopt"],
            "has no such template type (it has zs_opt, fs_opt, inv)",
        ),
        (["show", "cot.gsm8k", "--split", "test"], "has no such split (it has train, validation)"),
        (["show", "cot.gsm8k", "-n", "0"], "-n 0: show at least 1 example"),
        (
            ["show", "cot.gsm8k", "--feature_lengths", "9"],
            "--feature_lengths=9: write name=length pairs",
        ),
        (["show", "cot.gsmk"], "'cot.gsmk' matches no task or mixture; did you mean 'cot.gsm8k'"),
        (["check", "cot.*", "--max_examples", "-1"], "--max_examples -1: give a number, or 0"),
        (["list", "x.*", "--import", "no_such_module"], "--import no_such_module: no such module"),
    ],
)
def test_mistakes_are_named(argv, message):
    with pytest.raises(UserError) as caught:
        flanx_tasks(*argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_show_without_data_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no such file or folder: 'gsm8k_train\.tsv'"):
        flanx_tasks("show", "cot.gsm8k", "--data_dir", tmp_path)


# --- check


def test_check_of_a_sound_task_finds_nothing(capsys, registry):
    _register(
        "mine.sound",
        [Template("{text}{options_}", "{answer}"), Template("Judge: {text}", "{answer}")],
    )
    assert flanx_tasks("check", "mine.*") == 0
    assert capsys.readouterr().out == "4 tasks of 1 dataset: nothing found\n"


def test_check_prints_counts_and_examples(capsys, registry):
    _register("mine.leaky", [Template("Is it good or bad? {text}", "{answer}")])
    assert flanx_tasks("check", "mine.leaky") == 1
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["task", "split", "problem", "count", "for instance"]
    assert lines[1][:4] == [
        "mine.leaky.zs_noopt",
        "train",
        "labels named by a no-option template",
        "80",
    ]
    assert "Is it good or bad? train sentence 0" in lines[1][4]
    assert lines[-1] == ["2 tasks of 1 dataset: 4 problems"]


def test_check_names_the_characters_that_the_vocabulary_loses(capsys, registry):
    words = Path(__file__).parents[1] / "data/fixtures/tokenizers/t5"
    _register("mine.braces", [Template("{{\nJudge: {text}", "{answer}")])
    assert flanx_tasks("check", "mine.braces.zs_noopt", "--vocabulary", words) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["task", "characters", "vocabulary"]
    task, characters, lost = lines[1]
    assert task == "mine.braces.zs_noopt" and int(characters) >= 200
    assert lost.startswith("loses ") and {'"\\n" (100)', '"{" (100)'} <= set(lost[6:].split(", "))
    assert lines[-1] == ["1 task of 1 dataset: nothing found"]


def test_check_keeps_to_max_examples(capsys, registry):
    _register("mine.leaky", [Template("Is it good or bad? {text}", "{answer}")])
    flanx_tasks("check", "mine.leaky.zs_noopt", "--max_examples", 7)
    assert "\ttrain\tlabels named by a no-option template\t7\t" in capsys.readouterr().out


def test_check_of_real_data_finds_its_duplicate(capsys, shared_data):
    assert flanx_tasks("check", "cot.strategyqa", "--data_dir", shared_data) == 1
    out = capsys.readouterr().out
    assert "cot.strategyqa\ttrain\tduplicate row\t1\t" in out
    assert "strategyqa_train.tsv:" in out
    assert out.endswith("3 tasks of 1 dataset: 1 problem\n")


def test_check_leaves_out_what_has_no_data_and_says_so(capsys, shared_data):
    assert (
        flanx_tasks("check", "cot.*_direct", "--data_dir", shared_data, "--max_examples", 20) == 1
    )
    missing = 9 - len(list((shared_data / "flan/v2/cot_data").glob("*_train.tsv")))
    assert f"cot.*_direct: {missing} datasets without data here left out" in capsys.readouterr().err


def test_check_without_any_data_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"'cot.\*': none of its 18 datasets is there: no such file"
    ):
        flanx_tasks("check", "cot.*", "--data_dir", tmp_path)


# --- new


def test_new_writes_a_task_that_runs_and_a_test_that_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert flanx_tasks("new", "letters.triage") == 0
    assert "wrote letters.py" in capsys.readouterr().out
    flanx = [sys.executable, "-m", "flanx", "tasks"]
    show = subprocess.run(
        [*flanx, "show", "letters.triage", "--import", "letters"], capture_output=True, text=True
    )
    assert show.returncode == 0, show.stderr
    assert "letters.triage.inv  train 0" in show.stdout
    check = subprocess.run(
        [*flanx, "check", "letters.triage", "--import", "letters"], capture_output=True, text=True
    )
    assert (check.returncode, check.stdout) == (0, "5 tasks of 1 dataset: nothing found\n")
    test = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_letters.py"],
        capture_output=True,
        text=True,
    )
    assert test.returncode == 0, test.stdout
    assert "2 passed" in test.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("triage", "'triage' is no name for a new dataset: write collection.dataset"),
        ("a.b.c", "'a.b.c' is no name"),
        ("my-tickets.triage", "'my-tickets.triage' is no name"),
        ("class.triage", "'class.triage' is no name"),
        ("json.rows", "'json' is the name of a Python module that is installed here"),
    ],
)
def test_new_refuses_a_name_that_cannot_be(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        flanx_tasks("new", name)
    assert not list(tmp_path.iterdir())


def test_new_never_overwrites(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters.py").write_text("# mine\n")
    with pytest.raises(
        UserError, match=r"letters\.py is there already: add a second flanx\.register call"
    ):
        flanx_tasks("new", "letters.triage")
    assert (tmp_path / "letters.py").read_text() == "# mine\n"


# --- the command


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["list", "--help"], ["show", "--help"], ["check", "--help"], ["new", "--help"]],
)
def test_every_help_has_an_example(capsys, argv):
    with pytest.raises(SystemExit) as left:
        cli.main(["tasks", *argv])
    assert left.value.code == 0
    assert "examples:\n  flanx tasks " in capsys.readouterr().out


def test_a_mistake_exits_with_2_and_one_line(capsys):
    assert cli.main(["tasks", "show", "cot.gsmk"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "flanx tasks: name 'cot.gsmk' matches no task or mixture; did you mean 'cot.gsm8k'?"
    ]


def test_the_module_itself_is_light():
    importlib.import_module("flanx.cli.tasks")
    code = (
        "import sys, flanx.cli.tasks\n"
        "assert not {'rich', 'flanx.registry', 'jax', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
