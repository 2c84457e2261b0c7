"""A gcloud that plays a slice: states from files, workers as folders that really run the remote side."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("run_tpu.sh", *(f"launchers/tpu_{part}.sh" for part in ("slice", "run", "worker")))

GCLOUD = '''#!{python} -IS
"""Plays `gcloud compute tpus`: states from files, workers as folders."""
import json, os, pathlib, shutil, subprocess, sys
stub = pathlib.Path(os.environ["STUB"])
words = sys.argv[1:]
if words[0] == "config":
    print((stub / "configured").read_text() if (stub / "configured").exists() else "here")
    sys.exit()
with (stub / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
kind, verb, names = words[2], words[3], [w for w in words[4:] if not w.startswith("--")]
flags = dict(w.partition("=")[::2] for w in words[4:] if w.startswith("--"))

def state(kind):
    file = stub / kind
    lines = file.read_text().splitlines() if file.exists() else ["missing"]
    if len(lines) > 1:
        file.write_text("\\n".join(lines[1:]))
    return lines[0]

if verb == "describe":
    said = state(kind)
    if said == "missing":
        sys.exit("ERROR: (gcloud) NOT_FOUND: Resource was not found.")
    if said == "offline":
        sys.exit("ERROR: (gcloud) the network is unreachable")
    print(said)
elif verb == "create":
    if (stub / "no_room").exists() and state("no_room") != "missing":
        sys.exit("ERROR: (gcloud) there is no more capacity in the zone")
    shutil.copy(stub / f"new.{{kind}}", stub / kind)
    if kind == "queued-resources":
        shutil.copy(stub / "new.tpu-vm", stub / "tpu-vm")
elif verb == "delete":
    for file in (kind, "tpu-vm"):
        (stub / file).unlink(missing_ok=True)
    for home in stub.glob("worker*"):
        shutil.rmtree(home, ignore_errors=True)
else:
    count = int((stub / "workers").read_text())
    homes = [stub / f"worker{{i}}" for i in (range(count) if flags["--worker"] == "all" else [0])]
    status = 0
    for home in homes:
        home.mkdir(exist_ok=True)
        if verb == "scp":
            shutil.copy(names[0], home / names[1].partition(":")[2])
            continue
        if home.name in (stub / "silent").read_text():
            continue
        again = 1
        if " follow " in flags["--command"]:
            said = state("connection")
            if said == "lost":
                sys.exit(255)
            if said == "cut":  # what the worker sent last never came
                words = ["bash", "-c", flags["--command"]]
                out = subprocess.run(words, cwd=home, stdout=subprocess.PIPE, text=True).stdout
                print(out[: out.index("ending") + 3], end="", flush=True)
                sys.exit(255)
            again += said == "again"  # as gcloud does where ssh breaks off
        environment = {{**os.environ, "HOME": str(home), "WORKER": home.name[-1]}}
        for _ in range(again):
            ended = subprocess.run(["bash", "-c", flags["--command"]], cwd=home, env=environment)
            status = status or ended.returncode
    sys.exit(status)
'''

# What pip would install: it ends as `ends.<worker>` says, a line a start.
FLANX = r"""#!/usr/bin/env bash
echo "worker $WORKER: $COLOUR $# [$2] in $PWD"
ends=$STUB/ends.$WORKER
end=$(head -n 1 "$ends" 2>/dev/null || true)
[ ! -f "$ends" ] || sed -i 1d "$ends"
case ${end:-0} in
  lost) echo $'PREEMPTED\t2\tv4-16' >"$STUB/tpu-vm"; exit 134 ;;
  wait) trap 'echo saving; exit 75' TERM; echo waiting; while :; do sleep 0.05; done ;;
  *) echo "ending with ${end:-0}"; exit "${end:-0}" ;;
esac
"""
UV = r"""#!/usr/bin/env bash
echo "$PWD $*" >>"$STUB/uv"
case $1 in
  venv) mkdir -p venv/bin ;;
  pip) cp "$STUB/bin/flanx" venv/bin/flanx ;;
esac
"""
# Tests that run in the background ignore SIGINT, and so would all that they start.
HEARING_CTRL_C = """import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])"""
RECORDED = '#!/usr/bin/env bash\necho "${0##*/} $*" >>"$STUB/system"\n'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A small repository with the scripts, one change not committed; without git, an unpacked archive of them."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "launchers").mkdir()
    for name in SCRIPTS:
        shutil.copy(ROOT / name, folder / name)
    (folder / "setup.py").write_text("committed\n")
    if shutil.which("git"):
        git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
            subprocess.run([*git, *words], check=True)
    (folder / "setup.py").write_text("changed\n")
    return folder


class Cloud:
    """The stub's folder, and run_tpu.sh called with it."""

    def __init__(self, folder, checkout):
        self.folder, self.checkout = folder, checkout
        (folder / "bin").mkdir()
        programs = {"gcloud": GCLOUD.format(python=sys.executable), "flanx": FLANX, "uv": UV}
        programs |= {"sudo": '#!/usr/bin/env bash\n"$@"\n', "mountpoint": "#!/bin/sh\nexit 1\n"}
        programs |= dict.fromkeys(("gcsfuse", "mount", "mount.nfs", "chown", "tee"), RECORDED)
        programs["hostname"] = '#!/bin/sh\necho "host$WORKER"\n'
        for name, text in programs.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.write("workers", "2")
        self.write("silent", "")
        self.write("new.tpu-vm", "READY\t2\tv4-16")
        self.write("new.queued-resources", "WAITING_FOR_RESOURCES\t\t\nACTIVE\tmy-tpu\t")
        self.environment = {
            **{k: v for k, v in os.environ.items() if k not in ("PROJECT", "ZONE")},
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "STUB": str(folder),
            "RUN_TPU_POLL_SECONDS": "0",
            "RUN_TPU_GRACE_SECONDS": "2",
            "RUN_TPU_YOUNG_SECONDS": "0",
        }

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, "-c", HEARING_CTRL_C, str(self.checkout / "run_tpu.sh"), *words],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *words):
        child = self.start(*words)
        out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def train(self, *flags, name="my-tpu"):
        return self("train", name, "--accelerator_type=v4-16", *flags, "--", "--gin_file=it's.gin")

    @property
    def calls(self):
        """What gcloud was asked, `compute tpus` left out."""
        file = self.folder / "calls"
        return [json.loads(line)[2:] for line in file.read_text().splitlines()]

    def verbs(self):
        return [
            f"{kind} {verb}" for kind, verb, *_ in self.calls if verb in ("create", "delete", "scp")
        ]


@pytest.fixture
def cloud(tmp_path, checkout):
    yield Cloud(tmp_path, checkout)
    for file in tmp_path.glob("worker*/flanx-run/pid"):  # of a test that failed in between
        with contextlib.suppress(OSError):
            os.killpg(int(file.read_text()), signal.SIGKILL)
