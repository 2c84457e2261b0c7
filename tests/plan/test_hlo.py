"""Costs of programs small enough to be counted by hand."""

from pathlib import Path

import pytest

from flanx.plan import hlo_cost, hlo_groups, hlo_text
from flanx.plan.compiled import by_kind
from flanx.plan.facts import Traffic
from flanx.plan.hlo_text import Array

# Twelve layers scanned on a TPU: each layer's kernel gathered inside the loop, the product as a convolution, and a
# gradient summed over all eight devices outside. Cut down to what costs something.
LOOP = (Path(__file__).parent / "golden" / "loop.hlo").read_text()


def test_arrays_tell_their_bytes_and_memory():
    program = hlo_text.parse(LOOP)
    start = program.computations["main"]["start"]
    assert start.arrays == (
        Array("s32", ()),
        Array("bf16", (16, 64), space=1),
        Array("bf16", (12, 8, 128)),
        Array("bf16", (12, 16, 128)),
    )
    assert [a.bytes for a in start.arrays] == [4, 2048, 24576, 49152]
    assert start.operands == ("param", "param.1", "param.2", "param.3")


def test_a_loop_counts_as_often_as_it_turns():
    found = hlo_cost.cost(hlo_text.parse(LOOP))
    # [16, 64] @ [64, 128] in each of 12 turns.
    assert found.flops == 12 * 2 * 16 * 64 * 128
    assert found.unknown_loops == 0
    gather, reduce = found.collectives
    assert (gather.kind, gather.payload, gather.times) == ("all-gather", 8 * 128 * 2, 12)
    assert gather.source == "jit(step)/gather"
    assert gather.groups == (tuple(range(8)),)
    assert gather.moved(8) == 7 * 2048
    assert (reduce.kind, reduce.payload, reduce.times) == ("all-reduce", 64 * 128 * 4, 1)
    assert reduce.moved(8) == 2 * 32768 * 7 / 8


def test_a_scanned_layer_moves_its_own_slices():
    found = hlo_cost.cost(hlo_text.parse(LOOP))
    layer = 8 * 128 * 2
    kernel = 64 * 128 * 2
    out = 16 * 128 * 2
    a_turn = [
        2 * layer + 4,  # slice of the stack, and the layer's number
        layer + kernel,  # gathered
        kernel + out,  # product: x lies in the cores' memory
        out + out + 4,  # kept in place: written, not the whole stack
    ]
    assert found.hbm_bytes == 12 * sum(a_turn) + 2 * 64 * 128 * 4


def counting_loop(begin: int, step: int) -> str:
    """The loop as one whose turns XLA has not told, its counter from `begin` in steps of `step`."""
    changes = {
        ', backend_config={"known_trip_count":{"n":"12"}}': "",
        "tuple(%layer,": "tuple(%later,",
        "  ROOT %next": f"  %by = s32[] constant({step})\n  %later = s32[] add(%layer, %by)\n  ROOT %next",
        "tuple(%param,": "tuple(%from,",
        "  %start =": f"  %from = s32[] constant({begin})\n  %start =",
    }
    text = LOOP
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(("begin", "step", "turns"), [(0, 1, 12), (0, 2, 6), (3, 2, 5)])
def test_turns_are_told_by_the_counter_where_they_are_not_annotated(begin, step, turns):
    """A product that waits for its parameters a part at a time counts by twos: two parts a turn."""
    found = hlo_cost.cost(hlo_text.parse(counting_loop(begin, step)))
    assert (found.flops, found.unknown_loops) == (turns * 2 * 16 * 64 * 128, 0)


def test_a_loop_of_unknown_length_counts_once():
    unknown = counting_loop(0, 1).replace("direction=LT", "direction=NE")
    found = hlo_cost.cost(hlo_text.parse(unknown))
    assert (found.flops, found.unknown_loops) == (2 * 16 * 64 * 128, 1)


@pytest.mark.parametrize(
    ("line", "shapes", "expected"),
    [
        (
            "f32[4,8,16]{2,1,0} dot(%l, %r), lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, "
            "rhs_contracting_dims={1}",
            ("f32[4,8,32]", "f32[4,32,16]"),
            2 * 4 * 8 * 16 * 32,
        ),
        # Batches of a product become positions of a convolution that meet only their own.
        (
            "bf16[4,8,16]{2,1,0} convolution(%l, %r), window={size=4 stride=3 pad=0_0 lhs_dilate=4}, "
            "dim_labels=0bf_0io->0bf",
            ("bf16[4,8,32]", "bf16[4,32,16]"),
            2 * 8 * 16 * 32 * 4,
        ),
        # A kernel of 3 over 8 positions, padded: the padding does no work.
        (
            "f32[2,8,16]{2,1,0} convolution(%l, %r), window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f",
            ("f32[2,8,4]", "f32[3,4,16]"),
            2 * 2 * 4 * 16 * (3 * 8 - 2),
        ),
    ],
)
def test_flops_of_products(line, shapes, expected):
    text = (
        f"ENTRY %main (l: {shapes[0]}, r: {shapes[1]}) -> f32[] {{\n"
        f"  %l = {shapes[0]}{{2,1,0}} parameter(0)\n  %r = {shapes[1]}{{2,1,0}} parameter(1)\n"
        f"  ROOT %out = {line}\n}}"
    )
    assert hlo_cost.cost(hlo_text.parse(text)).flops == expected


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}, x=1", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0))),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, x=1", ((0, 1), (2, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x=1", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(1)2}, x=1", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(2)2}, x=1", ((0, 1), (2, 3))),
        (
            "replica_groups=mesh['a'=2,'b'=1,'c'=3], device_ids=([3,2]T(1,0)) {'c'}, x=1",
            ((0, 2, 4), (1, 3, 5)),
        ),
        ("replica_groups={}", ()),
    ],
)
def test_groups_are_read_in_every_form(text, groups):
    assert hlo_groups.replica_groups(text) == groups


