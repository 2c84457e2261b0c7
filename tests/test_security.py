"""What lies in a MODEL_DIR or a CACHE_DIR is data: whatever its files name, opening them runs none of it."""

import json
import shutil
import sys

import pytest

from flanx import named_modules
from flanx.cli.main import main
from flanx.errors import UserError
from flanx.evaluation import metrics, postprocess, summary

TASKS = """
import flanx
import canarymetrics


def shouting(references, predictions):
    return {"shouting": 50.0}


flanx.register(
    "canary.first",
    source=flanx.Generated(
        lambda split, i: {"word": "ab"[i % 2], "answer": "ab"[i % 2]}, train=16, validation=4
    ),
    fields=lambda r: r,
    templates=[flanx.Template("Say {word}.", "{answer}")],
    metrics=[shouting, canarymetrics.quiet],
    postprocessor=flanx.evaluation.postprocess.strip,
    template_types={"zs_noopt": 1.0},
)
flanx.mixture("canary", [flanx.Part("canary.*")])
""".replace("flanx.evaluation.postprocess.strip", '"strip"')

METRICS = """
def quiet(references, predictions):
    return {"quiet": 25.0}
"""

GIN = """
from __gin__ import dynamic_registration
from flanx.evaluation import suites
from flanx.models.t5 import config as t5
from flanx.training import config

include "runs/train.gin"

MODEL = @t5.T5Config()
t5.T5Config.emb_dim = 8
t5.T5Config.num_heads = 1
t5.T5Config.head_dim = 8
t5.T5Config.num_encoder_layers = 1
t5.T5Config.num_decoder_layers = 1
t5.T5Config.mlp_dim = 8
t5.T5Config.vocab_size = 264
t5.T5Config.dtype = "float32"
MIXTURE_OR_TASK_NAME = "canary"
TASK_FEATURE_LENGTHS = {"inputs": 32, "targets": 4}
VOCABULARY = "bytes"
TRAIN_STEPS = 1
BATCH_SIZE = 8
EVAL_PERIOD = 1
config.TrainConfig.evals = [@held_in/suites.EvalSuite()]
held_in/suites.EvalSuite.name = "held_in"
held_in/suites.EvalSuite.max_decode_length = 2
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run and its token store, made with --import=canarytasks."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "canarytasks.py").write_text(TASKS)
    (folder / "canarymetrics.py").write_text(METRICS)
    (folder / "toy.gin").write_text(GIN)
    sys.path.insert(0, str(folder))
    assert main([*_train(folder, folder / "run", folder / "cache"), "--import=canarytasks"]) == 0
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def stranger(trained, tmp_path, monkeypatch):
    """Copies of the run and its store as somebody else opens them, who has named no module."""
    monkeypatch.setattr(named_modules, "_MODULES", {})
    shutil.copytree(trained / "run", tmp_path / "run")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("evil", None)
    return tmp_path


@pytest.fixture
def canary(tmp_path):
    """A file that is there once code of a run's or a store's choice has run."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code from a folder was run"


def _train(folder, run, cache):
    return [
        "train",
        f"--gin_file={folder / 'toy.gin'}",
        f"--gin.MODEL_DIR={run}",
        f"--gin.CACHE_DIR={cache}",
    ]


def _refused(command, capfd, *words):
    """Runs a command that has to end in one line, and gives it."""
    assert main(command) == 2
    error = capfd.readouterr().err.strip()
    lines = [line for line in error.splitlines() if line.startswith("flanx ")]
    assert lines == error.splitlines()[-1:], error
    assert "Traceback" not in error
    for word in words:
        assert word in error
    return error


