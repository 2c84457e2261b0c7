"""Compiler settings: the user's stay, those that XLA does not know are left out, and this XLA knows those for GPUs."""

import jax
import jax.numpy as jnp
import pytest

from flanx.training import xla_flags


def test_what_the_user_sets_stays():
    every = xla_flags.options("gpu", {})
    assert set(every) == {flag.name for flag in xla_flags.FLAGS["gpu"]}
    set_here = {"XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=false --xla_dump_to=x"}
    assert set(every) - set(xla_flags.options("gpu", set_here)) == {
        "xla_gpu_enable_latency_hiding_scheduler"
    }
    libtpu = {"LIBTPU_INIT_ARGS": "--xla_tpu_overlap_compute_collective_tc=false"}
    assert "xla_tpu_overlap_compute_collective_tc" not in xla_flags.options("tpu", libtpu)
    assert len(xla_flags.options("tpu", libtpu)) == len(xla_flags.FLAGS["tpu"]) - 1
    assert xla_flags.options("cpu", {}) == {}
    assert all(flag.reason and flag.source for flags in xla_flags.FLAGS.values() for flag in flags)


def test_names_that_xla_does_not_know_are_left_out():
    """One that never was. XLA for the CPU knows the names for GPUs too, so the table's are checked here."""
    lowered = jax.jit(lambda x: x + 1).lower(jnp.zeros(2))
    known = xla_flags.options("gpu", {})
    if jax.__version_info__ >= (0, 12):  # whose XLA has dropped three of them
        known = {name: value for name, value in known.items() if "_pipelined_" not in name}
    assert known
    lowered.compile(compiler_options=known)
    program = xla_flags.compiled(
        lowered, {"xla_of_another_day": True, **xla_flags.options("gpu", {})}
    )
    assert program(jnp.ones(2)).tolist() == [2.0, 2.0]


def test_other_errors_of_the_compiler_are_not_hidden():
    class Broken:
        def compile(self, compiler_options=None):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        xla_flags.compiled(Broken(), xla_flags.options("gpu", {}))
