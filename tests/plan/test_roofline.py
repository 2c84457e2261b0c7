"""Times from facts, and what of a collective goes over which wires."""

from dataclasses import replace
from pathlib import Path

import pytest

from flanx.plan import roofline, topology
from flanx.plan.compiled import by_kind, out_of_memory
from flanx.plan.facts import Facts, Memory, Traffic
from flanx.plan.hlo_cost import Collective

TOO_LARGE = (Path(__file__).parent / "golden" / "too_large.txt").read_text()
GIB = 2**30

FACTS = Facts(
    topology=topology.parse("v4:2x2x1"),
    mesh={"replica": 1, "data": 4, "model": 1},
    memory=Memory(GIB, GIB, 2 * GIB, 30 * GIB),
    flops=275e9,  # 1 ms
    model_flops=4 * 200e9,
    hbm_bytes=2.4e9,  # 2 ms
    traffic={"all-gather": Traffic(link_bytes=0.9e9), "all-reduce": Traffic(network_bytes=6.25e6)},
    compiled=True,
)


def test_the_slowest_resource_is_the_bound():
    times = roofline.roofline(FACTS)
    assert times.compute == pytest.approx(1e-3)
    assert times.hbm == pytest.approx(2e-3)
    assert times.links == pytest.approx(3e-3)
    assert times.network == pytest.approx(1e-3)
    assert (times.bound, times.limit) == (times.links, "links")
    assert times.serial == pytest.approx(6e-3)


def test_mfu_counts_the_model_s_own_flops():
    # 0.8 TFLOP in 3 ms on four chips of 275 TFLOP/s.
    assert roofline.mfu(FACTS, 3e-3) == pytest.approx(0.8e12 / (3e-3 * 4 * 275e12))
    assert roofline.hours(1200, 3.0) == 1.0


def test_memory_adds_up():
    assert FACTS.memory.total == 4 * GIB
    assert FACTS.memory.fits
    assert not replace(FACTS.memory, activations=29 * GIB).fits


def test_a_group_inside_a_slice_uses_links_and_one_between_slices_the_network():
    inside = Collective("all-reduce", "a", 800, ((0, 1, 2, 3), (4, 5, 6, 7)), times=10)
    across = Collective("all-reduce", "b", 800, ((0, 4), (1, 5), (2, 6), (3, 7)), times=1)
    both = Collective("all-gather", "c", 100, (), times=1)
    slices = [0, 0, 0, 0, 1, 1, 1, 1]
    found = by_kind([inside, across, both], slices)
    assert found["all-reduce"] == Traffic(10 * 2 * 800 * 3 / 4, 2 * 800 / 2, 11)
    # Each device sends its 100 bytes over once, and passes on inside its slice these and the 100 that it received.
    assert found["all-gather"] == Traffic(2 * 100 * 3, 100, 1)
    # An eighth of 800 bytes is for each device: three others of the slice, four beyond it.
    spread = Collective("all-to-all", "d", 800, (), times=1)
    assert by_kind([spread], slices)["all-to-all"] == Traffic(300, 400, 1)


def test_a_permute_crosses_where_its_pairs_do():
    one = Collective("collective-permute", "p", 64, ((0, 1), (1, 0)), times=3)
    assert by_kind([one], [0, 0]) == {"collective-permute": Traffic(192, 0, 3)}
    assert by_kind([one], [0, 1]) == {"collective-permute": Traffic(0, 192, 3)}


def test_a_refusal_tells_how_much_and_by_what():
    found = out_of_memory(TOO_LARGE, params=3 * GIB, optimizer=GIB, usable=31 * GIB)
    assert found is not None
    assert found.usable == int(30.75 * GIB)
    assert found.total == int(63.8 * GIB)
    assert not found.fits
    first, second = found.largest
    assert (first.bytes, first.shape) == (2 * GIB, "f32[32,4096,4096]")
    assert first.what == "jit(step)/decoder/attention/dot_general"
    assert (second.shape, second.what) == ("bf16[24,8,1024,1024]", "HLO temp")


def test_the_short_refusal_is_read_as_well():
    text = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (120.00G) "
        "exceeds available HBM (15.75G)."
    )
    found = out_of_memory(text, params=3 * GIB, optimizer=GIB, usable=16 * GIB)
    assert found is not None
    assert (found.total, found.usable) == (120 * GIB, int(15.75 * GIB))
    assert out_of_memory("INTERNAL: something else", 0, 0, 1) is None
