"""Published peak rates of accelerators, one line of the table for one JAX device. No JAX: anything may import this.

Every figure is the maker's and for one direction where it is a link's. What is published both ways (NVLink's 900 GB/s,
Google's "bidirectional ICI bandwidth") is halved, rates "with sparsity" are halved as well, and what is published for a
whole pod or server is divided by its chips. A v4 or v5p chip has two TensorCores that work as one JAX device
("megacore"), so its line is the chip's; v5e and v6e have one.

Memory is given in GiB by those who write GB: a GPU of "80 GB" reports 81,559 MiB.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """Peak rates of one JAX device.

    Attributes:
      name: the name that the command line takes ("v5p", "h200").
      platform: "tpu" or "gpu".
      device_kinds: what `jax.Device.device_kind` says.
      peak_flops: dense bfloat16 FLOP/s.
      hbm_bytes: memory on the device.
      hbm_bandwidth: bytes a second between that memory and the cores.
      link_bandwidth: bytes a second that the device sends over all its links together (ICI, NVLink or PCIe).
      network_bandwidth: bytes a second that the device sends to other slices or servers, its share of the host's.
      source: where the figures are published.
    """

    name: str
    platform: str
    device_kinds: tuple[str, ...]
    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    source: str


_TABLE = (
    # ICI: 6 links of 50 GB/s (table 4 of the paper). Network: 25 GB/s a host of 4 chips (the scaling book).
    Chip(
        "v4",
        "tpu",
        ("TPU v4",),
        275e12,
        32 * GIB,
        1200e9,
        300e9,
        25e9 / 4,
        "https://cloud.google.com/tpu/docs/v4, https://arxiv.org/abs/2304.01433, "
        "https://jax-ml.github.io/scaling-book/tpus",
    ),
    # ICI: 400 GB/s both ways. Network: 6.4 Tb/s a pod of 256 chips.
    Chip(
        "v5e",
        "tpu",
        ("TPU v5 lite", "TPU v5e"),
        197e12,
        16 * GIB,
        819e9,
        200e9,
        6.4e12 / 8 / 256,
        "https://cloud.google.com/tpu/docs/v5e",
    ),
    # ICI: 1,200 GB/s both ways. Network: 50 Gb/s a chip.
    Chip(
        "v5p",
        "tpu",
        ("TPU v5", "TPU v5p"),
        459e12,
        95 * GIB,
        2765e9,
        600e9,
        50e9 / 8,
        "https://cloud.google.com/tpu/docs/v5p",
    ),
    # ICI: 800 GB/s both ways. Network: 25.6 Tb/s a pod of 256 chips.
    Chip(
        "v6e",
        "tpu",
        ("TPU v6 lite", "TPU v6e"),
        918e12,
        32 * GIB,
        1638e9,
        400e9,
        25.6e12 / 8 / 256,
        "https://cloud.google.com/tpu/docs/v6e",
    ),
    # Network of the servers below: one adapter a GPU, of 200 Gb/s (DGX A100) or 400 Gb/s (DGX H100, H200, B200).
    Chip(
        "a100-40gb",
        "gpu",
        ("NVIDIA A100-SXM4-40GB",),
        312e12,
        40 * GIB,
        1555e9,
        300e9,
        25e9,
        "https://www.nvidia.com/en-us/data-center/a100/, https://docs.nvidia.com/dgx/dgxa100-user-guide/",
    ),
    Chip(
        "a100",
        "gpu",
        ("NVIDIA A100-SXM4-80GB",),
        312e12,
        80 * GIB,
        2039e9,
        300e9,
        25e9,
        "https://www.nvidia.com/en-us/data-center/a100/, https://docs.nvidia.com/dgx/dgxa100-user-guide/",
    ),
    Chip(
        "h100",
        "gpu",
        ("NVIDIA H100 80GB HBM3",),
        989e12,
        80 * GIB,
        3350e9,
        450e9,
        50e9,
        "https://www.nvidia.com/en-us/data-center/h100/, https://docs.nvidia.com/dgx/dgxh100-user-guide/",
    ),
    # The PCIe card without an NVLink bridge: PCIe 5.0 x16 is 64 GB/s one way.
    Chip(
        "h100-pcie",
        "gpu",
        ("NVIDIA H100 PCIe",),
        756e12,
        80 * GIB,
        2000e9,
        64e9,
        50e9,
        "https://www.nvidia.com/content/dam/en-zz/Solutions/gtcs22/data-center/h100/PB-11133-001_v01.pdf",
    ),
    Chip(
        "h200",
        "gpu",
        ("NVIDIA H200",),
        989e12,
        141 * GIB,
        4800e9,
        450e9,
        50e9,
        "https://www.nvidia.com/en-us/data-center/h200/, https://docs.nvidia.com/dgx/dgxh100-user-guide/",
    ),
    # DGX B200: 72 PFLOP/s FP8 with sparsity over 8 GPUs is 2.25 PFLOP/s dense bfloat16 each; 1,440 GB over 8.
    Chip(
        "b200",
        "gpu",
        ("NVIDIA B200",),
        2250e12,
        180 * GIB,
        8000e9,
        900e9,
        50e9,
        "https://www.nvidia.com/en-us/data-center/dgx-b200/",
    ),
)

CHIPS: Mapping[str, Chip] = {chip.name: chip for chip in _TABLE}
_BY_KIND = {kind: chip for chip in _TABLE for kind in chip.device_kinds}


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a JAX device (`jax.Device.device_kind`); None where the table does not know it (a CPU, say)."""
    return _BY_KIND.get(device_kind)
