"""What users mistype and misplace: each ends with one line that names the command typed and the fix, and status 2."""

import os
import shlex
import sys

import pytest

from flanx.cli.main import main

# The command as typed, and what its one line must name. {run} is a trained run, {toy} its gin file; the working
# directory holds FILES. A word of the second part may offer alternatives with "|".
MISTAKES = [
    # the command line itself
    ("trian --gin_file={toy}", "train"),
    ("train --gin_files={toy}", "--gin_files --help"),
    ("train", "--gin_file"),
    # gin files
    ("train --gin_file=quickstrat.gin", "quickstart.gin"),
    ("train --gin_file=latin1.gin", "latin1.gin UTF-8"),
    ("train --gin_file=broken.gin", "broken.gin:2"),
    ("train --gin_file=unquoted.gin", "unquoted.gin:2 quotes"),
    ("train --gin_file=absent_module.gin", "absent_module.gin:2 nosuchmodule"),
    # settings
    ("train {toy_flags} --gin.MODEL_DIR", "MODEL_DIR =VALUE"),
    ("train --gin_file={toy}", "--gin.MODEL_DIR"),
    ("train {toy_flags} --gin.TRAIN_STEP=5", "TRAIN_STEPS"),
    ("train {toy_flags} --gin.T5Config.emb_dims=5", "emb_dim"),
    ("train {toy_flags} --gin.TRAIN_STEPS=many", "train_steps many"),
    ("train {toy_flags} --gin.TRAIN_STEPS=0", "train_steps|TRAIN_STEPS"),
    ("train {toy_flags} --gin.BATCH_SIZE=0", "batch_size|BATCH_SIZE"),
    ("train {toy_flags} --gin.EVAL_PERIOD=-1", "eval_period|EVAL_PERIOD"),
    ("train {toy_flags} --gin.LEARNING_RATE=1e400", "learning_rate"),
    ("train {toy_flags} --gin.LEARNING_RATE=-1.0", "learning_rate"),
    ("train {toy_flags} --gin.TrainConfig.microbatches=3", "BATCH_SIZE microbatch"),
    ("train {toy_flags} --gin.MeshConfig.model=3", "model 3"),
    ("train {toy_flags} --gin.MeshConfig.data=3", "data 3"),
    ("train {toy_flags} --gin.T5Config.vocab_size=100", "vocab_size"),
    ("train {toy_flags} --gin.T5Config.dtype=float17", "dtype"),
    ("train {toy_flags} --gin.MIXTURE_OR_TASK_NAME=toycly", "toycli"),
    ("train {toy_flags} --gin.NUM_TASKS=0", "NUM_TASKS|num_tasks"),
    ("train {toy_flags} --gin.NUM_TASKS=-3", "NUM_TASKS|num_tasks"),
    ("train {toy_flags} --gin.TEMPLATE_TYPES='(\"zs_opts\",)'", "zs_opt"),
    ('train {toy_flags} --gin.TASK_FEATURE_LENGTHS=\'{{"input": 64, "targets": 6}}\'', "inputs"),
    ('train {toy_flags} --gin.TASK_FEATURE_LENGTHS=\'{{"inputs": 0, "targets": 6}}\'', "inputs 0"),
    ("train {toy_flags} --gin.TASK_FEATURE_LENGTHS='{{\"inputs\": 64}}'", "targets"),
    ("train {toy_flags} --gin.VOCABULARY=nosuch.model", "nosuch.model"),
    ("train {toy_flags} --gin.VOCABULARY=notes.txt", "notes.txt"),
    # folders and checkpoints
    ("train {toy_flags} --gin.MODEL_DIR=", "MODEL_DIR"),
    ("train {toy_flags} --gin.CACHE_DIR=", "CACHE_DIR"),
    ("train {toy_flags} --gin.MODEL_DIR=notes.txt", "notes.txt MODEL_DIR"),
    ("train {toy_flags} --gin.MODEL_DIR=/proc/run", "/proc/run"),
    ("train {toy_flags} --gin.MODEL_DIR=gs://bucket/run", "gs:// mount"),
    ("train {toy_flags} --gin.INITIAL_CHECKPOINT_PATH=nowhere", "nowhere"),
    ("train {toy_flags} --gin.INITIAL_CHECKPOINT_PATH=notes.txt", "notes.txt"),
    ("train {toy_flags} --gin.INITIAL_CHECKPOINT_PATH=", "INITIAL_CHECKPOINT_PATH"),
    # hosts
    ("train {toy_flags} --process_count=2", "--coordinator_address"),
    (
        "train {toy_flags} --process_count=2 --process_index=2 --coordinator_address=localhost:1",
        "--process_index",
    ),
    # modules of the user's
    ("train {toy_flags} --import=nosuchmodule", "nosuchmodule"),
    ("train {toy_flags} --import=toycli_task", "toycli_tasks"),
    ("train {toy_flags} --import=syntax_error", "syntax_error.py:2"),
    ("train {toy_flags} --import=raises", "raises.py:2 ZeroDivisionError"),
    ("train {toy_flags} --import=no_such_source", "no_such_source.py:2 Csv|Tsv"),
    ("train {toy_flags} --import=endless_rate", "endless_rate.py rate"),
    ("tasks list --import=no_such_field", "no_such_field.py templates"),
    # evaluation
    ("eval nowhere", "nowhere"),
    ("eval ''", "MODEL_DIR|empty|checkpoint"),
    ("eval {run} --step 7", "7 3"),
    ("eval {run} --tasks toyclx", "toycli"),
    ("eval {run} --tasks toycli --split tests", "tests test"),
    ("eval {run} --output notes.txt", "notes.txt"),
    ("eval {run} --output ''", "--output"),
    ("eval {run} --batch_size 0", "--batch_size|BATCH_SIZE"),
    ("eval {run} --max_examples -1", "--max_examples"),
    # questions
    ("infer {run}", "--prompt"),
    ("infer nowhere --prompt hello", "nowhere"),
    ("infer {run} --prompt 'a \udc80 b'", "--prompt"),
    ("infer {run} --prompt hello --beams 0", "--beams"),
    ("infer {run} --prompt hello --temperature -1", "--temperature"),
    ("infer {run} --prompt hello --top_p 2", "--top_p"),
    ("infer {run} --prompt hello --max_decode_length 0", "--max_decode_length"),
    ("infer {run} --input absent.jsonl --output out.jsonl", "absent.jsonl"),
    ("infer {run} --input cut.jsonl --output out.jsonl", "cut.jsonl:2"),
    ("infer {run} --input surrogate.jsonl --output out.jsonl", "surrogate.jsonl:1"),
    ("infer {run} --input good.jsonl --output out.jsonl --field question", "good.jsonl:1 question"),
    ("infer {run} --input good.jsonl", "--output"),
    ("infer {run} --input good.jsonl --output .", "--output"),
    ("infer {run} --input good.jsonl --output notes.txt/out.jsonl", "notes.txt"),
    ("infer {run} --input good.jsonl --output ''", "--output"),
    ("infer {run} --task toycli.fist", "toycli.first"),
    # the token store
    ("cache", "--mixture --gin_file"),
    (
        "cache --mixture toyclx --import toycli_tasks --feature_lengths inputs=64,targets=6 --vocabulary bytes",
        "toycli",
    ),
    (
        "cache --mixture toycli --import toycli_tasks --feature_lengths inputs=many --vocabulary bytes",
        "inputs=many",
    ),
    (
        "cache --mixture toycli --import toycli_tasks --feature_lengths inputs=64,targets=6",
        "--vocabulary",
    ),
    (
        "{toy_cache} --workers -2",
        "--workers",
    ),
    (
        "{toy_cache} --cache_dir ''",
        "--cache_dir|CACHE_DIR",
    ),
    (
        "{toy_cache} --cache_dir notes.txt",
        "notes.txt",
    ),
    ("cache --verify --cache_dir nowhere", "nowhere"),
    ("lengths toyclx --import toycli_tasks", "toycli"),
    ("lengths toycli --import toycli_tasks --clip_rate 3", "--clip_rate"),
    # tasks
    ("tasks", "ACTION --help"),
    ("tasks shwo toycli", "show"),
    ("tasks show toyclx --import toycli_tasks", "toycli"),
    ("tasks show toycli.first --import toycli_tasks --type zs_opts", "zs_opt"),
    ("tasks show toycli.first --import toycli_tasks --split tests", "test"),
    ("tasks show toycli.first --import toycli_tasks -n -1", "-n"),
    ("tasks check 'nothing.*'", "nothing."),
    ("tasks new 'two words'", "two words"),
    # checkpoints of other programs
    ("convert nowhere out --to hf", "nowhere"),
    ("convert {run} out --to gguf", "--to hf"),
    ("convert {run} notes.txt --to hf", "notes.txt"),
    ("convert {run} {run} --to flanx", "{run}"),
    ("convert {run} '' --to hf", "DST|empty"),
    ("infer half_hf --prompt hello", "half_hf"),
    # machines that are not here
    ("plan --gin_file=recipes/flan_t5_xl.gin --topology=v9:2x2", "v9"),
    ("plan --gin_file=recipes/flan_t5_xl.gin", "--topology"),
    ("plan --topology=v4:8x8x8", "--gin_file"),
]

