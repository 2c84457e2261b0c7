"""The table of peak rates."""

import pytest

from flanx.hardware.chips import CHIPS, GIB, chip_of


def test_a_device_finds_its_chip():
    assert chip_of("TPU v5 lite") is CHIPS["v5e"]
    assert chip_of("NVIDIA H200") is CHIPS["h200"]
    assert chip_of("cpu") is None


def test_no_two_chips_share_a_device_kind():
    kinds = [kind for chip in CHIPS.values() for kind in chip.device_kinds]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize("name", CHIPS)
def test_every_line_is_in_the_right_units_and_names_its_source(name):
    chip = CHIPS[name]
    assert 1e14 < chip.peak_flops < 1e16
    assert 16 * GIB <= chip.hbm_bytes <= 256 * GIB
    assert 5e11 < chip.hbm_bandwidth < 1e13
    assert chip.network_bandwidth < chip.link_bandwidth < chip.hbm_bandwidth
    assert chip.source.startswith("https://")
    assert chip.platform in ("tpu", "gpu")
