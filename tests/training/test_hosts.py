"""Real processes on the CPU that train together, and how each one learns its place."""

import dataclasses
import re
import signal
import socket
from pathlib import Path

import jax
import numpy as np
import pytest

from flanx.errors import UserError
from flanx.sharding.config import MeshConfig
from flanx.training import hosts
from flanx.training.config import CheckpointConfig
from flanx.training.hosts import Hosts, Place, find_place
from flanx.training.watchdog import BEAT_SECONDS, GRACE_SECONDS, SILENT_SECONDS


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


def test_nobody_answers():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UserError, match="process 1 of 2, coordinator.*connection refused") as error:
        hosts.join(Hosts(address, 2, 1, 0.3))
    assert error.value.status == 2


def test_jax_gives_a_process_up_after_the_watchdog():
    """Half of its timeout is the soonest; the watchdog takes its silence, four looks, and what others need."""
    assert hosts.HEARTBEAT_SECONDS / 2 > SILENT_SECONDS + 4 * BEAT_SECONDS + GRACE_SECONDS


def run_together(forks, config, count, devices, *faults, whose=1, of_all=()):
    """`count` processes that share `devices` CPU devices, when they have ended; `faults` are of process `whose`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    children = [
        forks.start(
            config,
            *(faults if index == whose else ()),
            *of_all,
            devices=devices // count,
            hosts=(address, count, index),
        )
        for index in range(count)
    ]
    for child in children:
        child.wait()
    return children


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


def test_two_processes_are_one_and_stop_together(toy_config, toy_suite, read_metrics, forks):
    """SIGTERM to one of two processes stops both at one step; started again, they end in one process's bytes.

    Process 1 writes no log; what it prints is the transport's own.
    """
    common = {"train_steps": 24, "evals": (toy_suite,), "eval_period": 0}
    whole = toy_config("whole", **common)
    assert forks.run(whole, devices=2).status == 0
    config = toy_config("two", **common)
    ends = run_together(forks, config, 2, 2, ("signal", 3, "SIGTERM"), ("slow", 3, 0.1))
    assert [end.status for end in ends] == [75, 75], [end.err for end in ends]
    stopped = max(int(p.name) for p in (Path(config.model_dir) / "checkpoints").iterdir())
    assert 3 < stopped < 24
    ends = run_together(forks, config, 2, 2)
    assert [end.status for end in ends] == [0, 0], [end.err for end in ends]
    assert f"going on from step {stopped}" in ends[0].out
    assert not [line for line in ends[1].out.splitlines() if not line.startswith("[Gloo]")]
    for mine, theirs in zip(params_of(config, 24), params_of(whole, 24), strict=True):
        assert (mine == theirs).all()
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


@pytest.mark.nightly
def test_four_processes_agree_with_one_and_share_its_checkpoint(toy_config, forks):
    """Fully sharded and tensor parallel over four processes, two of which hold the same rows: sums run in another
    order, so float32 rounding is allowed, and no more."""
    mesh = MeshConfig(model=2, parameters="fully_sharded")
    whole = toy_config("whole", mesh=mesh)
    assert forks.run(whole, devices=4).status == 0
    config = toy_config("four", mesh=mesh)
    ends = run_together(forks, config, 4, 4)
    assert [end.status for end in ends] == [0] * 4, [end.err for end in ends]
    for mine, theirs in zip(params_of(config, 9), params_of(whole, 9), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5)


def test_what_process_0_cannot_do_ends_the_others(toy_config, forks):
    config = toy_config()
    gone = dataclasses.replace(config.data, mixture="no.such.mixture")
    ends = run_together(forks, dataclasses.replace(config, data=gone), 2, 2)
    assert all(end.status == 2 for end in ends), [end.err for end in ends]
    assert "process 0 ended while it was preparing the data" in ends[1].err


def test_a_process_that_stalls_is_named(toy_config, forks):
    """Process 1 gets no more data after step 4: both leave their stacks, process 0 says which it was, and both end."""
    config = toy_config(hang_seconds=4.0)
    ends = run_together(forks, config, 2, 2, ("stall", 4))
    assert [end.status for end in ends] == [75, 75], [end.err for end in ends]
    line = ends[0].err.splitlines()[-1]
    assert re.search(
        r"process 1 \(.*\) is at step 4 since .*, waiting for data; the other 1 wait", line
    ), line
    assert "started again, the run goes on" in line
    assert ends[1].err == ""
    stacks = [(Path(config.model_dir) / f"hang-{i}.txt").read_text() for i in range(2)]
    assert "never" in stacks[1]  # where it hangs
    assert "never" not in stacks[0]


def test_a_process_that_dies_is_named(toy_config, forks):
    config = toy_config(hang_seconds=4.0)
    ends = run_together(forks, config, 2, 2, ("signal", 4, "SIGKILL"))
    assert ends[1].status == -signal.SIGKILL
    assert ends[0].status == 75, ends[0].err
    assert re.search(r"process 1 \(.*\) is at step .*not heard of any more", ends[0].err)


def test_the_end_of_process_0_ends_the_others(toy_config, forks):
    """JAX's client aborts at once where its coordinator is gone; that too is a status that means again."""
    config = toy_config(hang_seconds=4.0)
    ends = run_together(forks, config, 2, 2, ("signal", 4, "SIGKILL"), whose=0)
    assert ends[0].status == -signal.SIGKILL
    assert ends[1].status == 75, (ends[1].status, ends[1].err)
    assert re.search(r"process 0.*Ending with status 75: started again, the run", ends[1].err)
    ends = run_together(forks, config, 2, 2)
    assert [end.status for end in ends] == [0, 0], [end.err for end in ends]


