"""Launchers beside run_tpu.sh: the SLURM script under a srun that starts processes, the JobSet manifest by field."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import yaml

from flanx.errors import UserError
from flanx.training import hosts

LAUNCHERS = Path(__file__).parents[2] / "launchers"

# Starts as many tasks as asked, with SLURM's variables, and ends with the highest status.
SRUN = """#!/usr/bin/env bash
echo "$SRUN_CPUS_PER_TASK" >cores
while [[ $1 == --* ]]; do echo "$1" >>srun-flags; shift; done
children=()
for ((task = 0; task < TASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=$TASKS SLURM_STEP_NODELIST=localhost SLURM_STEP_NUM_NODES=1 \\
    "$@" >"task$task" 2>&1 &
  children+=($!)
done
status=0
for child in "${children[@]}"; do
  wait "$child" || { code=$?; ((code <= status)) || status=$code; }
done
exit "$status"
"""
# Joins the others as `flanx train` does; ends with the status asked for.
FLANX = """#!{python}
import os, sys
if os.environ["TASKS"] != "1":
    import jax
    from flanx.training import hosts
    hosts.join(hosts.Hosts())
    print("process", jax.process_index(), "of", jax.process_count())
print(sys.argv[1:])
sys.exit(int(os.environ["STATUS"]))
"""


def free_job():
    """A job number of which JAX makes a port that is free (61440 + number % 4096)."""
    for number in range(os.getpid(), os.getpid() + 4096):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", 61440 + number % 4096))
            return number
    raise AssertionError("no free port")


@pytest.fixture
def sbatch(tmp_path):
    """`sbatch(tasks, status, *words)`: runs the script as SLURM would; its status, output and folder."""
    programs = {"srun": SRUN, "flanx": FLANX.format(python=sys.executable)}
    programs["scontrol"] = '#!/bin/sh\necho "$*" >scontrol-words\n'
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(tasks, status, *words, **variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
        environment |= {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(LAUNCHERS.parent),
            "JAX_PLATFORMS": "cpu",
            "SLURM_JOB_ID": str(free_job()),
            "TASKS": str(tasks),
            "STATUS": str(status),
            "SLURM_CPUS_PER_TASK": "8",
            **variables,
        }
        script = ["bash", str(LAUNCHERS / "slurm.sbatch"), *words]
        ended = subprocess.run(
            script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        return ended.returncode, ended.stdout + ended.stderr, tmp_path

    return run


def test_slurm_tasks_find_each_other_and_get_the_arguments(sbatch):
    status, out, folder = sbatch(2, 0, "--gin_file=it's.gin", "--gin.X=(1, 2)")
    assert status == 0, out
    for task in (0, 1):
        told = (folder / f"task{task}").read_text()
        assert f"process {task} of 2" in told
        assert """['train', "--gin_file=it's.gin", '--gin.X=(1, 2)']""" in told
    assert not (folder / "scontrol-words").exists()


def test_a_host_that_is_late_is_started_again(monkeypatch):
    """Its node is still coming up, say; an address that somebody typed is a mistake."""

    def refuse(*args, **kwargs):
        raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    monkeypatch.setattr(hosts.rendezvous, "meet", lambda *args, **kwargs: None)
    for said, status in ((hosts.Hosts("a:1", 2, 1), 2), (hosts.Hosts(), 75)):
        monkeypatch.setenv("SLURM_NTASKS", "2")
        monkeypatch.setenv("SLURM_PROCID", "1")
        with pytest.raises(UserError, match="did not find each other") as error:
            hosts.join(said)
        assert error.value.status == status


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [
        (75, {}, True),
        (75, {"SLURM_RESTART_COUNT": "100"}, False),
        (65, {}, False),
        (137, {"YOUNG": "0"}, True),
        (137, {}, False),
    ],
)
def test_slurm_queues_a_preempted_run_again(sbatch, status, restarts, requeued):
    ended, out, folder = sbatch(1, status, **restarts)
    assert ended == status, out
    assert (folder / "scontrol-words").exists() == requeued
    if requeued:
        assert (folder / "scontrol-words").read_text().startswith("requeue ")
    assert (folder / "cores").read_text() == "8\n"


def test_slurm_asks_for_a_task_a_gpu():
    lines = (LAUNCHERS / "slurm.sbatch").read_text().splitlines()
    flags = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert flags["ntasks-per-node"] == flags["gpus-per-node"]
    assert flags["signal"].startswith("TERM@")  # to the tasks; B: would be the script
    assert "requeue" in flags


def test_jobset():
    """Restarts on 75 and on disruption, not on flanx's own failures; chips, hosts and selectors agree."""
    manifest = yaml.safe_load((LAUNCHERS / "jobset.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    spec = manifest["spec"]
    (replicated,) = spec["replicatedJobs"]
    assert spec["coordinator"] == {
        "replicatedJob": replicated["name"],
        "jobIndex": 0,
        "podIndex": 0,
    }
    assert spec["failurePolicy"]["maxRestarts"] > 0
    (rule,) = spec["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    job = replicated["template"]["spec"]
    assert (job["backoffLimit"], job["completionMode"]) == (0, "Indexed")
    disrupted, failed = job["podFailurePolicy"]["rules"]
    assert (disrupted["action"], disrupted["onPodConditions"][0]["type"]) == (
        "Count",
        "DisruptionTarget",
    )
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    codes = failed["onExitCodes"]
    assert (failed["action"], codes["operator"]) == ("FailJob", "In")
    assert codes["containerName"] == container["name"]
    assert {1, 2, 3, 65} == set(codes["values"]) and 75 not in codes["values"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy wants it
    chips = 1
    for side in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"):
        chips *= int(side)
    machines = job["parallelism"]
    assert machines == job["completions"]
    assert machines * container["resources"]["limits"]["google.com/tpu"] == chips
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] == "tpu-v5-lite-podslice"
    assert container["command"] == ["flanx", "train"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounted)
    model_dir = next(word for word in container["args"] if "MODEL_DIR" in word).partition("=")[2]
    assert model_dir.startswith(mounted["data"] + "/")
