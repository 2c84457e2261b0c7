import numpy as np
import pytest
from flat_stores import flat_store, rows_of, tokens_of
from hypothesis import given
from hypothesis import strategies as st

from flanx.data.batches import LoaderState, Rows, assemble, join, row_and_segment

LENGTHS = {"inputs": 12, "targets": 7}


def slow_assemble(spec, inputs, targets):
    """The contract, token by token."""
    shape = {"encoder": (len(spec), 12), "decoder": (len(spec), 7)}
    names = ["encoder_input_tokens", "encoder_segment_ids", "encoder_positions"]
    names += ["decoder_target_tokens", "decoder_input_tokens", "decoder_segment_ids"]
    names += ["decoder_positions", "decoder_loss_weights", "decoder_task_ids"]
    out = {name: np.zeros(shape[name[:7]], int) for name in names}
    for row, examples in enumerate(spec):
        column = {"encoder": 0, "decoder": 0}
        for segment, example in enumerate(examples, 1):
            for side, tokens in (("encoder", inputs[example]), ("decoder", targets[example])):
                for position, token in enumerate(tokens):
                    cell = (row, column[side])
                    out[f"{side}_segment_ids"][cell] = segment
                    out[f"{side}_positions"][cell] = position
                    if side == "encoder":
                        out["encoder_input_tokens"][cell] = token
                    else:
                        out["decoder_target_tokens"][cell] = token
                        out["decoder_input_tokens"][cell] = tokens[position - 1] if position else 0
                        out["decoder_loss_weights"][cell] = 1
                    column[side] += 1
    return out


tokens = st.integers(0, 65535)
examples = st.tuples(
    st.lists(tokens, min_size=0, max_size=5), st.lists(tokens, min_size=1, max_size=3)
)


@given(st.lists(st.lists(examples, max_size=2), min_size=1, max_size=5), st.booleans())
def test_equals_the_slow_obvious_version(spec, wide):
    inputs = [example[0] for row in spec for example in row]
    targets = [example[1] for row in spec for example in row]
    numbers = iter(range(len(inputs)))
    spec = [[next(numbers) for _ in row] for row in spec]
    store = flat_store(inputs, targets, np.uint32 if wide else np.uint16)
    made = assemble(rows_of(spec, store), tokens_of(store), LENGTHS)
    expected = slow_assemble(spec, inputs, targets)
    assert made.keys() == expected.keys()
    for name, array in made.items():
        assert array.dtype == (np.float32 if name == "decoder_loss_weights" else np.int32), name
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_equals_what_t5x_was_fed(shared_oracles):
    expected = np.load(shared_oracles / "t5x_tiny" / "expected.npz")
    batch = {
        name.removeprefix("packed/batch/"): expected[name]
        for name in expected.files
        if name.startswith("packed/batch/")
    }
    inputs, targets, spec = [], [], []
    for row in range(len(batch["encoder_input_tokens"])):
        spec.append([])
        for segment in range(1, batch["encoder_segment_ids"][row].max() + 1):
            spec[-1].append(len(inputs))
            for side, name, found in (
                ("encoder", "encoder_input_tokens", inputs),
                ("decoder", "decoder_target_tokens", targets),
            ):
                found.append(batch[name][row][batch[f"{side}_segment_ids"][row] == segment])
    store = flat_store(inputs, targets)
    made = assemble(rows_of(spec, store), tokens_of(store), {"inputs": 200, "targets": 24})
    assert batch.keys() == made.keys() - {"decoder_task_ids"}
    for name, array in batch.items():
        np.testing.assert_array_equal(made[name], array, err_msg=name)


def test_task_ids_follow_the_segments():
    store = flat_store([[5], [6]], [[7, 8], [9]])
    rows = rows_of([[0, 1]], store)
    rows = Rows(rows.offsets, np.array([3, 1], np.int32), rows.indices, rows.starts, rows.lengths)
    made = assemble(rows, tokens_of(store, tasks=4), LENGTHS)
    assert made["decoder_task_ids"].tolist() == [[3, 3, 1, 0, 0, 0, 0]]


def test_cut_join_and_pad():
    store = flat_store([[i] for i in range(2, 8)], [[i] for i in range(2, 8)])
    rows = rows_of([[0, 1], [2], [], [3, 4, 5]], store)
    again = join([rows.cut(0, 1), rows.cut(1, 3), rows.cut(3, 4)])
    for name in ("offsets", "tasks", "indices", "starts", "lengths"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
    padded = rows.padded(6)
    assert len(padded) == 6
    made = assemble(padded, tokens_of(store), LENGTHS)
    assert made["encoder_input_tokens"][3].tolist() == [5, 6, 7] + [0] * 9
    assert not made["encoder_input_tokens"][4:].any()
    assert made["decoder_loss_weights"].sum(axis=1).tolist() == [2, 1, 0, 3, 0, 0]
    row, segment = row_and_segment(padded)
    assert row.tolist() == [0, 0, 1, 3, 3, 3]
    assert segment.tolist() == [1, 2, 1, 1, 2, 3]


def test_overfull_rows_are_refused():
    store = flat_store([[2] * 7, [3] * 6], [[4], [5]])
    with pytest.raises(ValueError, match="row 0 is longer than inputs allow"):
        assemble(rows_of([[0, 1]], store), tokens_of(store), LENGTHS)


def test_rows_longer_than_any_before():
    store = flat_store([[2]], [[3]])
    made = assemble(rows_of([[0]], store), tokens_of(store), {"inputs": 10_000, "targets": 5})
    assert made["encoder_input_tokens"].sum() == 2
    assert made["encoder_input_tokens"].shape == (1, 10_000)


def test_states_go_through_json():
    state = LoaderState(4, 17, "abc")
    assert LoaderState.from_json(state.to_json()) == state
    assert LoaderState.from_json(state.to_json()).stream == "abc"
    assert LoaderState.from_json({"block": 1, "row": 2}) == LoaderState(1, 2)
