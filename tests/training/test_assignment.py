"""Which array of a checkpoint goes where, and what is said of those that do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.errors import UserError
from flanx.training.assignment import assign, check_rules, folded

SCALE, KERNEL = (4,), (4, 6)


def stack(layers, stack="encoder"):
    shapes = {f"{stack}/layers_{i}/norm/scale": SCALE for i in range(layers)}
    return shapes | {f"{stack}/layers_{i}/mlp/wo/kernel": KERNEL for i in range(layers)}


MODEL = {
    "token_embedder/embedding": (32, 4),
    **stack(12),
    "decoder/logits_dense/kernel": (4, 32),
}


def test_without_rules_every_array_has_its_own_name():
    assert assign(MODEL, dict(reversed(MODEL.items())), (), "there") == {n: n for n in MODEL}


def test_the_first_rule_that_matches_the_whole_name_decides():
    rules = (
        ("decoder/logits_dense/kernel", None),
        (r"encoder/layers_(\d+)/norm/scale", r"old/layer_\1/ln"),
        (r"encoder/(.*)", r"old/\1"),
        (r"encoder/layers_0/.*", None),  # never reached, but it matches names
    )
    stored = {
        "token_embedder/embedding": (32, 4),
        **{f"old/layer_{i}/ln": SCALE for i in range(12)},
        **{f"old/layers_{i}/mlp/wo/kernel": KERNEL for i in range(12)},
    }
    found = assign(MODEL, stored, rules, "there")
    assert found["decoder/logits_dense/kernel"] is None
    assert found["encoder/layers_3/norm/scale"] == "old/layer_3/ln"
    assert found["encoder/layers_3/mlp/wo/kernel"] == "old/layers_3/mlp/wo/kernel"
    assert found["token_embedder/embedding"] == "token_embedder/embedding"


def test_one_array_may_go_to_several_places():
    rules = ((r"decoder/layers_\d+/(.*)", r"encoder/layers_0/\1"),)
    model = stack(1) | stack(2, "decoder")
    found = assign(model, stack(1), rules, "there")
    assert found["decoder/layers_1/norm/scale"] == "encoder/layers_0/norm/scale"


def test_none_leaves_the_checkpoints_arrays_unread_too():
    stored = {**MODEL, "adapter/kernel": (3, 3)}
    with pytest.raises(UserError, match=r"1 array too many: adapter/kernel \(3, 3\)"):
        assign(MODEL, stored, (), "there")
    assert set(assign(MODEL, stored, (("adapter/.*", None),), "there").values()) == set(MODEL)


def test_a_rename_that_leaves_layers_behind_is_refused():
    """Twelve layers of the checkpoint, six in the model: nothing says that the others may go."""
    rules = ((r"encoder/(.*)", r"encoder/\1"),)
    with pytest.raises(UserError, match=r"12 arrays too many: encoder/layers_\{6-11\}/norm/scale"):
        assign(stack(6), stack(12), rules, "there")
    every_other = ((r"encoder/layers_([6-9]|1[01])/.*", None),)
    assert set(assign(stack(6), stack(12), every_other, "there").values()) == set(stack(6))
    # Taken from other layers, those whose place they take are accounted for; the rest is still too many.
    doubled = ((r"encoder/layers_1/(.*)", r"encoder/layers_2/\1"),)
    assert assign(stack(2), stack(3), doubled, "there")["encoder/layers_1/norm/scale"].endswith(
        "layers_2/norm/scale"
    )


def test_all_that_does_not_fit_is_told_at_once():
    stored = dict(MODEL)
    for i in (0, 1, 2, 5):
        del stored[f"encoder/layers_{i}/norm/scale"]
    for i in range(12):
        stored[f"encoder/layers_{i}/mlp/wo/kernel"] = (6, 4)
    stored["encoder/layers_12/norm/scale"] = SCALE
    with pytest.raises(UserError) as caught:
        assign(MODEL, stored, (), "folder/7")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("folder/7 does not fit this model: 4 arrays missing: ")
    assert "encoder/layers_{0-2,5}/norm/scale;" in message
    assert (
        "12 arrays of another shape: encoder/layers_{0-11}/mlp/wo/kernel (6, 4) there and (4, 6) here;"
        in message
    )
    assert "1 array too many: encoder/layers_12/norm/scale (4,)." in message
    assert message.endswith("which arrays to leave out (pattern, None)")


def test_padding_of_the_vocabulary_names_the_mend():
    stored = MODEL | {"token_embedder/embedding": (40, 4), "decoder/logits_dense/kernel": (4, 40)}
    with pytest.raises(UserError, match=r"2 arrays of .*vocab_size = 40, the check"):
        assign(MODEL, stored, (), "there")
    wider = {**stored, "token_embedder/embedding": (40, 5)}
    with pytest.raises(UserError, match="Give the checkpoint's MODEL"):
        assign(MODEL, wider, (), "there")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("a",),), r"\('a',\) is not a rule: write \(pattern, source\)"),
        (((None, "a"),), "is not a rule"),
        ((("a(", None),), r"'a\(' is no regular expression"),
        ((("a", r"b\1"),), r"'b\\1' cannot be filled in from the groups of 'a' \(invalid group"),
        ((("a", r"b\g<layer>"),), r"\(unknown group name 'layer'\)"),
        ((("a", r"b\q"),), r"\(bad escape"),
        ((("encoder/layers", None),), "'encoder/layers' matches the whole name of no array"),
    ],
)
def test_rules_that_cannot_be_meant(rules, message):
    with pytest.raises(UserError, match=message):
        assign(MODEL, MODEL, rules, "there")


def test_rules_are_checked_before_anything_is_opened():
    check_rules([("a/(.*)", r"b/\1"), ["c", None]])
    with pytest.raises(UserError, match="no regular expression"):
        check_rules([("(", None)])


@given(st.sets(st.integers(0, 30), min_size=1))
def test_folding_names_every_layer(layers):
    (name,) = folded(f"x/layers_{i}/y" for i in layers)
    inside = name.removeprefix("x/layers_").removesuffix("/y").strip("{}")
    told: set[int] = set()
    for part in inside.split(","):
        first, _, last = part.partition("-")
        told |= set(range(int(first), int(last or first) + 1))
    assert told == layers
