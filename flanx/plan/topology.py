"""Which devices a plan is for: `v4:8x8x8`, `v4-1024` or `h100:8x4` as a table row and, for TPUs, as JAX devices.

Google names a v4 or v5p slice by its TensorCores, two a chip, and a v5e or v6e slice by its chips: v4-1024 is 512
chips, v6e-256 is 256. A topology in chips (`v4:8x8x8`) cannot be misread.
"""

import importlib.util
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flanx.errors import UserError, did_you_mean
from flanx.hardware.chips import CHIPS, GIB, Chip

# TensorCores a chip, by which Google's names count, and the dimensions of a slice.
_CORES = {"v4": 2, "v5p": 2, "v5e": 1, "v6e": 1}
_DIMENSIONS = {"v4": 3, "v5p": 3, "v5e": 2, "v6e": 2}
_ALIASES = {"v5litepod": "v5e"}
# The shapes that Google gives for a number of chips where none is asked for
# (https://cloud.google.com/tpu/docs/v4, .../v5p, .../v5e, .../v6e).
_SHAPES_3D = {
    4: (2, 2, 1),
    8: (2, 2, 2),
    16: (2, 2, 4),
    32: (2, 4, 4),
    64: (4, 4, 4),
    128: (4, 4, 8),
    256: (4, 8, 8),
    512: (8, 8, 8),
    1024: (8, 8, 16),
    2048: (8, 16, 16),
    4096: (16, 16, 16),
    6144: (16, 16, 24),
}
_SHAPES_2D = {
    1: (1, 1),
    4: (2, 2),
    8: (2, 4),
    16: (4, 4),
    32: (4, 8),
    64: (8, 8),
    128: (8, 16),
    256: (16, 16),
}
# Of three dimensions: these, and any in whole cubes of 4 x 4 x 4, up to the largest slice there is.
_PARTS_OF_A_CUBE = {(1, 2, 2), (2, 2, 2), (2, 2, 4), (2, 4, 4)}
_MOST_CHIPS = {"v4": 4096, "v5p": 6144}
_MOST_GPUS = 16  # that NVLink or PCIe joins in one server
_FORMS = (
    "write v4:8x8x8 (chips), v4-1024 (as Google names it), h200:8 (one server) or h100:8x4 (four)"
)


@dataclass(frozen=True)
class Topology:
    """Devices of one kind.

    Attributes:
      chip: their peak rates.
      shape: chips of one slice along each dimension, or the GPUs of one server.
      slices: slices, or servers, joined by the data centre's network.
    """

    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def per_slice(self) -> int:
        """Devices whose links reach each other."""
        return math.prod(self.shape)

    @property
    def devices(self) -> int:
        """All of them."""
        return self.per_slice * self.slices

    @property
    def name(self) -> str:
        """As `--topology` takes it."""
        servers = self.chip.platform == "gpu" and self.slices > 1
        shape = (*self.shape, self.slices) if servers else self.shape
        text = "x".join(str(n) for n in shape)
        return f"{self.chip.name}:{text}"

    @property
    def cloud_name(self) -> str | None:
        """Google's name of a slice; None for GPUs."""
        cores = _CORES.get(self.chip.name)
        return None if cores is None else f"{self.chip.name}-{self.per_slice * cores}"

    def describe(self) -> str:
        """One line for people: "v4:8x8x8 (512 chips, v4-1024)"."""
        if self.chip.platform == "gpu":
            servers = (
                f"{self.slices} servers of {self.per_slice}" if self.slices > 1 else "1 server"
            )
            gpus = f"{self.devices} GPU{'s' if self.devices > 1 else ''}"
            return f"{self.name} ({gpus}, {servers})"
        many = f"{self.slices} slices of " if self.slices > 1 else ""
        return f"{many}{self.name} ({self.per_slice} chips, {self.cloud_name})"


def parse(text: str, slices: int = 1) -> Topology:
    """The topology that `--topology` and `--slices` name.

    Raises:
      UserError: an unknown chip, or a shape it does not come in.
    """
    if slices < 1:
        raise UserError(f"--slices {slices}: give 1 or more")
    found = re.fullmatch(r"([a-z0-9-]+?)([:-])(\d+(?:x\d+)*)", text.strip().lower())
    if not found:
        raise UserError(f"--topology {text}: {_FORMS}")
    name = _ALIASES.get(found[1], found[1])
    if name not in CHIPS:
        hint = did_you_mean(name, CHIPS) or f"; known: {', '.join(CHIPS)}"
        raise UserError(f"--topology {text}: no chip '{name}'{hint}")
    chip = CHIPS[name]
    numbers = tuple(int(n) for n in found[3].split("x"))
    if min(numbers) < 1:
        raise UserError(f"--topology {text}: sizes must be at least 1")
    if found[2] == "-":
        return Topology(chip, _shape_of(text, name, numbers), slices)
    if chip.platform == "gpu":
        return _servers(text, chip, numbers, slices)
    if len(numbers) != _DIMENSIONS[name]:
        example = "v4:8x8x8" if _DIMENSIONS[name] == 3 else f"{name}:16x16"
        raise UserError(
            f"--topology {text}: a {name} slice has {_DIMENSIONS[name]} dimensions, as in {example}"
        )
    _check_slice(text, name, numbers)
    return Topology(chip, numbers, slices)