FILES = {
    "latin1.gin": "# \xe9t\xe9\nTRAIN_STEPS = 3\n".encode("latin-1"),
    "broken.gin": "TRAIN_STEPS = 3\nBATCH_SIZE = (8\n",
    "unquoted.gin": "TRAIN_STEPS = 3\nMODEL_DIR = runs/here\n",
    "absent_module.gin": "from __gin__ import dynamic_registration\nimport nosuchmodule\n",
    "notes.txt": "not a folder, not a vocabulary\n",
    "syntax_error.py": "import flanx\ndef f(:\n",
    "raises.py": "import flanx\n1 / 0\n",
    "no_such_source.py": "import flanx\nflanx.CSV(train='a.csv')\n",
    "endless_rate.py": "import flanx\nflanx.mixture('endless', [flanx.Part('toycli.*', rate=float('inf'))])\n",
    "no_such_field.py": "import flanx\nflanx.register('nofield.a', template=[])\n",
    "cut.jsonl": '{"inputs": "a"}\n{"inputs": "b\n',
    "surrogate.jsonl": '{"inputs": "half \\ud83d"}\n',
    "good.jsonl": '{"inputs": "a"}\n',
    "half_hf/config.json": '{"model_type": "t5", "d_mod',
    "half_hf/model.safetensors": "",
}


