import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanx.data.loader import Loader, LoaderState, prefetch
from flanx.data.stream import Stream
from flanx.errors import UserError

LENGTHS = {"inputs": 48, "targets": 20}
SIZES = [50, 3, 0, 120, 1, 17]


def make_loader(corpus, **changes):
    arguments = {
        "batch_size": 8,
        "feature_lengths": LENGTHS,
        "seed": 5,
        "block_size": 64,
        "open_store": corpus.open,
    }
    return Loader(corpus, "/nowhere", **{**arguments, **changes})


def make_stream(corpus, **changes):
    arguments = {"feature_lengths": LENGTHS, "seed": 5, "block_size": 64}
    stores = [corpus.stores.get(entry.task) for entry in corpus.entries]
    return Stream(corpus.entries, stores.__getitem__, **{**arguments, **changes})


def take(loader, count):
    return list(itertools.islice(loader, count))


def same(first, second):
    assert first.examples == second.examples
    assert first.state_after == second.state_after
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        assert array.dtype == second.arrays[name].dtype
        assert array.tobytes() == second.arrays[name].tobytes(), name


def seen(stream, blocks):
    """(task, index) of every example of some blocks, in order."""
    found = []
    for block in blocks:
        rows = stream.block(block)
        found += zip(rows.tasks.tolist(), rows.indices.tolist(), strict=True)
    return found


def test_batches_hold_the_examples_they_name(corpus):
    made = corpus(SIZES)
    for batch in take(make_loader(made), 12):
        arrays = batch.arrays
        assert arrays["encoder_input_tokens"].shape == (8, 48)
        assert arrays["decoder_target_tokens"].shape == (8, 20)
        assert batch.num_examples == len(batch.examples)
        for row, segment, task, example_id in batch.examples:
            store = made.stores[made.entries[task].task]
            for side, name, key in (
                ("encoder", "inputs", "encoder_input_tokens"),
                ("decoder", "targets", "decoder_target_tokens"),
            ):
                cells = arrays[f"{side}_segment_ids"][row] == segment
                assert arrays[key][row][cells].tolist() == store.tokens(name, example_id - 1000)
            assert set(arrays["decoder_task_ids"][row][cells].tolist()) == {task}
        assert batch.tokens["inputs"] == (arrays["encoder_segment_ids"] > 0).sum()
        assert batch.tokens["targets"] == arrays["decoder_loss_weights"].sum()
        assert batch.fill["inputs"] == pytest.approx((arrays["encoder_segment_ids"] > 0).mean())


def test_packed_rows_are_fuller_than_single_ones(corpus):
    made = corpus([400], longest=(24, 4))
    packed = np.mean([batch.fill["inputs"] for batch in take(make_loader(made), 10)])
    single = np.mean([batch.fill["inputs"] for batch in take(make_loader(made, pack=False), 10)])
    assert packed > 0.9
    assert single < 0.35


def test_a_block_is_a_pure_function_of_its_number(corpus):
    made = corpus(SIZES)
    forwards, backwards = make_stream(made), make_stream(made)
    blocks = [forwards.block(block) for block in range(12)]
    for block in reversed(range(12)):
        again = backwards.block(block)
        for name in ("offsets", "tasks", "indices", "starts", "lengths"):
            assert np.array_equal(getattr(again, name), getattr(blocks[block], name))


def regular_store(size, names=("inputs", "targets")):
    """Example i has 1 + 7 i mod 20 of the first feature, 1 + 3 i mod 8 of the second, ...: all of them 5."""
    features = {}
    for name, step, longest in zip(names, (7, 3, 11), (20, 8, 15), strict=False):
        lengths = 1 + np.arange(size) * step % longest
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        features[name] = (np.full(offsets[-1], 5, np.uint16), offsets)
    return SimpleNamespace(
        num_examples=size, example_ids=np.arange(size), feature=features.__getitem__
    )


