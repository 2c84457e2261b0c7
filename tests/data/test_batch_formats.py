"""A decoder's rows against the slow obvious version, and what they may not be."""

import numpy as np
import pytest
from flat_stores import flat_store, rows_of, tokens_of
from hypothesis import given
from hypothesis import strategies as st

from flanx.data.batch_formats import Decoder, EncoderDecoder, RowSettings
from flanx.errors import UserError
from flanx.models.decoder.config import DecoderConfig
from flanx.models.t5.config import T5Config

LENGTH = 24
END = 1
tokens = st.integers(0, 65535)
# As stores have them: both end with the end of a sequence.
examples = st.tuples(
    st.lists(tokens, max_size=4).map(lambda x: [*x, END]),
    st.lists(tokens, max_size=3).map(lambda x: [*x, END]),
)


def slow(spec, inputs, targets, bos, loss_on):
    """The contract, token by token."""
    names = ("input_tokens", "target_tokens", "segment_ids", "positions", "loss_weights")
    out = {f"decoder_{name}": np.zeros((len(spec), LENGTH), int) for name in names}
    out["decoder_causal_attention"] = np.zeros((len(spec), LENGTH), int)
    for row, members in enumerate(spec):
        column = 0
        for segment, example in enumerate(members, 1):
            before = ([] if bos is None else [bos]) + inputs[example][:-1]
            text = before + targets[example]
            for place in range(max(len(text) - 1, 1)):
                cell = (row, column)
                out["decoder_input_tokens"][cell] = text[place]
                out["decoder_segment_ids"][cell] = segment
                out["decoder_positions"][cell] = place
                out["decoder_causal_attention"][cell] = place < len(before)
                if place + 1 < len(text):
                    out["decoder_target_tokens"][cell] = text[place + 1]
                    counts = loss_on == "all" or place + 1 >= len(before)
                    out["decoder_loss_weights"][cell] = counts
                column += 1
    return out


@given(
    st.lists(st.lists(examples, max_size=3), min_size=1, max_size=4),
    st.sampled_from([None, 0, 7]),
    st.sampled_from(["targets", "all"]),
)
def test_rows_equal_the_slow_obvious_version(spec, bos, loss_on):
    inputs = [example[0] for row in spec for example in row]
    targets = [example[1] for row in spec for example in row]
    if not inputs:
        return
    numbers = iter(range(len(inputs)))
    places = [[next(numbers) for _ in row] for row in spec]
    store = flat_store(inputs, targets)
    rows = rows_of(places, store)
    made = Decoder(LENGTH, bos, loss_on, prefix=True)
    arrays = made.arrays(rows, tokens_of(store), {})
    expected = slow(places, inputs, targets, bos, loss_on)
    lone = [
        (row, column)
        for row, column in np.argwhere(arrays["decoder_segment_ids"] > 0)
        if expected["decoder_target_tokens"][row, column] == 0
        and arrays["decoder_loss_weights"][row, column] == 0
    ]
    for (
        row,
        column,
    ) in lone:  # a cell without a target counts for nothing: what stands there is free
        arrays["decoder_target_tokens"][row, column] = 0
    for name, wanted in expected.items():
        np.testing.assert_array_equal(arrays[name], wanted, err_msg=name)
    sizes = made.sizes(rows.lengths)[:, 0]
    assert sizes.sum() == (arrays["decoder_segment_ids"] > 0).sum()
    shapes = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    assert shapes == made.shapes(len(spec))


def test_too_long_a_row_is_refused():
    store = flat_store([[5] * 30 + [END]], [[6, END]])
    with pytest.raises(ValueError, match="row 0 is longer than 24"):
        Decoder(LENGTH).arrays(rows_of([[0]], store), tokens_of(store), {})


def test_the_formats_of_families():
    lengths = {"inputs": 16, "targets": 8}
    decoder = DecoderConfig(
        emb_dim=8, num_heads=2, num_kv_heads=1, head_dim=4, num_layers=1, mlp_dim=8, vocab_size=300
    )
    assert decoder.batch_format(lengths, RowSettings()) == Decoder(24)
    assert decoder.batch_format(lengths, RowSettings(40, "all", True), 5) == Decoder(
        40, 5, "all", True
    )
    with pytest.raises(UserError, match="row_length = 20 is less than .* 24 tokens"):
        decoder.batch_format(lengths, RowSettings(20))
    t5 = T5Config(emb_dim=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=8)
    assert t5.batch_format(lengths, RowSettings()) == EncoderDecoder(16, 8)
    with pytest.raises(UserError, match="row_length, loss_on and prefix are for decoders"):
        t5.batch_format(lengths, RowSettings(prefix=True))
