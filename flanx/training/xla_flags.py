"""Compiler settings known to be good for a training step, by platform, each with its reason and where that stands.

They go with the program when it is compiled (`jax.stages.Lowered.compile`), not into XLA_FLAGS: a name that another
version of XLA does not know is then refused with an error that can be read, where XLA_FLAGS ends the process; the same
settings hold for a program compiled ahead of time; and no other program of the process changes. What the user sets in
XLA_FLAGS or LIBTPU_INIT_ARGS stays as it is set there.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

Options = Mapping[str, bool | int | str]


class Flag(NamedTuple):
    """One setting: its name and value, what it does for a training step, and who says so."""

    name: str
    value: bool | int | str
    reason: str
    source: str


_JAX = "https://docs.jax.dev/en/latest/xla_flags.html"
_NVIDIA = "https://docs.nvidia.com/jax-toolbox/performance-profiling/gpu-performance"
_MAXTEXT = "https://github.com/AI-Hypercomputer/maxtext/blob/main/benchmarks/xla_flags_library.py"

# XLA under JAX 0.12 knows the pipelined collectives of GPUs no longer, and `compiled` leaves them out there.
FLAGS: Mapping[str, tuple[Flag, ...]] = {
    "gpu": (
        Flag(
            "xla_gpu_enable_latency_hiding_scheduler",
            True,
            "starts gathers and reductions early and does other work meanwhile",
            _NVIDIA,
        ),
        Flag(
            "xla_gpu_enable_pipelined_all_gather",
            True,
            "gathers the next layer's parameters while this layer of a scan runs",
            _NVIDIA,
        ),
        Flag(
            "xla_gpu_enable_pipelined_reduce_scatter",
            True,
            "spreads this layer's gradients while the next layer of a scan runs",
            _NVIDIA,
        ),
        Flag(
            "xla_gpu_enable_pipelined_all_reduce",
            True,
            "the same for gradients of parameters that every device holds",
            _NVIDIA,
        ),
    ),
    "tpu": (
        Flag(
            "xla_enable_async_all_gather",
            "true",
            "gathers of parameters run beside the cores",
            _JAX,
        ),
        Flag(
            "xla_tpu_enable_async_collective_fusion",
            "true",
            "work is done between a collective's start and its end",
            _JAX,
        ),
        Flag(
            "xla_tpu_enable_async_collective_fusion_fuse_all_gather",
            "true",
            "gathers of parameters are among those collectives",
            _JAX,
        ),
        Flag(
            "xla_tpu_enable_async_collective_fusion_multiple_steps",
            "true",
            "one collective may go on beside several pieces of work",
            _JAX,
        ),
        Flag(
            "xla_tpu_overlap_compute_collective_tc",
            "true",
            "a core computes and communicates at once",
            _JAX,
        ),
        Flag(
            "xla_tpu_enable_data_parallel_all_reduce_opt",
            "true",
            "gradient sums between slices, over the slow network, overlap the backward pass",
            _MAXTEXT,
        ),
        Flag(
            "xla_tpu_data_parallel_opt_different_sized_ops",
            "true",
            "the same where those sums differ in size, as T5's do",
            _MAXTEXT,
        ),
    ),
}


def options(
    platform: str, environment: Mapping[str, str] = os.environ
) -> dict[str, bool | int | str]:
    """Compiler options for a step on `platform` ("cpu", "gpu", "tpu"), without those that the environment sets.

    Args:
      platform: `jax.Device.platform` of the devices.
      environment: where XLA_FLAGS and LIBTPU_INIT_ARGS are looked up.
    """
    told = " ".join(environment.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"))
    chosen = set(re.findall(r"--([a-z0-9_]+)", told))
    return {flag.name: flag.value for flag in FLAGS.get(platform, ()) if flag.name not in chosen}


def compiled(lowered: Any, wanted: Options) -> Any:
    """`lowered` compiled with these options, less those that this version of XLA does not know.

    Args:
      lowered: `jax.stages.Lowered`.
      wanted: as `options` gives them.
    """
    left = dict(wanted)
    while True:
        try:
            return lowered.compile(compiler_options=left or None)
        except jax.errors.JaxRuntimeError as error:
            refused = [name for name in left if re.search(rf"\b{name}\b", str(error))]
            if not refused or "option" not in str(error).lower():
                raise
            for name in refused:
                del left[name]