def test_the_stream_stays_as_it_was_laid_out():
    """Other numbers here mean that no run begun before the change can be resumed."""
    entries = [SimpleNamespace(task=f"t{size}", examples=size, rate=size) for size in (5, 9)]
    stores = [regular_store(entry.examples) for entry in entries]
    stream = Stream(entries, stores.__getitem__, feature_lengths=LENGTHS, seed=5, block_size=10)
    block = stream.block(1_000_003)
    assert list(zip(block.tasks.tolist(), block.indices.tolist(), strict=True)) == [
        (1, 1),
        (1, 6),
        (1, 3),
        (1, 3),
        (0, 0),
        (0, 0),
        (1, 5),
        (1, 2),
        (0, 4),
    ]
    assert block.offsets.tolist() == [0, 6, 9]


def test_seeds_and_blocks_differ(corpus):
    made = corpus([500])
    assert seen(make_stream(made), [0]) != seen(make_stream(made), [1])
    assert seen(make_stream(made), [0]) != seen(make_stream(made, seed=6), [0])


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any),
    st.integers(1, 90),
    st.integers(0, 99),
    st.data(),
)
def test_every_example_once_before_any_twice(corpus, sizes, block_size, seed, data):
    rates = data.draw(st.lists(st.sampled_from([0.1, 1.0, 7.0]), min_size=8, max_size=8))
    made = corpus(sizes, rates[: len(sizes)], longest=(3, 2))
    stream = make_stream(made, block_size=block_size, seed=seed)
    counts: Counter = Counter()
    for block in range(6):
        for pair in seen(stream, [block]):
            counts[pair] += 1
        # Between blocks no example of a task is more than one epoch ahead of another.
        for task, size in enumerate(sizes):
            times = [counts[task, index] for index in range(size)]
            assert not times or max(times) - min(times) <= 1
    assert len({task for task, _ in counts} & {t for t, size in enumerate(sizes) if not size}) == 0


def test_tasks_of_a_block_are_shuffled(corpus):
    tasks = [task for task, _ in seen(make_stream(corpus([300] * 4), pack=False), range(8))]
    alike = np.mean([first == second for first, second in itertools.pairwise(tasks)])
    assert len(tasks) > 400
    assert abs(alike - 0.25) < 0.1  # as often as of two tasks drawn one after the other
    assert tasks[:64] != tasks[64:128]


def test_epochs_come_in_different_orders(corpus):
    made = corpus([64])
    stream = make_stream(made, pack=False)
    assert sorted(seen(stream, [0])) == sorted(seen(stream, [1]))
    assert seen(stream, [0]) != seen(stream, [1])


def test_shares_in_the_long_run(corpus):
    made = corpus([10, 20, 30], [1.0, 2.5, 0.01])
    stream = make_stream(made)
    counts = Counter(task for task, _ in seen(stream, range(200)))
    for task, rate in enumerate([1.0, 2.5, 0.01]):
        assert abs(counts[task] - 200 * 64 * rate / 3.51) < 1


def test_a_new_task_leaves_the_order_of_the_others(corpus):
    few, more = corpus([40, 30]), corpus([40, 30, 25])

    def order(made, task):
        stream = make_stream(made, pack=False, block_size=8)
        return [index for t, index in seen(stream, range(60)) if t == task][:90]

    assert order(few, 0) == order(more, 0)
    assert order(few, 1) == order(more, 1)


