"""run_tpu.sh against a gcloud that plays a slice: states, workers that really run the remote side, lost connections."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_shellcheck():
    scripts = ["run_tpu.sh", *ROOT.glob("launchers/*.sh"), "launchers/slurm.sbatch"]
    subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, check=True)


def test_a_run_from_nothing(cloud):
    """Created, mounted, installed once a worker, trained, streamed, deleted; the checkout left as it was."""
    (cloud.folder / "my task.py").write_text("tasks\n")
    code, out, err = cloud.train(
        "--zone=z",
        "--mount=gs://bucket/deep/folder=" + str(cloud.folder / "mnt/a"),
        "--mount=nfs://10.0.0.2/share=" + str(cloud.folder / "mnt/b"),
        "--send=my task.py",
        "--env=COLOUR=dark blue",
        "--create_flag=--network=n",
        "--delete_when_done",
    )
    assert (code, out.splitlines()) == (
        0,
        [
            f"worker 0: dark blue 2 [--gin_file=it's.gin] in {cloud.folder}/worker0/flanx-run/work",
            "ending with 0",
        ],
    ), err
    create = next(call for call in cloud.calls if call[1] == "create")
    assert create[2:] == [
        "my-tpu",
        "--zone=z",
        "--accelerator-type=v4-16",
        "--version=tpu-ubuntu2204-base",
        "--network=n",
    ]
    assert cloud.verbs() == ["tpu-vm create", "tpu-vm scp", "tpu-vm delete"]
    assert all("--zone=z" in call for call in cloud.calls)
    installed = (cloud.folder / "uv").read_text().splitlines()
    assert len(installed) == 4 and installed[1].endswith("venv/bin/python ./source[tpu]")
    system = (cloud.folder / "system").read_text().splitlines()
    assert system.count("tee /sys/kernel/mm/transparent_hugepage/enabled") == 2
    mounts = [line for line in system if not line.startswith(("chown", "tee"))]
    assert len(mounts) == 4
    assert mounts[0].startswith("gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0")
    assert mounts[0].endswith(f"--only-dir=deep/folder bucket {cloud.folder}/mnt/a")
    assert mounts[1] == f"mount -t nfs 10.0.0.2:/share {cloud.folder}/mnt/b"
    if shutil.which("git"):
        git = ["git", "-C", str(cloud.checkout)]
        status = subprocess.run([*git, "status", "--short"], capture_output=True, text=True)
        stashed = subprocess.run([*git, "stash", "list"], capture_output=True, text=True)
        assert (status.stdout, stashed.stdout) == (" M setup.py\n", "")
    assert (cloud.checkout / "setup.py").read_text() == "changed\n"


@pytest.mark.parametrize("has_git", [True, False])
def test_an_unpacked_archive_is_installed_as_it_is(cloud, tmp_path, has_git):
    """No repository, or no git at all: what an install needs is sent, and nothing else that lies there."""
    archive = tmp_path / "flanx-1.0"
    shutil.copytree(cloud.checkout, archive, ignore=shutil.ignore_patterns(".git"))
    (archive / "flanx" / "__pycache__").mkdir(parents=True)
    (archive / "flanx" / "__init__.py").write_text("")
    (archive / "flanx" / "__pycache__" / "old.pyc").write_text("")
    (archive / "runs").mkdir()
    cloud.checkout = archive
    if not has_git:
        cloud.environment["PATH"] = without_git(tmp_path / "programs", cloud.environment["PATH"])
    code, _, err = cloud.train()
    assert code == 0, err
    source = cloud.folder / "worker1/flanx-run/source"
    assert (source / "setup.py").read_text() == "changed\n"
    names = {path.name for path in source.rglob("*")}
    assert {"flanx", "__init__.py", "launchers"} < names
    assert not names & {"runs", "__pycache__", "run_tpu.sh"}


def without_git(folder, path):
    """A PATH with every program of `path` but git."""
    folder.mkdir()
    for place in path.split(":"):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / program.name
            if program.name != "git" and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


def test_preempted_twice_then_done(cloud):
    """75 starts again where it is; a slice that is gone is made again, and gets everything again."""
    cloud.write("ends.0", "75\nlost\n0\n")
    cloud.write("ends.1", "75\n134\n0\n")
    code, out, err = cloud.train("--spot")
    assert code == 0, err
    ends = [line for line in out.splitlines() if line.startswith("ending")]
    assert ends == ["ending with 75", "ending with 0"]
    made = ["tpu-vm create", "tpu-vm scp"]
    assert cloud.verbs() == [*made, "tpu-vm delete", *made]
    assert "starting again (2)" in err
    source = cloud.folder / "worker1/flanx-run/source/setup.py"
    assert source.read_text() == "changed\n"


def test_a_failing_worker_is_shown_and_its_status_returned(cloud):
    cloud.write("tpu-vm", "READY\t2\tv4-16")
    cloud.write("ends.1", "65\n")
    code, out, err = cloud.train()
    assert code == 65
    assert ": ending with 65" in out
    assert "ended with status 65" in err
    assert cloud.verbs() == ["tpu-vm scp"]  # what is there is used, and stays


def test_restarts_are_limited(cloud):
    cloud.write("ends.0", "75\n75\n75\n")
    code, _, err = cloud.train("--max_restarts=1")
    assert code == 75
    assert "preempted 2 times" in err


def test_slices_in_the_queue(cloud):
    cloud.write("workers", "4")
    cloud.write(
        "new.queued-resources",
        "WAITING_FOR_RESOURCES\t\t2\nPROVISIONING\t\t2\nACTIVE\tpod-0;pod-1\t",
    )
    cloud.write("ends.3", "75\n")
    code, _, err = cloud.train("--slices=2", "--spot", "--project=p", name="pod")
    assert code == 0, err
    create = next(call for call in cloud.calls if call[1] == "create")
    assert create[:3] == ["queued-resources", "create", "pod"]
    assert {"--node-count=2", "--node-prefix=pod", "--spot", "--project=p"} <= set(create)
    assert {call[2] for call in cloud.calls if call[:2] == ["tpu-vm", "describe"]} == {
        "pod-0",
        "pod-1",
    }
    follow = [call for call in cloud.calls if " follow " in " ".join(call)]
    assert len(follow) == 2 and all("--node=0" in call and "--worker=0" in call for call in follow)
    # Suspended, as after a preemption: everything is asked for once more, without being told how many slices.
    cloud.write("queued-resources", "SUSPENDED\tpod-0;pod-1\t")
    code, _, err = cloud.train(name="pod")
    assert code == 0, err
    assert "--node-count=2" in [call for call in cloud.calls if call[1] == "create"][-1]
    assert cloud.verbs()[-3:] == [
        "queued-resources delete",
        "queued-resources create",
        "queued-resources scp",
    ]


def test_lost_connections_lose_nothing_and_say_nothing_twice(cloud):
    cloud.write("tpu-vm", "READY\t2\tv4-16\nREADY\t2\tv4-16\noffline\nREADY\t2\tv4-16")
    cloud.write("connection", "lost\nlost\nagain")
    code, out, err = cloud.train()
    assert code == 0, err
    assert out.splitlines()[1:] == ["ending with 0"]
    assert "the connection was lost" in err


def test_what_a_broken_connection_swallowed_is_asked_for_again(cloud):
    cloud.write("connection", "cut\nfine")
    code, out, err = cloud.train()
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["worker", "ending"]


@pytest.mark.parametrize(
    ("ends", "young", "code", "starts"),
    [
        (("75", "134"), "0", 0, 2),  # process 1 died of what happened to process 0, or the reverse
        (("75", "137"), "600", 137, 1),  # no memory, say: it would die again
        (("75", "1"), "0", 1, 1),
        (("134", "65"), "0", 65, 1),
    ],
)
def test_what_the_statuses_of_the_workers_add_up_to(cloud, ends, young, code, starts):
    cloud.environment["RUN_TPU_YOUNG_SECONDS"] = young
    for worker, end in enumerate(ends):
        cloud.write(f"ends.{worker}", f"{end}\n0\n")
    found, _, err = cloud.train()
    assert found == code, err
    for worker in (0, 1):
        log = (cloud.folder / f"worker{worker}/flanx-run/log").read_text()
        assert log.count("ending with") == starts


def test_a_run_is_started_once_however_often_it_is_asked_for(cloud):
    """As gcloud does where ssh breaks off after the start; and a stop between two starts holds."""
    assert cloud.train()[0] == 0
    folder = cloud.folder / "worker1" / "flanx-run"
    worker = ["bash", str(folder / "tpu_worker.sh")]
    environment = {**cloud.environment, "WORKER": "1"}
    started = (folder / "run").read_text().strip()
    again = started.removesuffix(".0") + ".1"

    def ask(*words):
        done = subprocess.run(
            [*worker, *words], env=environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    assert ask("start", started) == "flanx-started host1"
    assert ask("stop") == "flanx-stopping host1"
    assert ask("start", again) == "flanx-started host1"
    assert (folder / "log").read_text().count("ending") == 1
    assert ask("collect", "0") == "flanx-exit host1 0 stopped"
    assert ask("start", "other.0") == "flanx-started host1"
    assert ask("collect", "9") == "flanx-exit host1 0"
    assert (folder / "log").read_text().count("ending") == 2


def test_a_run_of_which_one_worker_has_ended_is_joined_not_started(cloud):
    cloud.write("ends.0", "wait\n0\n")
    cloud.write("ends.1", "75\n0\n")
    child = cloud.start("train", "my-tpu", "--accelerator_type=v4-16", "--", "--gin_file=a.gin")
    while "waiting" not in child.stdout.readline():
        assert child.poll() is None
    os.killpg(child.pid, signal.SIGINT)  # Ctrl-C
    assert "goes on" in child.communicate(timeout=60)[1]
    second = cloud.start("train", "my-tpu", "--", "--gin_file=a.gin")
    while "waiting" not in second.stdout.readline():
        assert second.poll() is None
    os.kill(int((cloud.folder / "worker0/flanx-run/pid").read_text()), signal.SIGTERM)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert "joining it" in said
    log = (cloud.folder / "worker1/flanx-run/log").read_text()
    assert log.splitlines()[1::2] == ["ending with 75", "ending with 0"]
    assert cloud.verbs().count("tpu-vm scp") == 1


def test_a_slice_whose_name_somebody_else_chose(cloud):
    """It is used as it is; were it looked for under another name, it would count as lost and be deleted."""
    cloud.write("queued-resources", "ACTIVE\ttheirs\t")
    cloud.write("tpu-vm", "READY\t2\tv4-16")
    code, _, err = cloud.train()
    assert code == 0, err
    assert {call[2] for call in cloud.calls if call[:2] == ["tpu-vm", "describe"]} == {"theirs"}
    assert cloud.verbs() == ["queued-resources scp"]


def test_a_dead_connection_is_noticed(cloud):
    """ssh to a machine that is gone would wait for ever."""
    assert cloud.train()[0] == 0
    for kind, verb, *words in cloud.calls:
        if verb in ("ssh", "scp"):
            assert f"--{verb}-flag=-oServerAliveInterval=15" in words, kind


def test_logs_and_stop_want_a_run(cloud):
    cloud.write("tpu-vm", "READY\t2\tv4-16")
    for command in ("logs", "stop"):
        code, _, err = cloud(command, "my-tpu")
        assert (code, "no run was started on my-tpu" in err) == (1, True)


def test_a_silent_worker_is_noticed(cloud):
    cloud.write("silent", "worker1")
    code, _, err = cloud.train()
    assert code == 1
    assert "1 of 2 workers answered (flanx-probe)" in err


def test_stop_joins_and_does_not_start_again(cloud):
    for worker in (0, 1):
        cloud.write(f"ends.{worker}", "wait\n")
    child = cloud.start("train", "my-tpu", "--accelerator_type=v4-16", "--", "--gin_file=a.gin")
    while "waiting" not in child.stdout.readline():
        assert child.poll() is None
    code, out, _ = cloud("status", "my-tpu")
    assert (code, out.count(" running")) == (0, 2)
    second = cloud.start("train", "my-tpu", "--", "--gin_file=a.gin")
    while "waiting" not in second.stdout.readline():
        assert second.poll() is None
    code, _, err = cloud("stop", "my-tpu")
    assert code == 0, err
    for process in (child, second):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 75
        assert "stopped on request" in said
    assert "joining it" in said
    assert cloud("logs", "my-tpu")[0] == 75
    assert cloud.verbs() == ["tpu-vm create", "tpu-vm scp"]


def test_no_room(cloud):
    cloud.write("no_room", "full")
    code, _, err = cloud.train()
    assert code == 1 and "no more capacity" in err
    cloud.write("tpu-vm", "PREEMPTED\t2\tv4-16")
    assert cloud.train()[0] == 1


def test_a_preempted_run_waits_for_room(cloud):
    cloud.write("ends.0", "lost\n")
    cloud.write("no_room", "missing\n\n\nmissing")
    code, _, err = cloud.train()
    assert code == 0, err
    assert err.count("no more capacity") == 2


def test_a_project_and_a_zone_are_wanted(cloud):
    cloud.write("configured", "")
    code, _, err = cloud.train()
    assert (code, "which project?" in err) == (2, True)
    code, _, err = cloud.train("--project=p")
    assert (code, "which zone?" in err) == (2, True)
    assert not (cloud.folder / "calls").exists()


def test_dry_run_calls_nothing(cloud):
    code, out, _ = cloud.train("--slices=2", "--dry_run", "--delete_when_done", name="pod")
    assert code == 0
    assert not (cloud.folder / "calls").exists()
    shown = [line.split()[3:5] for line in out.splitlines() if line.startswith("gcloud ")]
    ran = [
        "describe",
        "create",
        "describe",
        "describe",
        "describe",
        "ssh",
        "scp",
        *["ssh"] * 4,
        "delete",
    ]
    assert [verb for _, verb in shown] == ran
    _, out, _ = cloud.train("--dry_run", "--mount=gs://b=/mnt/b", "--env=WHO=dark blue")
    told = [line for line in out.splitlines() if line.startswith("# every worker: ")]
    assert told[0] == "# every worker: mounts gs://b at /mnt/b"
    assert told[-1].startswith("# every worker: WHO=dark\\ blue flanx train --gin_file=")
    for command in ("logs", "status", "stop"):
        code, out, err = cloud(command, "my-tpu", "--dry_run")
        assert (code, " ssh my-tpu " in out) == (0, True), err
    code, out, _ = cloud("down", "my-tpu", "--dry_run", "--project=it's")
    assert code == 0
    assert out.splitlines()[-1] == (
        "gcloud compute tpus tpu-vm delete my-tpu '--project=it'\\''s' --quiet"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "my tpu", "--", "a"], "NAME is 'my tpu'"),
        (["train", "my-tpu"], "say what to train after --"),
        (["fly", "my-tpu"], "no command 'fly'"),
        (["train", "my-tpu", "--gin_file=a.gin"], "flanx train's own after --"),
        (["train", "my-tpu", "--zone", "--", "a"], "no flag '--zone'"),
        (["train", "my-tpu", "--mount=bucket=/mnt", "--", "a"], "write gs://bucket=/mnt/x"),
        (["train", "my-tpu", "--send=gone.py", "--", "a"], "--send=gone.py: no such file"),
        (["train", "my-tpu", "--accelerator_type=v5e-16", "--", "a"], "v5litepod-16"),
        (["train", "my-tpu", "--", "--gin.MODEL_DIR=gs://b/x"], "mount the bucket"),
        (["train", "my-tpu", "--", "a"], "give --accelerator_type="),
        (["logs", "my-tpu"], "there is no slice 'my-tpu'"),
    ],
)
def test_mistakes_in_one_line(cloud, words, message):
    code, out, err = cloud(*words)
    assert code == (1 if words[0] == "logs" else 2)
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


def test_another_kind_of_slice_is_left_alone(cloud):
    cloud.write("tpu-vm", "READY\t2\tv5litepod-8")
    code, _, err = cloud.train()
    assert code == 2
    assert "is a v5litepod-8, not a v4-16" in err
    cloud.write("tpu-vm", "STOPPED\t2\tv4-16")
    code, _, err = cloud.train()
    assert (code, "my-tpu is STOPPED" in err) == (1, True)
