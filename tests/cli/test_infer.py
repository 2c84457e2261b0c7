"""`flanx infer`: a prompt, a JSONL file, a task's examples, and mistakes."""

import dataclasses
import errno
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from flanx.cli.main import main
from flanx.errors import UserError


def _jsonl(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


@pytest.fixture
def questions(tmp_path):
    rows = [{"id": i, "inputs": f"First letter of {'ox' * (i % 7)}?"} for i in range(9)]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, rows


def test_file_answers_are_those_of_each_prompt(trained_run, questions, tmp_path, capsys):
    source, rows = questions
    out = tmp_path / "out.jsonl"
    command = ["infer", str(trained_run), f"--input={source}", f"--output={out}"]
    assert main([*command, "--batch_size=4"]) == 0
    answers = _jsonl(out)
    assert [{k: v for k, v in row.items() if k != "prediction"} for row in answers] == rows
    assert "9 answers in" in capsys.readouterr().err
    for row in answers[:2]:
        assert main(["infer", str(trained_run), "--prompt", row["inputs"]]) == 0
        assert capsys.readouterr().out == row["prediction"] + "\n"


def test_a_question_that_loses_its_end_is_told(trained_run, capsys):
    assert main(["infer", str(trained_run), "--prompt", "word " * 40]) == 0
    assert capsys.readouterr().err == (
        "flanx infer: 1 question beyond 64 tokens lost the end; --max_input_length=N reads more\n"
    )


def test_a_stopped_file_job_goes_on(trained_run, questions, tmp_path, monkeypatch):
    from flanx.evaluation.answering import Answerer

    source, _ = questions
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    command = ["infer", str(trained_run), f"--input={source}", "--batch_size=1"]
    assert main([*command, f"--output={whole}"]) == 0

    asked, real = [], Answerer.answers

    def dying(self, questions):
        for number, found in enumerate(real(self, questions)):
            if number >= 8:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(Answerer, "answers", dying)
    assert main([*command, f"--output={out}"]) == 75  # Ctrl-C
    partial = tmp_path / "out.jsonl.partial"
    kept = partial.read_bytes().count(b"\n")
    assert 0 < kept < 9
    with partial.open("ab") as handle:
        handle.write(b'{"id": 4, "inp')

    def counting(self, questions):
        for found in real(self, questions):
            asked.append(found[0])
            yield found

    monkeypatch.setattr(Answerer, "answers", counting)
    assert main([*command, f"--output={out}"]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(asked) == list(range(kept, 9))


def test_settings_of_the_command_and_of_a_line(trained_run, tmp_path, capsys):
    """Draws depend on the seed and the line's place; a line's own settings replace the command's."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    question = {"inputs": "First letter of bee?"}
    own = [{}, {}, {"seed": 5}, {"temperature": 0}, {"max_length": 1}, {"seed": 5}]
    lines = [{**question, "decoding": settings} if settings else question for settings in own]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["infer", str(trained_run), f"--input={source}", f"--output={out}", "--scores"]
    draw = ["--temperature=3", "--num_samples=2", "--seed=1"]
    assert main([*command, *draw]) == 0
    rows = _jsonl(out)
    assert [{k: row[k] for k in row if k in lines[0] | {"decoding": 0}} for row in rows] == lines
    answers = [row["predictions"] for row in rows]
    assert answers[0] != answers[1]
    assert answers[2] == answers[5]
    assert answers[3][0] == answers[3][1]
    assert all(len(text.encode()) <= 1 for text in answers[4])
    assert all(a < 0 and b < 0 for a, b in (row["log_probabilities"] for row in rows))
    assert main([*command[:2], "--prompt", question["inputs"], *draw[:2], "--seed=5"]) == 0
    assert capsys.readouterr().out.splitlines() == answers[2]
    assert main([*command[:2], "--prompt", question["inputs"], "--scores", "--beams=2"]) == 0
    score, _, text = capsys.readouterr().out.partition("\t")
    assert float(score) >= rows[3]["log_probabilities"][0] - 1e-3
    assert text


def test_from_stdin_to_stdout(trained_run, questions, monkeypatch, capsysbinary):
    source, _ = questions
    command = ["infer", str(trained_run), "--output=-"]
    assert main([*command, f"--input={source}"]) == 0
    from_file = capsysbinary.readouterr().out
    assert [json.loads(line)["id"] for line in from_file.splitlines()] == list(range(9))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes() + b"{\n")))
    assert main([*command, "--input=-", "--skip_bad"]) == 0
    found = capsysbinary.readouterr()
    assert found.out == from_file
    assert b"stdin:10: left out: not valid JSON" in found.err


def test_interactive_through_a_pipe(trained_run, monkeypatch, capsys):
    prompt = "First letter of bee?"
    assert main(["infer", str(trained_run), "--prompt", prompt]) == 0
    answer = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{prompt}\n/set max_length 1\n{prompt}\n"))
    assert main(["infer", str(trained_run), "--interactive"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first + "\n" == answer
    assert len(second) <= 1
    monkeypatch.setattr("sys.stdin", io.StringIO("/set max_length 99\n"))
    assert main(["infer", str(trained_run), "--interactive"]) == 2
    assert "max_length=99 is beyond --max_decode_length=6" in capsys.readouterr().err


def test_a_tasks_examples(trained_run, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    command = ["infer", str(trained_run), "--task=toycli.first.zs_opt", "-n", "3"]
    assert main([*command, f"--output={out}", "--max_decode_length=4"]) == 0
    # The run's own answers to the same examples.
    stored = _jsonl(trained_run / "eval" / "toycli.first.zs_opt-3.jsonl")[:3]
    answers = _jsonl(out)
    for name in ("index", "input", "references", "prediction"):
        assert [row[name] for row in answers] == [row[name] for row in stored]
    assert main([*command, "--split=test"]) == 0
    shown = capsys.readouterr().out
    assert "First letter of ant?" in shown
    assert 'reference:  "' in shown
    assert shown.count("prediction: ") == 3


def test_exported_parameters_answer_too(trained_run, tmp_path, capsys):
    from flanx.evaluation import trained
    from flanx.training import params_io

    opened = trained.open_trained(trained_run)
    facts = params_io.read_facts(opened.folder)
    params_io.export_params(tmp_path / "export", opened.params, "float32", facts)
    prompt = ["--prompt", "First letter of bee?"]
    assert main(["infer", str(trained_run), *prompt]) == 0
    expected = capsys.readouterr().out
    assert main(["infer", str(tmp_path / "export"), *prompt]) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to answer in one way"),
        (["--prompt=a", "--task=b"], "say what to answer in one way"),
        (["--input=in.jsonl"], "--input FILE needs --output FILE"),
        (["--input=x.jsonl", "--output=x.jsonl"], "would overwrite the questions"),
        (["--input=none.jsonl", "--output=o.jsonl"], "no such file: 'none.jsonl' (--input)"),
        (["--prompt=a", "--batch_size=0"], "--batch_size=0: give 1 or more"),
        (["--prompt=a", "--temperature=-1"], "--temperature=-1.0: give a number from 0"),
        (["--prompt=a", "--beams=2", "--temperature=1"], "exclude each other"),
        (["--prompt=a", "--num_samples=2"], "draw them with --temperature=0.7"),
        (["--prompt=a", "--history=2"], "--history needs --interactive"),
        (["--prompt=a", "--output=o.jsonl"], "--output needs --input or --task"),
        (["--prompt=a", "--skip_bad"], "--skip_bad needs --input"),
        (["--task=toycli", "--field=question"], "--field needs --input"),
        (["--input=x.jsonl", "--output=o.jsonl", "-n", "5"], "-n needs --task"),
        (["--prompt=a", "--split=test"], "--split needs --task"),
        (["--prompt=a", "--top_k=3"], "--top_k without --temperature"),
        (["--prompt=a", "--step=1"], "no such checkpoint (it has 3)"),
    ],
)
def test_mistakes_are_one_line(trained_run, capsys, arguments, message):
    assert main(["infer", str(trained_run), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_malformed_line(trained_run, tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"inputs": "a"}\n{"inputs": \n{"inputs": "a", "decoding": {"top": 1}}\n')
    command = ["infer", str(trained_run), f"--input={source}", f"--output={out}"]
    assert main(command) == 2
    assert f"{source}:2: not valid JSON" in capsys.readouterr().err
    assert main([*command, "--skip_bad"]) == 0
    assert f"2 malformed lines are in {out}.bad" in capsys.readouterr().err
    assert _jsonl(tmp_path / "out.jsonl.bad")[1]["error"].startswith("field 'decoding': no setting")
    assert len(_jsonl(out)) == 1


def test_a_changed_vocabulary_copy_is_refused(trained_run, tmp_path, capsys, shared_data):
    """The facts of a checkpoint that name a SentencePiece model, beside which another model lies."""
    from flanx.data.vocabulary import load

    model = shared_data / "vocab" / "t5_v1_1_cc_all_32000" / "spiece.model"
    copy = shutil.copytree(trained_run, tmp_path / "copy")
    shutil.copy(model, copy / "vocabulary.model")
    facts_file = next((copy / "checkpoints" / "3").glob("run/metadata"))
    (
        copy / "checkpoints" / "3" / "digests.json"
    ).unlink()  # as a checkpoint of before there were any
    facts = json.loads(facts_file.read_text())
    facts["vocabulary"] = {"spec": "gone.model", "fingerprint": "0" * 64 + "+100", "size": 264}
    facts_file.write_text(json.dumps(facts))
    assert main(["infer", str(copy), "--prompt=a"]) == 2
    error = capsys.readouterr().err
    assert "is not the one that" in error
    assert "gone.model" in error
    facts["vocabulary"]["fingerprint"] = load(str(model)).fingerprint
    facts_file.write_text(json.dumps(facts))
    assert main(["infer", str(copy), "--prompt=a"]) == 2
    assert "32100 ids, the model in" in capsys.readouterr().err


def test_a_damaged_config_is_refused_in_one_line_and_can_be_moved_away(
    trained_run, tmp_path, capsys, damages, monkeypatch
):
    from flanx.evaluation import trained

    def opened(*args, **kwargs):
        raise UserError("opened")

    copy = shutil.copytree(trained_run, tmp_path / "copy")
    file = copy / "config.gin"
    content = file.read_bytes()
    command = ["infer", str(copy), "--prompt=a"]
    with monkeypatch.context() as patched:
        patched.setattr(trained, "open_trained", opened)
        for damaged in damages(content):
            file.write_bytes(damaged)
            assert main(command) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert str(file) in line or line == "flanx infer: opened"
    file.write_bytes(content[: len(content) // 2])
    assert main(command) == 2
    assert "move it away" in capsys.readouterr().err
    file.write_bytes(content)
    assert main(command) == 0
    answer = capsys.readouterr().out
    file.unlink()
    assert main(command) == 0
    assert capsys.readouterr().out == answer


@pytest.mark.parametrize("kind", ["folder", "below a file", "read-only", "empty"])
def test_an_output_that_cannot_be_made_is_refused_before_the_work(
    trained_run, questions, kind, tmp_path, capsys, monkeypatch
):
    from flanx.evaluation import trained

    def opened(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(trained, "open_trained", opened)
    if kind == "read-only":  # which root does not meet
        monkeypatch.setattr(os, "access", lambda path, mode, **how: mode & os.W_OK == 0)
    place = {
        "folder": tmp_path,
        "below a file": questions[0] / "out.jsonl",
        "read-only": tmp_path / "out.jsonl",
        "empty": "",
    }[kind]
    command = ["infer", str(trained_run), f"--input={questions[0]}", f"--output={place}"]
    assert main(command) == 2
    error = capsys.readouterr().err.strip()
    assert "--output" in error
    assert "\n" not in error


def test_a_folder_that_is_closed_during_the_work_keeps_the_answers(
    trained_run, questions, tmp_path, capsys, monkeypatch
):
    source, _ = questions
    out = tmp_path / "out.jsonl"
    command = ["infer", str(trained_run), f"--input={source}", f"--output={out}"]
    real = Path.replace

    def refused(self, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))

    monkeypatch.setattr(Path, "replace", refused)
    assert main(command) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{out} cannot be written to (permission denied)" in error
    assert f"the answers so far are in {out}.partial" in error
    assert len(_jsonl(tmp_path / "out.jsonl.partial")) == 9
    monkeypatch.setattr(Path, "replace", real)
    assert main(command) == 0
    assert "9 of them before it was stopped" in capsys.readouterr().err
    assert len(_jsonl(out)) == 9


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_is_written_in_place_and_a_full_one_is_said(
    trained_run, questions, tmp_path, capsys
):
    command = ["infer", str(trained_run), f"--input={questions[0]}"]
    # Links: what renames a file onto them leaves the devices alone.
    nowhere, full = tmp_path / "nowhere", tmp_path / "full"
    nowhere.symlink_to("/dev/null")
    full.symlink_to("/dev/full")
    assert main([*command, f"--output={nowhere}"]) == 0
    assert nowhere.is_symlink()
    assert main([*command, f"--output={full}"]) == 1
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert full.is_symlink()
    assert not Path(f"{full}.partial").exists()


@pytest.mark.parametrize("arguments", [["--prompt=a\udce9b"], ["--prompt=a", "--stop=\ud83d"]])
def test_half_a_surrogate_pair_is_refused(trained_run, capsys, arguments):
    assert main(["infer", str(trained_run), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{arguments[-1].partition('=')[0]}: no valid Unicode at character" in error
    assert "\n" not in error


def test_half_a_surrogate_pair_is_refused_by_its_line(trained_run, tmp_path, capsys, monkeypatch):
    source = tmp_path / "in.jsonl"
    source.write_text('{"inputs": "a"}\n{"inputs": "b \\ud83d"}\n')
    command = ["infer", str(trained_run)]
    assert main([*command, f"--input={source}", f"--output={tmp_path / 'o'}"]) == 2
    assert f"{source}:2: field 'inputs': no valid Unicode at character 3" in capsys.readouterr().err
    source.write_text('{"inputs": "a", "decoding": {"stop": ["\\ude00"]}}\n')
    assert main([*command, f"--input={source}", f"--output={tmp_path / 'o'}"]) == 2
    assert f"{source}:1: field 'decoding': stop: no valid Unicode" in capsys.readouterr().err
    typed = io.TextIOWrapper(io.BytesIO(b"one\ntwo \xe9\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", typed)
    assert main([*command, "--interactive"]) == 2
    assert "line 2: no valid Unicode at character 5" in capsys.readouterr().err


def test_rows_of_a_task_that_make_no_example_are_told(trained_run, capsys, monkeypatch):
    from flanx.prep import prepared

    real = prepared.ensure

    def ensure(requests, **options):
        (found,) = real(requests, **options)
        (entry,) = found.entries
        short = dataclasses.replace(entry, dropped={"no exemplar fits the inputs": 2})
        return [dataclasses.replace(found, entries=(short,), left_out={"toycli.gone": {"x": 1}})]

    monkeypatch.setattr(prepared, "ensure", ensure)
    assert main(["infer", str(trained_run), "--task=toycli.first.zs_opt", "-n", "2"]) == 0
    error = capsys.readouterr().err
    told = "rows of 'toycli.first.zs_opt' are left out (no exemplar fits the inputs: 2)"
    assert told in error
    assert "rows of 'toycli.gone' are left out (x: 1)" in error