def status_of(argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as stopped:  # argparse
        return int(stopped.code or 0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize(("command", "names"), MISTAKES, ids=[c for c, _ in MISTAKES])
def test_a_mistake_is_one_line_that_says_how_to_fix_it(command, names, trained_run, folder, capfd):
    toy = trained_run.parent / "toy.gin"
    values = {
        "run": trained_run,
        "toy": toy,
        "toy_cache": "cache --mixture toycli --import toycli_tasks --vocabulary bytes "
        "--feature_lengths inputs=64,targets=6",
        "toy_flags": f"--gin_file={toy} --import=toycli_tasks --gin.CACHE_DIR={folder / 'cache'}"
        + ("" if "gin.MODEL_DIR" in command else f" --gin.MODEL_DIR={folder / 'model'}"),
    }
    before = _listing(trained_run)
    argv = shlex.split(command.format(**values))
    capfd.readouterr()
    status = status_of(argv)
    said = capfd.readouterr()
    # Progress of what was done before the mistake was met may stand above the line.
    lines = [line for line in said.err.splitlines() if line.startswith("flanx")]
    assert lines == said.err.splitlines()[-1:], said.err
    assert "Traceback" not in said.err
    assert status == 2, said
    known = argv[0] if argv[0] != "trian" else ""
    assert lines[0].startswith(f"flanx {known}".strip()), lines[0]
    for word in names.format(**values).split():
        assert any(choice in lines[0] for choice in word.split("|")), (word, lines[0])
    assert _listing(trained_run) == before
    assert set(os.listdir(folder)) - {"__pycache__", "cache", "model"} == {
        name.split("/")[0] for name in FILES
    }


def _listing(model_dir):
    return sorted(str(p.relative_to(model_dir)) for p in model_dir.rglob("*"))
