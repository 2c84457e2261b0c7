"""Real processes on the CPU that train together, and how each one learns its place."""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from flanx.errors import UserError
from flanx.training import hosts
from flanx.training.hosts import Hosts, Place, find_place
from flanx.training.loop import train


def place(*flags, tpu=False, **environment):
    return find_place(Hosts(*flags), environment, lambda: tpu)


def test_alone():
    assert place() is None
    assert place(SLURM_NTASKS="1", SLURM_PROCID="0") is None


def test_flags_win_over_everything():
    found = place("a:1", 4, 2, tpu=True, SLURM_NTASKS="8", SLURM_PROCID="1")
    assert (found.address, found.count, found.index) == ("a:1", 4, 2)


def test_variables_in_place_of_flags():
    found = place(
        JAX_COORDINATOR_ADDRESS="job-0.job:8476", JAX_NUM_PROCESSES="4", JAX_PROCESS_ID="3"
    )
    assert (found.address, found.count, found.index) == ("job-0.job:8476", 4, 3)


def test_launchers():
    assert place(SLURM_NTASKS="2", SLURM_PROCID="1") == Place("SLURM")
    old = {"OMPI_MCA_orte_hnp_uri": "1;tcp://10.0.0.1:1"}
    world = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
    assert place(**world, **old) == Place("Open MPI")
    found = place("head:9000", **world)
    assert (found.address, found.count, found.index) == ("head:9000", 2, 1)
    assert place(tpu=True) == Place("TPU metadata")


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (("a:1", 2, None), {}, "wants --process_count=N and --process_index=I"),
        ((None, 2, 0), {}, "want --coordinator_address=HOST:PORT"),
        (("a", 2, 0), {}, "--coordinator_address=a: write HOST:PORT"),
        (("a:1", 2, 2), {}, r"--process_index=2 is not among 0\.\.1"),
        (("a:1",), {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES=two"),
        ((), {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "this Open MPI does not"),
    ],
)
def test_what_cannot_be_is_named(flags, environment, message):
    with pytest.raises(UserError, match=message):
        place(*flags, **environment)


def test_nobody_answers(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("DEADLINE_EXCEEDED: waited\nlong")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(
        UserError, match="process 1 of 2, coordinator a:1.*DEADLINE_EXCEEDED: waited long"
    ):
        hosts.join(Hosts("a:1", 2, 1))


DRIVER = """
import pickle, sys
from flanx.training.hosts import Hosts
from flanx.training.loop import train
path, address, count, index = sys.argv[1:]
with open(path, "rb") as handle:
    config = pickle.load(handle)
result = train(config, hosts=Hosts(address, int(count), int(index)))
sys.exit(75 if result.preempted else 0)
"""


def start(config, count, devices, folder):
    """`count` processes that share `devices` CPU devices, as open files and processes."""
    import pickle

    path = folder / f"{count}.pickle"
    path.write_bytes(pickle.dumps(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={devices // count}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    return [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(path), address, str(count), str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def finish(children):
    """(exit status, stdout, stderr) of each."""
    told = [child.communicate(timeout=300) for child in children]
    return [(child.returncode, *texts) for child, texts in zip(children, told, strict=True)]


def params_of(config, step):
    from flanx.training import params_io

    folder = Path(config.model_dir) / "checkpoints" / str(step)
    shapes = params_io.stored_shapes(folder / "params")
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    tree: dict = {}
    for path, shape in shapes.items():
        place = tree
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = jax.ShapeDtypeStruct(shape, np.float32, sharding=one)
    return [
        np.asarray(leaf) for leaf in jax.tree.leaves(params_io.read_tree(folder / "params", tree))
    ]


def test_two_processes_are_one_and_stop_together(toy_config, toy_suite, read_metrics, tmp_path):
    """SIGTERM to one of two processes stops both at one step; started again, they end in one process's bytes.

    Process 1 writes no log; what it prints is the transport's own.
    """
    common = {"train_steps": 60, "evals": (toy_suite,), "eval_period": 0}
    whole = toy_config("whole", **common)
    train(whole, devices=jax.devices()[:2])
    config = toy_config("two", **common)
    children = start(config, 2, 2, tmp_path)
    for line in children[0].stdout:
        if line.startswith("step 1 done"):
            children[1].send_signal(signal.SIGTERM)
            break
    ends = finish(children)
    assert [end[0] for end in ends] == [75, 75], ends
    stopped = max(int(p.name) for p in (Path(config.model_dir) / "checkpoints").iterdir())
    assert 0 < stopped < 60
    ends = finish(start(config, 2, 2, tmp_path))
    assert [end[0] for end in ends] == [0, 0], ends
    assert f"going on from step {stopped}" in ends[0][1]
    assert not [line for line in ends[1][1].splitlines() if not line.startswith("[Gloo]")]
    for mine, theirs in zip(params_of(config, 60), params_of(whole, 60), strict=True):
        assert (mine == theirs).all()
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


def test_four_processes_agree_with_one_and_share_its_checkpoint(toy_config, tmp_path):
    """Fully sharded over four processes: sums run in another order, so float32 rounding is allowed, and no more."""
    mesh = dataclasses.replace(toy_config().mesh, fully_sharded=True)
    whole = toy_config("whole", mesh=mesh)
    train(whole, devices=jax.devices()[:4])
    config = toy_config("four", mesh=mesh)
    ends = finish(start(config, 4, 4, tmp_path))
    assert [end[0] for end in ends] == [0] * 4, ends
    for mine, theirs in zip(params_of(config, 9), params_of(whole, 9), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5)


def test_what_process_0_cannot_do_ends_the_others(toy_config, tmp_path):
    config = toy_config()
    gone = dataclasses.replace(config.data, mixture="no.such.mixture")
    ends = finish(start(dataclasses.replace(config, data=gone), 2, 2, tmp_path))
    assert all(end[0] == 1 for end in ends)
    assert re.search("UserError: process 0 ended while it was preparing the data", ends[1][2])