def test_an_all_reduce_that_keeps_a_part_is_a_reduce_scatter():
    text = """
%all-reduce-scatter.1 (whole: f32[64,128]) -> f32[8,128] {
  %whole = f32[64,128]{1,0} parameter(0)
  %sum = f32[64,128]{1,0} all-reduce(%whole), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = f32[8,128]{1,0} dynamic-slice(%sum, %zero, %zero), dynamic_slice_sizes={8,128}
}

ENTRY %main (p: f32[64,128]) -> f32[8,128] {
  %p = f32[64,128]{1,0} parameter(0)
  ROOT %fusion = f32[8,128]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1
}"""
    (found,) = hlo_cost.cost(hlo_text.parse(text)).collectives
    assert (found.kind, found.moved(8)) == ("reduce-scatter", 64 * 128 * 4 * 7 / 8)


def test_a_collective_beside_several_fusions_counts_once():
    gather = (
        'all-gather(%a), replica_groups={{0,1}}, dimensions={0}, frontend_attributes={chain_id="6"}'
    )
    started = 'custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"'
    text = f"""
%async_collective_fusion.1 (a: f32[64,128]) -> (f32[64,128], f32[128,128]) {{
  %a = f32[64,128]{{1,0}} parameter(0)
  %all-gather.1 = f32[128,128]{{1,0}} {gather}
  ROOT %start = (f32[64,128]{{1,0}}, f32[128,128]{{1,0}}) {started}
}}

%async_collective_fusion.2 (a: f32[64,128]) -> f32[128,128] {{
  %a = f32[64,128]{{1,0}} parameter(0)
  ROOT %all-gather.2 = f32[128,128]{{1,0}} {gather}
}}

ENTRY %main (p: f32[64,128]) -> f32[128,128] {{
  %p = f32[64,128]{{1,0}} parameter(0)
  %first = (f32[64,128]{{1,0}}, f32[128,128]{{1,0}}) fusion(%p), kind=kCustom, calls=%async_collective_fusion.1
  ROOT %last = f32[128,128]{{1,0}} fusion(%p), kind=kCustom, calls=%async_collective_fusion.2
}}"""
    (found,) = hlo_cost.cost(hlo_text.parse(text)).collectives
    assert (found.kind, found.times, found.moved(2)) == ("all-gather", 1, 64 * 128 * 4)


@pytest.mark.parametrize(
    ("kind", "target", "sent"),
    [
        ("ALL_REDUCE", '"{1,2,3}x{0:3}"', 2 * 4096 * 2 / 3),
        ("ALL_REDUCE", '"{1:4}x{0:3}"', 2 * 4096 * 3 / 4),
        ("ALL_GATHER", "{{100000,300000},{200000,400000}}", 4096),
        ("REDUCE_SCATTER", "{{100000,100001,200000,200001}}", 4096 / 2),
        ("ONE_TO_ONE", "{{100000,200000}}", 4096),
    ],
)
def test_what_a_tpu_sends_between_slices_goes_over_the_network(kind, target, sent):
    attributes = (
        "channel_id=1, is_host_transfer=true, frontend_attributes={_xla_megascale_target="
        f'{target},_xla_megascale_transfer_type="{kind}"}}'
    )
    text = f"""
ENTRY %main (p: f32[8,128]) -> f32[] {{
  %p = f32[8,128]{{1,0}} parameter(0)
  %go = token[] after-all()
  %send = (f32[8,128]{{1,0}}, u32[], token[]) send(%p, %go), {attributes}
  %recv = (f32[8,128]{{1,0}}, u32[], token[]) recv(%go), {attributes}
  ROOT %end = token[] send-done(%send), channel_id=1
}}"""
    found = hlo_cost.cost(hlo_text.parse(text))
    assert by_kind(found.collectives, [0, 0, 1, 1])[_kind(kind)] == Traffic(0.0, sent, 1)
    assert found.hbm_bytes == 4096 + 4096 + 4  # read, written, and the number beside it


def _kind(transfer):
    names = {"ONE_TO_ONE": "collective-permute"}
    return names.get(transfer, transfer.lower().replace("_", "-"))


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo_text.parse("nothing here")