@pytest.mark.nightly
def test_a_killed_process_ends_the_others_with_75_each_time(toy_config, forks):
    """Ten of process 0 and ten of another, at some moment after some step: an abort of JAX's never gets through."""
    rng = np.random.default_rng(0)
    statuses = []
    for number in range(20):
        config = toy_config(f"killed-{number}", hang_seconds=4.0, train_steps=60)
        fault = ("die_after", float(rng.uniform(0.001, 0.3)), int(rng.integers(1, 8)))
        victim = number % 2
        ends = run_together(forks, config, 2, 2, fault, whose=victim)
        assert ends[victim].status == -signal.SIGALRM, ends[victim].err
        statuses.append(ends[1 - victim].status)
    assert statuses == [75] * 20


@pytest.mark.nightly
def test_a_save_that_one_process_cannot_write(toy_config, forks, read_metrics):
    """From step 5 to 14 process 1 has no room: nobody stops, all learn of it, and the bytes at the end are the same."""
    settings = {
        "train_steps": 22,
        "checkpoint": CheckpointConfig(period=10, keep=None),
        "mesh": MeshConfig(parameters="fully_sharded"),
    }
    whole = toy_config("whole", **settings)
    assert forks.run(whole, devices=2).status == 0
    config = toy_config("full", **settings)
    ends = run_together(
        forks, config, 2, 2, ("full", 5, 14, 64), of_all=[("short_waits", 3), ("slow", 9, 0.5)]
    )
    assert [end.status for end in ends] == [0, 0], [end.err for end in ends]
    assert ends[0].out.count("could not be saved") == 1, ends[0].out
    assert "writing works again" in ends[0].out
    for mine, theirs in zip(params_of(config, 22), params_of(whole, 22), strict=True):
        assert (mine == theirs).all()
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


@pytest.mark.nightly
def test_what_one_process_cannot_read_none_goes_on_from(toy_config, forks):
    config = toy_config()
    assert [end.status for end in run_together(forks, config, 2, 2)] == [0, 0]
    longer = dataclasses.replace(config, train_steps=12)
    ends = run_together(forks, longer, 2, 2, ("unreadable", 9))
    assert [end.status for end in ends] == [0, 0], [end.err for end in ends]
    assert "9 is damaged (on process 1); going back to step 8" in ends[0].out
    assert "going on from step 8" in ends[0].out
    assert (Path(config.model_dir) / "damaged" / "9").is_dir()
    assert {int(p.name) for p in (Path(config.model_dir) / "checkpoints").iterdir()} == {4, 8, 12}