def test_unpacked_epochs_follow_one_another(corpus):
    stream = make_stream(corpus([7, 30]), pack=False)
    for task, size in ((0, 7), (1, 30)):
        order = [index for t, index in seen(stream, range(10)) if t == task]
        for begin in range(0, len(order) - size, size):
            assert sorted(order[begin : begin + size]) == list(range(size))


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_hosts_part_the_same_global_batches(corpus, hosts, pack):
    made = corpus(SIZES)
    whole = take(make_loader(made, pack=pack), 10)
    parts = [
        take(make_loader(made, pack=pack, host_index=host, host_count=hosts), 10)
        for host in range(hosts)
    ]
    for number, batch in enumerate(whole):
        for name, array in batch.arrays.items():
            joined = np.concatenate([part[number].arrays[name] for part in parts])
            assert joined.tobytes() == array.tobytes(), name
        assert {part[number].state_after for part in parts} == {batch.state_after}
        shifted = [
            (row + host * (8 // hosts), *rest)
            for host, part in enumerate(parts)
            for row, *rest in part[number].examples
        ]
        assert shifted == batch.examples


def test_a_host_may_read_any_rows_of_a_batch(corpus):
    made = corpus(SIZES)
    whole = take(make_loader(made), 6)
    some = take(make_loader(made, host_rows=((1, 2), (4, 7))), 6)
    for batch, part in zip(whole, some, strict=True):
        assert part.state_after == batch.state_after
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(part.arrays[name], array[[1, 4, 5, 6]], err_msg=name)


def test_fifty_random_stops_change_nothing(corpus):
    made = corpus(SIZES)
    undisturbed = take(make_loader(made), 300)
    draw = np.random.default_rng(0)
    stops = sorted(draw.choice(np.arange(1, 300), 50, replace=False).tolist())
    state = LoaderState()
    for start, stop in itertools.pairwise([0, *stops, 300]):
        state = LoaderState.from_json(state.to_json())
        for number, batch in enumerate(take(make_loader(made, state=state), stop - start), start):
            same(batch, undisturbed[number])
            state = batch.state_after


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=6))
def test_batch_size_and_hosts_may_change_at_a_restart(corpus, runs):
    made = corpus(SIZES, longest=(40, 15))
    rows = []
    state = LoaderState()
    for batch_size, steps in runs:
        for batch in take(make_loader(made, batch_size=batch_size, state=state), steps):
            rows += list(batch.arrays["encoder_input_tokens"])
            state = batch.state_after
    whole = take(make_loader(made, batch_size=len(rows)), 1)[0]
    assert np.array_equal(np.stack(rows), whole.arrays["encoder_input_tokens"])
    assert whole.state_after == state


def test_seeking_reads_only_the_block(corpus, monkeypatch):
    made = corpus(SIZES)
    read = []
    original = Stream.block
    monkeypatch.setattr(
        Stream, "block", lambda self, block: read.append(block) or original(self, block)
    )
    take(make_loader(made, state=LoaderState(5000, 3), batch_size=2), 1)
    assert read == [5000]


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("epochs", [1, 3])
def test_epoch_limited_streams_end_exactly(corpus, epochs, pack):
    made = corpus(SIZES)
    loader = make_loader(made, epochs=epochs, pack=pack)
    batches = list(loader)
    counts = Counter((task, i) for batch in batches for *_, task, i in batch.examples)
    assert len(counts) == sum(SIZES)
    assert set(counts.values()) == {epochs}
    last = batches[-1]
    assert last.arrays["encoder_input_tokens"].shape == (8, 48)
    real = max(row for row, *_ in last.examples) + 1
    assert not last.arrays["decoder_loss_weights"][real:].any()
    assert not last.arrays["encoder_segment_ids"][real:].any()
    assert all(batch.arrays["encoder_segment_ids"][:, 0].all() for batch in batches[:-1])
    assert list(make_loader(made, epochs=epochs, pack=pack, state=last.state_after)) == []
    resumed = make_loader(made, epochs=epochs, pack=pack, state=batches[1].state_after)
    for batch, expected in zip(resumed, batches[2:], strict=True):
        same(batch, expected)


def test_limited_streams_of_hosts_end_together(corpus):
    made = corpus([5])
    parts = [
        list(make_loader(made, epochs=1, pack=False, host_index=host, host_count=4))
        for host in range(4)
    ]
    assert [len(part) for part in parts] == [1, 1, 1, 1]
    assert [part[0].num_examples for part in parts] == [2, 2, 1, 0]


