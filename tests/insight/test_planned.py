"""Predicted epochs against what the loader really reads."""

import itertools

import numpy as np
import pytest

from flanx.data.loader import Loader
from flanx.errors import UserError
from flanx.insight.planned import Exposure, Plan
from flanx.insight.sample import density, sample
from flanx.insight.survey import survey


@pytest.mark.parametrize("packed", [True, False])
def test_epochs_are_those_of_the_loader(make, packed):
    tasks = {
        "a.long.zs_opt": [("x" * (9 + i % 40), "yes") for i in range(40)],
        "a.short.zs_opt": [("x" * (2 + i % 9), "y" * (1 + i % 7)) for i in range(90)],
    }
    manifest, folder = make(tasks, rates={"a.long.zs_opt": 2, "a.short.zs_opt": 1})
    plan = Plan(steps=60, batch_size=4, packed=packed, block_size=200, seed=3)
    blocks = sample(manifest, folder, block_size=200, seed=3)
    exposure = Exposure(plan, density(blocks, (64, 16), packed))
    loader = Loader(
        manifest,
        folder,
        batch_size=4,
        feature_lengths={"inputs": 64, "targets": 16},
        seed=3,
        pack=packed,
        block_size=200,
    )
    read = sum(np.bincount(b.tasks, minlength=2) for b in itertools.islice(loader, 60))
    predicted = [exposure.epochs(task) for task in survey(manifest, folder, None).tasks]
    assert predicted == pytest.approx(read / [40, 90], rel=0.04)
    assert exposure.seen == pytest.approx(read.sum(), rel=0.02)


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="--batch_size 0: give at least 1"):
        Plan(steps=3, batch_size=0)
    assert Plan(steps=3).rows is None
