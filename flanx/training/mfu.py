"""Model FLOPs utilisation: the share of the devices' published peak rate that a model's own FLOPs come to.

As in PaLM (Chowdhery et al. 2022, appendix B): the FLOPs that the result needs, recomputation left out, over those that
the devices could have done in the time. each family's `flops.py` counts the former, `flanx.hardware.chips` has the
latter.
"""

from collections.abc import Sequence
from typing import Any

from flanx.hardware.chips import chip_of
from flanx.training.config import TrainConfig


def steps_at_peak(config: TrainConfig, devices: Sequence[Any]) -> float | None:
    """Steps a second at the devices' peak bfloat16 rate: the run's own steps a second over this are its MFU.

    Args:
      config: model, batch size and row lengths.
      devices: all `jax.Device`s of the mesh, of one kind.

    Returns:
      None where the table of chips does not know the devices, as CPUs.
    """
    chip = chip_of(devices[0].device_kind)
    if chip is None:
        return None
    flops = config.model.flops_per_step(config.batch_size, config.cells)
    return len(devices) * chip.peak_flops / flops
