"""What is told of tasks, against what was put into them."""

import pytest

from flanx.data import store, vocabulary
from flanx.errors import UserError
from flanx.insight.sample import density, sample
from flanx.insight.survey import spread, survey

WORDS = vocabulary.load("bytes")


def rows(count, targets=lambda i: f"answer {i}", inputs=lambda i: f"question {i:03d}"):
    return [(inputs(i), targets(i)) for i in range(count)]


def test_shares_lengths_and_clipping(make):
    tasks = {
        "a.one.zs_opt": [("x" * 9, "yes"), ("x" * 99, "no")],
        "b.two.zs_opt": [("x" * 19, "y" * 7)] * 4,
    }
    manifest, folder = make(tasks, rates={"a.one.zs_opt": 3, "b.two.zs_opt": 1})
    found = survey(manifest, folder, WORDS)
    one, two = found.tasks
    assert (one.share, two.share) == (0.75, 0.25)
    assert (one.source, two.source) == ("a", "b")
    assert (one.mean_inputs, two.mean_targets) == ((10 + 64) / 2, 8)
    assert (one.clipped_inputs, one.longest_inputs, found.inputs.clipped) == (0.5, 100, 0.375)
    targets_met = 0.75 * (4 + 3) / 2 + 0.25 * 8
    assert found.targets.mean == pytest.approx(targets_met)
    assert two.loss_share == pytest.approx(0.25 * 8 / targets_met)


def test_common_answers_repeated_inputs_and_unknown_tokens(make):
    tasks = {
        "a.constant.zs_opt": rows(20, targets=lambda i: "same" if i else "other"),
        "a.twice.zs_opt": rows(20, inputs=lambda i: f"question {i // 2}"),
    }
    manifest, folder = make(tasks)
    constant, twice = survey(manifest, folder, WORDS).tasks
    assert (constant.answer, constant.answer_share) == ("same", 0.95)
    assert (constant.repeated, twice.repeated) == (0, 0.5)
    assert constant.unknown == 0
    assert survey(manifest, folder, WORDS).answers == (("same", pytest.approx(0.475), 1),)


def test_examples_are_decoded_and_evenly_spread(make):
    manifest, folder = make({"a.one.zs_opt": rows(30)})
    shown = survey(manifest, folder, WORDS, examples=3).tasks[0].shown
    assert [(one.example_id, one.inputs, one.targets) for one in shown] == [
        (i, f"question {i:03d}", f"answer {i}") for i in (0, 10, 20)
    ]
    assert spread(2, 5) == [0, 1]


def test_without_a_vocabulary_there_are_counts_but_no_texts(make):
    manifest, folder = make({"a.one.zs_opt": rows(3)})
    task = survey(manifest, folder, None).tasks[0]
    assert (task.shown, task.unknown, task.looked_at) == ((), None, 0)
    assert task.share == 1


def test_the_sample_is_the_stream_at_the_mixture_rates(make):
    tasks = {
        "a.long.zs_opt": rows(50, str, lambda i: "x" * 40),
        "a.short.zs_opt": rows(50, str, lambda i: "x" * 5),
    }
    manifest, folder = make(tasks, rates={"a.long.zs_opt": 1, "a.short.zs_opt": 3})
    blocks = sample(manifest, folder, blocks=2, block_size=400)
    assert sum(map(len, blocks)) == pytest.approx(800, abs=2)
    assert sum((block[:, 0] == 41).sum() for block in blocks) == pytest.approx(200, abs=2)
    one = density(blocks, (64, 16), packed=False)
    assert (one.rows, one.examples_per_row) == (one.examples, 1)
    packed = density(blocks, (64, 16), packed=True)
    assert packed.rows < one.rows
    assert packed.inputs_fill == pytest.approx(
        sum(b[:, 0].sum() for b in blocks) / packed.rows / 64
    )


def test_a_damaged_store_is_named(make):
    manifest, folder = make({"a.one.zs_opt": rows(3)})
    (folder / manifest.entries[0].path / store.META).unlink()
    with pytest.raises(UserError, match=r"a\.one\.zs_opt.*run 'flanx cache' again"):
        survey(manifest, folder, WORDS)