def test_blocks_may_be_empty(corpus):
    made = corpus([3, 3, 3])
    batches = take(make_loader(made, block_size=1, batch_size=4), 20)
    counts = Counter(task for batch in batches for _, _, task, _ in batch.examples)
    assert sum(counts.values()) >= 80
    assert max(counts.values()) - min(counts.values()) <= 2


def test_each_iteration_begins_at_the_state(corpus):
    loader = make_loader(corpus(SIZES))
    for first, second in zip(take(loader, 4), take(loader, 4), strict=True):
        same(first, second)


@settings(max_examples=12)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any),
    st.integers(1, 3),
    st.integers(1, 9),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)
def test_hosts_part_limited_streams_and_nothing_is_lost(corpus, sizes, epochs, share, hosts, pack):
    made = corpus(sizes, longest=(20, 8))
    counts: Counter = Counter()
    for host in range(hosts):
        for batch in make_loader(
            made,
            epochs=epochs,
            pack=pack,
            batch_size=share * hosts,
            host_index=host,
            host_count=hosts,
            block_size=16,
        ):
            counts.update((task, example_id) for *_, task, example_id in batch.examples)
    assert len(counts) == sum(sizes)
    assert set(counts.values()) == {epochs}


WIDTHS = {"inputs": (16, 32, 48), "targets": (8, 20)}


@pytest.mark.parametrize("hosts", [1, 2])
def test_unpacked_batches_are_as_narrow_as_they_can(corpus, hosts):
    made = corpus(SIZES, longest=(48, 20))
    settings = {"pack": False, "epochs": 1, "block_size": 1 << 12, "widths": WIDTHS}
    parts = [
        list(make_loader(made, **settings, host_index=host, host_count=hosts))
        for host in range(hosts)
    ]
    shapes = []
    for together in zip(*parts, strict=True):
        lengths = {"encoder": 0, "decoder": 0}
        for batch in together:
            for side in lengths:
                segments = batch.arrays[f"{side}_segment_ids"]
                lengths[side] = max(lengths[side], int((segments > 0).sum(axis=1).max()))
        shape = {
            (batch.arrays["encoder_positions"].shape[1], batch.arrays["decoder_positions"].shape[1])
            for batch in together
        }
        least = tuple(
            min(width for width in WIDTHS[name] if width >= lengths[side])
            for name, side in (("inputs", "encoder"), ("targets", "decoder"))
        )
        assert shape == {least}
        shapes.append(least)
    assert [width for width, _ in shapes] == sorted((w for w, _ in shapes), reverse=True)
    assert {width for width, _ in shapes} == {16, 32, 48}
    found = Counter(example[2:] for part in parts for batch in part for example in batch.examples)
    assert len(found) == sum(SIZES)
    assert set(found.values()) == {1}


def test_bucketed_streams_resume(corpus):
    made = corpus(SIZES, longest=(48, 20))
    settings = {"pack": False, "epochs": 2, "widths": WIDTHS}
    whole = list(make_loader(made, **settings))
    for number in (0, 3, len(whole) - 2):
        rest = make_loader(made, **settings, state=whole[number].state_after)
        for batch, expected in zip(rest, whole[number + 1 :], strict=True):
            same(batch, expected)
    with pytest.raises(UserError, match="another stream"):
        make_loader(made, pack=False, epochs=2, state=whole[0].state_after)


def test_widths_that_cannot_hold_the_rows(corpus):
    with pytest.raises(ValueError, match="give pack=False"):
        make_loader(corpus(SIZES), widths=WIDTHS)
    with pytest.raises(ValueError, match=r"widths \(32,\) hold no inputs of 48"):
        make_loader(corpus(SIZES), pack=False, widths={"inputs": (32,), "targets": (20,)})