CALLS = {
    "import and call": "import subprocess\nsubprocess.getoutput.cmd = '{touch}'\nMODEL = @subprocess.getoutput()",
    "in a scope": "import subprocess\na/subprocess.getoutput.cmd = '{touch}'\nMODEL = @a/subprocess.getoutput()",
    "as another name": "import subprocess as t6\nt6.getoutput.cmd = '{touch}'\nMODEL = @t6.getoutput()",
    "as one of flanx's names": "import os as config\nconfig.system.command = '{touch}'\nX = @config.system()",
    "from a package": "from os import path\nimport os\nos.popen.cmd = '{touch}'\nMODEL = @os.popen()",
    "in a list": "import os\nos.popen.cmd = '{touch}'\nconfig.TrainConfig.evals = [[@os.popen()]]",
    "as a key": "import os\nos.popen.cmd = '{touch}'\nconfig.TrainConfig.evals = [{{@os.popen(): 1}}]",
    "in a block": "import os\nos.popen:\n  cmd = '{touch}'\nMODEL = @os.popen()",
    "through a module of flanx": (
        "from flanx import resources\nresources.os.popen.cmd = '{touch}'\nMODEL = @resources.os.popen()"
    ),
    "through a configurable module": (
        "config.os.popen.cmd = '{touch}'\nconfig.os.popen.mode = 'r'\nMODEL = @config.os.popen()"
    ),
    "through flanx's own name": (
        "import flanx.training.config\nflanx.training.config.os.popen.cmd = '{touch}'\n"
        "MODEL = @flanx.training.config.os.popen()"
    ),
    "a function of flanx": (
        "from flanx import atomic_files\natomic_files.write.path = '{canary}'\natomic_files.write.content = 'x'\n"
        "MODEL = @atomic_files.write()"
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("command", ["eval", "infer"])
def test_a_runs_config_calls_nothing(stranger, canary, capfd, call, command):
    file = stranger / "run" / "config.gin"
    file.write_text(
        file.read_text() + "\n" + call.format(touch=f"touch {canary}", canary=canary) + "\n"
    )
    more = ["--prompt=a"] if command == "infer" else []
    error = _refused(
        [command, str(stranger / "run"), *more], capfd, "config.gin:", "nothing was run"
    )
    assert "--import" in error


@pytest.mark.parametrize("line", ["import evil", "from evil import a", "import evil as config"])
def test_a_runs_config_imports_nothing_else(stranger, canary, capfd, line):
    (stranger / "evil.py").write_text(f"open({str(canary)!r}, 'w')\na = 1\n")
    file = stranger / "run" / "config.gin"
    file.write_text(file.read_text() + f"\n{line}\n")
    _refused(["infer", str(stranger / "run"), "--prompt=a"], capfd, "config.gin:", "--import=evil")


def test_a_runs_config_includes_nothing(stranger, canary, capfd):
    (stranger / "evil.gin").write_text(
        f"import os\nos.popen.cmd = 'touch {canary}'\nMODEL = @os.popen()\n"
    )
    file = stranger / "run" / "config.gin"
    file.write_text(file.read_text() + f"\ninclude '{stranger / 'evil.gin'}'\n")
    _refused(["infer", str(stranger / "run"), "--prompt=a"], capfd, "includes", "--gin_file")


def test_a_run_has_no_task_module_imported(stranger, canary, capfd):
    """`DataConfig.imports` is plain text to gin, and an import to whoever caches."""
    (stranger / "evil.py").write_text(f"open({str(canary)!r}, 'w')\n")
    file = stranger / "run" / "config.gin"
    file.write_text(file.read_text().replace("('canarytasks',)", "('evil',)"))
    _refused(["eval", str(stranger / "run")], capfd, "--import=evil")
    _refused(["infer", str(stranger / "run"), "--task=canary.*", "-n", "1"], capfd, "--import=evil")


def test_a_runs_filters_are_not_loaded(stranger, canary, capfd):
    """No command that opens a run filters anything; what a config.gin names as a filter stays a name."""
    (stranger / "evil.py").write_text(
        f"open({str(canary)!r}, 'w')\ndef keep(example): return True\n"
    )
    file = stranger / "run" / "config.gin"
    text = file.read_text().replace("FILTERS = ()", """FILTERS = ("Function(name='evil:keep')",)""")
    file.write_text(text.replace("('canarytasks',)", "('evil',)"))
    _refused(["eval", str(stranger / "run")], capfd, "--import=evil")


def _spoil_store(stranger, trained, field, value):
    """A copy of the store whose manifests name other functions; stores and code files are as they were."""
    cache = trained / "cache"
    kept = {path: path.read_text() for path in (cache / "manifests").glob("*.json")}
    for path, text in kept.items():
        manifest = json.loads(text)
        for entry in manifest["entries"]:
            entry[field] = value
        path.write_text(json.dumps(manifest))
    return kept


NAMES = {
    "of the standard library": "subprocess:getoutput",
    "through flanx": "flanx.resources:os.system",
    "through a task module": "canarytasks:flanx.resources.os.system",
    "through flanx's postprocessors": "flanx.evaluation.postprocess:re.sys.modules.__getitem__",
    "a function of flanx": "flanx.cli.main:main",
    "of the working directory": "evil:f",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
@pytest.mark.parametrize("field", ["postprocessor", "metrics"])
def test_a_manifest_names_no_code(trained, stranger, canary, capfd, field, name):
    (stranger / "evil.py").write_text(f"open({str(canary)!r}, 'w')\ndef f(*a): return ''\n")
    kept = _spoil_store(stranger, trained, field, [name] if field == "metrics" else name)
    try:
        for command in (
            ["eval", str(stranger / "run"), "--import=canarytasks"],
            [*_train(trained, stranger / "new", trained / "cache"), "--import=canarytasks"],
        ):
            _refused(command, capfd, field.rstrip("s"))
    finally:
        for path, text in kept.items():
            path.write_text(text)


@pytest.mark.parametrize("field", ["postprocessor", "headline_metric"])
def test_an_index_names_no_code(stranger, canary, field):
    (stranger / "evil.py").write_text(f"open({str(canary)!r}, 'w')\ndef f(*a): return ''\n")
    path = stranger / "run" / "eval" / "index.json"
    index = json.loads(path.read_text())
    for task in index["held_in"].values():
        task[field] = "evil:f"
        task["headline_metric" if field == "postprocessor" else "postprocessor"] = (
            "flanx.evaluation.metrics:accuracy" if field == "postprocessor" else None
        )
    path.write_text(json.dumps(index))
    with pytest.raises(UserError, match="--import=evil"):
        summary.summarise(stranger / "run")


def test_names_of_stored_functions(stranger):
    for load, name in (
        (postprocess.resolve, "subprocess:getoutput"),
        (metrics.resolve, "os:system"),
        (metrics.resolve, "flanx.evaluation.metrics:re.compile"),
        (postprocess.resolve, "flanx.atomic_files:write"),
    ):
        with pytest.raises(UserError):
            load(name)
    assert metrics.resolve("flanx.evaluation.metrics:accuracy") is metrics.accuracy
    assert metrics.resolve("accuracy") is metrics.accuracy


def test_what_the_user_names_is_run(trained, stranger, capfd, monkeypatch):
    """A metric of the task module, and one of a module that it registers a task with."""
    with monkeypatch.context() as nothing_registered:
        nothing_registered.setattr(named_modules, "_FUNCTIONS", set())
        command = ["eval", str(stranger / "run")]
        _refused(command, capfd, "canarytasks", "--import=canarytasks")
    assert main(["infer", str(stranger / "run"), "--prompt=a"]) == 0
    capfd.readouterr()
    assert main(["eval", str(stranger / "run"), "--import=canarytasks"]) == 0
    values = json.loads((stranger / "run" / "eval" / "results-1.json").read_text())
    assert values["held_in/canary.first.zs_noopt/shouting"] == 50.0
    assert values["held_in/canary.first.zs_noopt/quiet"] == 25.0
    capfd.readouterr()
    again = _train(trained, stranger / "again", trained / "cache")
    assert main([*again, "--import=canarytasks"]) == 0


def test_a_users_configurables_need_their_import(stranger, capfd):
    (stranger / "myschedule.py").write_text(
        "from flanx.training.schedules import Constant\n\n\n"
        "def mine(rate=0.5):\n    return Constant(rate)\n"
    )
    file = stranger / "run" / "config.gin"
    file.write_text(
        file.read_text()
        + "\nimport myschedule\nSCHEDULE = @myschedule.mine()\nmyschedule.mine.rate = 0.25\n"
    )
    command = ["infer", str(stranger / "run"), "--prompt=a"]
    _refused(command, capfd, "config.gin:", "--import=myschedule")
    assert main([*command, "--import=myschedule"]) == 0


def test_a_gin_file_of_the_users_names_what_the_runs_own_needs(stranger, capfd):
    """The run's config.gin imports a module that the file given on the command line imports as well."""
    (stranger / "myrates.py").write_text(
        "from flanx.training.schedules import Constant\n\n\n"
        "def mine(rate=0.5):\n    return Constant(rate)\n"
    )
    file = stranger / "run" / "config.gin"
    bound = "import myrates\nSCHEDULE = @myrates.mine()\nmyrates.mine.rate = 0.25\n"
    file.write_text(f"{file.read_text()}\n{bound}")
    (stranger / "mine.gin").write_text(f"from __gin__ import dynamic_registration\n{bound}")
    command = ["infer", str(stranger / "run"), "--prompt=a", f"--gin_file={stranger / 'mine.gin'}"]
    assert main(command) == 0, capfd.readouterr().err
