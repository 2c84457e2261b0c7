"""The recommendation against measuring every candidate."""

import numpy as np
import pytest

from flanx.data.packing import pack
from flanx.errors import UserError
from flanx.insight.distribution import weighted
from flanx.insight.lengths import Material, advise, compared, measure
from flanx.models.t5.config import T5Config
from flanx.models.t5.flops import train_step_flops

SHAPE = T5Config(
    emb_dim=64, num_heads=4, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128, vocab_size=256
)


def material(packed=True, ratio=5):
    random = np.random.default_rng(0)
    inputs = np.clip(random.lognormal(3.6, 0.6, 600).astype(int), 2, 200)
    targets = np.clip(inputs // ratio + random.integers(0, 4, 600), 1, 60)
    both = np.stack([inputs, targets], axis=1)
    parts = [weighted([(1.0, column, 0.0)], 256, int(column.max())) for column in both.T]
    return Material([both[:300], both[300:]], *parts, SHAPE, packed)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ratio", [2, 12])
def test_the_best_few_are_those_of_measuring_every_candidate(packed, ratio):
    data = material(packed, ratio)
    found = advise(data, clip_rate=0.02, multiple=16, top=3, longest=(256, 64))
    every = [
        measure(data, (inputs, targets))
        for inputs in range(16, 257, 16)
        for targets in range(16, 65, 16)
        if data.inputs.over(inputs) <= 0.02 and data.targets.over(targets) <= 0.02
    ]
    every.sort(key=lambda one: (one.wasted, one.inputs, one.targets))
    assert list(found.best) == every[:3]
    assert found.considered == len(every)
    assert found.measured < len(every)


def test_a_candidate_is_what_packing_and_the_flop_count_say():
    data = material()
    one = measure(data, (128, 32))
    cut = [np.minimum(block, (128, 32)) for block in data.blocks]
    rows = sum(pack(block, (128, 32)).rows for block in cut)
    worth = sum(train_step_flops(SHAPE, 1, int(a), int(b)) for block in cut for a, b in block)
    cost = train_step_flops(SHAPE, rows, 128, 32)
    tokens = np.concatenate(cut).sum(axis=0)
    assert one.wasted == pytest.approx(1 - worth / cost)
    assert one.flops_per_token == pytest.approx(cost / tokens.sum())
    assert one.examples_per_row == pytest.approx(600 / rows)
    assert (one.inputs_fill, one.targets_fill) == pytest.approx(tuple(tokens / rows / (128, 32)))


def test_unpacked_rows_are_as_short_as_the_clip_rate_lets():
    best = advise(material(packed=False), clip_rate=0.0, multiple=8, top=1).best[0]
    data = material()
    assert (best.inputs, best.targets) == (
        data.inputs.least(0.0, 8),
        data.targets.least(0.0, 8),
    )
    assert best.examples_per_row == 1


def test_present_lengths_take_part_though_no_multiple_where_they_cut_little():
    data = material(packed=False)
    own = (int(data.inputs.longest), int(data.targets.longest))
    assert own[0] % 64
    with_own = advise(data, clip_rate=0.0, multiple=64, also=[own])
    assert (with_own.best[0].inputs, with_own.best[0].targets) == own
    cutting = advise(data, clip_rate=0.0, multiple=64, also=[(32, 8)])
    assert all(one.inputs_cut == 0 == one.targets_cut for one in cutting.best)


def test_usual_lengths_are_compared_and_the_present_ones_first():
    pairs = [(one.inputs, one.targets) for one in compared(material(), (1024, 256))]
    assert pairs == [(1024, 256), (2048, 512), (512, 128)]


def test_a_clip_rate_that_no_row_keeps_is_refused():
    with pytest.raises(UserError, match=r"inputs of more than 64 tokens .*--clip_rate 0.01"):
        advise(material(), clip_rate=0.01, multiple=64, longest=(64, 64))