def _check_slice(text: str, name: str, shape: tuple[int, ...]) -> None:
    """Refuses a slice that Google does not have, which XLA would compile for all the same."""
    if len(shape) == 2:
        if tuple(sorted(shape)) not in _SHAPES_2D.values():
            known = ", ".join(f"{a}x{b}" for a, b in _SHAPES_2D.values())
            raise UserError(f"--topology {text}: {name} slices are {known}; --slices joins several")
        return
    cubes = all(n % 4 == 0 for n in shape)
    if (not cubes and tuple(sorted(shape)) not in _PARTS_OF_A_CUBE) or (
        math.prod(shape) > _MOST_CHIPS[name]
    ):
        raise UserError(
            f"--topology {text}: {name} slices are 2x2x1, 2x2x2, 2x2x4, 2x4x4, and any multiples of 4 up to "
            f"{_MOST_CHIPS[name]:,} chips; --slices joins several"
        )


def _shape_of(text: str, name: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """The shape behind one of Google's names."""
    if name not in _CORES or len(numbers) != 1:
        raise UserError(f"--topology {text}: {_FORMS}")
    every: Mapping[int, tuple[int, ...]] = _SHAPES_3D if _DIMENSIONS[name] == 3 else _SHAPES_2D
    chips, rest = divmod(numbers[0], _CORES[name])
    shapes = {n: s for n, s in every.items() if n <= _MOST_CHIPS.get(name, n)}
    if rest or chips not in shapes:
        known = ", ".join(f"{name}-{n * _CORES[name]}" for n in shapes)
        other = "; any other by its shape in chips" if _DIMENSIONS[name] == 3 else ""
        raise UserError(f"--topology {text}: known are {known}{other}")
    return shapes[chips]


def _servers(text: str, chip: Chip, numbers: tuple[int, ...], slices: int) -> Topology:
    if len(numbers) > 2 or (len(numbers) == 2 and slices > 1):
        raise UserError(
            f"--topology {text}: GPUs are {chip.name}:8, or {chip.name}:8x4 for four servers of 8"
        )
    if numbers[0] > _MOST_GPUS:
        raise UserError(
            f"--topology {text}: no server has {numbers[0]} GPUs; {chip.name}:8x{-(-numbers[0] // 8)} is "
            f"{-(-numbers[0] // 8)} servers of 8"
        )
    return Topology(chip, numbers[:1], numbers[1] if len(numbers) == 2 else slices)


# What XLA lets one program have of the memory, as its own out-of-memory message says.
_USABLE = {"v4": 30.75, "v5e": 15.75, "v5p": 95.74, "v6e": 31.25}


def usable_bytes(chip: Chip) -> int:
    """Device memory that a training step can have."""
    if chip.platform == "tpu":
        return int(_USABLE[chip.name] * GIB)
    return int(chip.hbm_bytes * GPU_SHARE)


# The driver, cuBLAS, cuDNN and NCCL keep a few GiB for themselves.
GPU_SHARE = 0.92


def prepare_environment() -> None:
    """Before JAX computes anything: that is done on the CPU here, and libtpu looks for no TPU and says nothing."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:  # which reads the environment once
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    # Nothing is run on a TPU, so neither other plans nor a training run here need be kept away from it.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    # Without these it asks the cloud what machine this is, and complains of the silence.
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v4-8")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def has_compiler() -> bool:
    """Whether libtpu, which compiles for TPUs, is installed."""
    return (
        bool(os.environ.get("TPU_LIBRARY_PATH")) or importlib.util.find_spec("libtpu") is not None
    )


def tpu_devices(topology: Topology) -> list[Any]:
    """Compile-only `jax.Device`s of a TPU slice that is not there.

    Raises:
      UserError: libtpu is not installed, or does not compile for such a slice.
    """
    if not has_compiler():
        raise UserError(
            "flanx plan compiles for TPUs with libtpu, which is not installed: pip install 'flanx[plan]'"
        )
    from jax.experimental import topologies

    dimensions = (*topology.shape, 1)[:3]
    options: dict[str, Any] = {
        "chips_per_host_bounds": (min(dimensions[0], 2), min(dimensions[1], 2), 1)
    }
    if _CORES[topology.chip.name] == 2:
        options["chip_config_name"] = "megacore"
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    try:
        found = topologies.get_topology_desc(topology.name, "tpu", **options)
    except Exception as error:  # whatever the library raises, it is about the name
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"--topology {topology.name}: libtpu does not compile for it ({said})"
        ) from error
    return list(found.devices)
