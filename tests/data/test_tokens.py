from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.data.tokens import OpenStores, Tokens, span
from flanx.errors import UserError


def store_of(offsets, values):
    """A store whose only feature is "x"."""
    offsets = np.array(offsets, np.int64)
    return SimpleNamespace(
        num_examples=len(offsets) - 1,
        example_ids=np.arange(len(offsets) - 1) * 10,
        feature={"x": (np.asarray(values), offsets)}.__getitem__,
    )


def opened(stores, capacity=100, examples=None):
    entries = [
        SimpleNamespace(task=f"t{i}", examples=examples or store.num_examples, rate=1.0)
        for i, store in enumerate(stores)
    ]
    return OpenStores(entries, stores.__getitem__, ["x"], [capacity])


lengths = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@given(
    st.lists(lengths, min_size=1, max_size=6), st.sampled_from([np.uint16, np.uint32]), st.data()
)
def test_every_example_is_found_where_it_lies(sizes, dtype, data):
    stores = []
    for task, of_task in enumerate(sizes):
        ends = np.concatenate([[0], np.cumsum(of_task)])
        stores.append(store_of(ends, np.arange(ends[-1], dtype=dtype) + 100 * task))
    found = opened(stores)
    places = [(task, index) for task, of_task in enumerate(sizes) for index in range(len(of_task))]
    for _ in range(2):  # what is open by then must be found again after more is opened
        chosen = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=12))
        tasks, indices = (np.array(column) for column in zip(*chosen, strict=True))
        starts, counts = found.locate(tasks, indices)
        tokens = found.tokens["x"]
        assert found.example_ids(tasks, indices).tolist() == (indices * 10).tolist()
        for (task, index), start, count in zip(
            chosen, starts[:, 0].tolist(), counts[:, 0].tolist(), strict=True
        ):
            begin = tokens.bases[task] + start * tokens.dtype.itemsize
            read = tokens.memory[begin : begin + count * tokens.dtype.itemsize]
            values, offsets = stores[task].feature("x")
            expected = values[offsets[index] : offsets[index + 1]]
            assert np.frombuffer(read, tokens.dtype).tolist() == expected.tolist()


def test_memory_is_a_view_that_cannot_be_written():
    values = np.arange(5, dtype=np.uint16)
    tokens = Tokens.over(np.array([[0, 0], span(values)]), values.dtype)
    values[2] = 77
    assert np.frombuffer(tokens.memory, np.uint16).tolist() == [0, 1, 77, 3, 4]
    assert tokens.memory.readonly


@pytest.mark.parametrize(
    ("stores", "said"),
    [
        ([store_of([0, 3, 2], [1, 1])], "the offsets of x do not go with its 2 tokens"),
        ([store_of([0, 2, 9], np.ones(3, np.uint16))], "do not go with its 3 tokens"),
        ([store_of([1, 2, 3], np.ones(3, np.uint16))], "do not go with its 3 tokens"),
        (
            [store_of([0, 1], np.ones(1, np.uint16)), store_of([0, 1], np.ones(1, np.uint32))],
            "'t1' stores x as uint32, other tasks of the mixture as uint16",
        ),
        ([store_of([0, 101], np.ones(101, np.uint16))], "'t0' has x of 101 tokens, rows hold 100"),
    ],
)
def test_stores_that_cannot_be_read_are_named(stores, said):
    tasks = np.arange(len(stores))
    with pytest.raises(UserError, match=said):
        opened(stores).locate(tasks, np.zeros_like(tasks))
    with pytest.raises(UserError, match="examples where the manifest says 50"):
        opened(stores, examples=50).locate(tasks, np.zeros_like(tasks))


def test_only_what_is_asked_for_is_opened():
    asked = []
    stores = [store_of([0, 1], np.ones(1, np.uint16)) for _ in range(4)]
    entries = [SimpleNamespace(task=f"t{i}", examples=1, rate=1.0) for i in range(4)]
    found = OpenStores(entries, lambda i: asked.append(i) or stores[i], ["x"], [9])
    for tasks in ([2, 2], [2, 0], [0]):
        found.locate(np.array(tasks), np.zeros(len(tasks), int))
    assert asked == [2, 0]