@dataclass(frozen=True)
class Columns:
    """A format of any columns, each a part of the row of its own."""

    features: tuple[str, ...]
    capacity: tuple[int, ...]
    identity: tuple[str, ...] = ()

    def sizes(self, lengths):
        return lengths


@pytest.mark.parametrize("features", [("targets",), ("inputs", "targets"), ("a", "b", "c")])
def test_streams_of_any_number_of_features(features):
    store = regular_store(60, features)
    entry = SimpleNamespace(task="t", examples=60, rate=1.0)
    lengths = dict(zip(features, (24, 60, 32), strict=False))
    stream = Stream(
        [entry],
        lambda _: store,
        feature_lengths=lengths,
        seed=0,
        block_size=25,
        epochs=1,
        batch_format=Columns(features, tuple(lengths.values())),
    )
    found = []
    for block in range(stream.blocks):
        rows = stream.block(block)
        assert rows.lengths.shape == (rows.tasks.size, len(features))
        sums = np.add.reduceat(rows.lengths, rows.offsets[:-1])
        assert (sums <= [lengths[name] for name in features]).all()
        for feature, name in enumerate(features):
            offsets = store.feature(name)[1]
            assert (rows.starts[:, feature] == offsets[rows.indices]).all()
            assert (rows.lengths[:, feature] == np.diff(offsets)[rows.indices]).all()
        found += rows.indices.tolist()
    assert sorted(found) == list(range(60))


def test_stores_are_opened_when_needed(corpus):
    made = corpus([50, 50], [1.0, 1e-9])
    opened = []

    def open_store(folder):
        opened.append(folder.name)
        return made.open(folder)

    loader = make_loader(made, open_store=open_store)
    assert opened == []
    take(loader, 3)
    assert opened == ["t0"]


def test_mistakes_are_named(corpus):
    made = corpus(SIZES)
    with pytest.raises(UserError, match="BATCH_SIZE 8 does not divide among 3 hosts"):
        make_loader(made, host_count=3)
    with pytest.raises(
        UserError, match="nothing to train on: none of 1 tasks with examples has a rate"
    ):
        make_loader(corpus([4], [0.0]))
    with pytest.raises(UserError, match="block_size 0"):
        make_loader(made, block_size=0)
    with pytest.raises(UserError, match="not in this stream: its block has"):
        take(make_loader(made, state=LoaderState(0, 10_000)), 1)
    with pytest.raises(UserError, match=r"'t0' has inputs of 2[0-9] tokens, rows hold 8"):
        take(make_loader(made, feature_lengths={"inputs": 8, "targets": 20}), 1)
    entries = (replace(made.entries[0], examples=49),)
    with pytest.raises(UserError, match="holds 50 examples where the manifest says 49"):
        take(make_loader(replace(made, entries=entries)), 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 6},
        {"block_size": 65},
        {"pack": False},
        {"feature_lengths": {"inputs": 50, "targets": 20}},
    ],
)
def test_a_state_of_another_stream_is_refused(corpus, changes):
    made = corpus(SIZES)
    state = take(make_loader(made), 1)[0].state_after
    make_loader(made, state=state, batch_size=2, host_count=2)
    with pytest.raises(UserError, match="another stream"):
        make_loader(made, state=state, **changes)


def test_a_damaged_store_is_named(corpus, tmp_path):
    loader = Loader(corpus([4]), tmp_path, batch_size=1, feature_lengths=LENGTHS, seed=0)
    with pytest.raises(UserError, match="flanx cache"):
        next(iter(loader))


def test_prefetch_keeps_order_and_content(corpus):
    made = corpus(SIZES)
    with prefetch(make_loader(made, epochs=2), depth=3) as batches:
        for ahead, plain in zip(batches, make_loader(made, epochs=2), strict=True):
            same(ahead, plain)


def test_loading_needs_neither_tensorflow_nor_jax():
    code = "import sys, flanx.data.loader; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "tensorflow", "seqio"} & set(ran.stdout.split())
