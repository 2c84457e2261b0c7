"""Starting from a checkpoint of any form: the same parameters bit for bit, parts of them, and the optimizer's state."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from flanx import models
from flanx.errors import UserError
from flanx.interop import layouts, open_checkpoint
from flanx.interop.source import ArrayInfo, Source, StoredArray, infos
from flanx.models.common import scanned
from flanx.models.t5.config import T5Config
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import make_mesh
from flanx.sharding.trees import path_names
from flanx.training import initial, params_io, program
from flanx.training.config import DataConfig, LossConfig, TrainConfig
from flanx.training.optimizer import Adafactor, AdafactorState, AdamW
from flanx.training.schedules import Constant
from flanx.training.state import TrainState
from flanx.training.step import make_train_step

ORACLE = T5Config(
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
    vocab_size=1024,
    dropout_rate=0.0,
    dtype="float32",
)
# Small, but with matrices that Adafactor factors; some of them square.
FACTORED = T5Config(
    emb_dim=128,
    num_heads=2,
    head_dim=64,
    num_encoder_layers=3,
    num_decoder_layers=1,
    mlp_dim=136,
    vocab_size=140,
    dropout_rate=0.0,
    dtype="float32",
)
EIGHT = MeshConfig(data=4, model=2, parameters="fully_sharded")


def flat(tree):
    return {"/".join(path_names(p)): np.asarray(x) for p, x in jax.tree.leaves_with_path(tree)}


def assert_same(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def in_memory(params, slots=None, step=None, form="t5x") -> Source:
    """A source as `open_checkpoint` gives it, of arrays that lie nowhere."""
    named = {f"target/{n}": np.asarray(x) for n, x in flat(params).items()}
    named |= {f"state/param_states/{n}": np.asarray(x) for n, x in (slots or {}).items()}
    stored = {
        n: StoredArray(ArrayInfo(x.shape, x.dtype), "memory", lambda x=x: x)
        for n, x in named.items()
    }
    views = layouts.param_views(stored, "target/")
    moments = layouts.slot_views(views, stored, "target/", "state/param_states/{param}/{slot}")
    both = {**views, **moments}
    return Source(
        form=form,
        path="memory",
        config=None,
        step=step,
        vocabulary_file=None,
        vocabulary={},
        params=infos(both, stored, views),
        optimizer=infos(both, stored, moments),
        assumed=("mlp_activations", "relpos_max_distance"),
        notes=(),
        views=both,
        stored=stored,
    )


def slots_of(state: AdafactorState):
    """`<param>/<slot>` -> array, as T5X names them."""
    found = {}
    for slot in ("v_row", "v_col", "v"):
        found |= {f"{n}/{slot}": x for n, x in flat(getattr(state, slot)).items()}
    return found


def build(config, *, mesh=None, seed=0, optimizer=None):
    """The program of a run of this network."""
    run = TrainConfig(
        model_dir="unused",
        model=config,
        data=DataConfig("toy", {"inputs": 8, "targets": 8}, "unused"),
        train_steps=1,
        batch_size=8,
        seed=seed,
        optimizer=optimizer or Adafactor(),
        schedule=Constant(0.01),
        mesh=mesh or MeshConfig(),
    )
    devices = None if mesh else jax.devices()[:1]
    return program.build(run, make_mesh(run.mesh, devices), 1)


def random_tree(config, seed):
    model = models.build(config)
    abstract = jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), abstract)


def scanned_config(config):
    return dataclasses.replace(config, scan_layers=True)


@pytest.fixture(scope="module")
def ckpt(shared_oracles):
    return shared_oracles / "t5x_tiny"


def test_each_form_gives_the_same_parameters(ckpt, tmp_path):
    """T5X's two forms, flanx's export of them with layers stacked and not, and Hugging Face's, onto any devices."""
    from flanx.cli.main import main

    legacy = str(ckpt / "ckpt_legacy" / "checkpoint_3")
    ours = build(ORACLE)
    expected = ours.state_from(initial.open_initial(legacy)).params
    params_io.export_params(tmp_path / "export", expected, "float32", {"model": ORACLE.to_dict()})
    stacked = scanned_config(ORACLE)
    params_io.export_params(
        tmp_path / "stacked",
        scanned.to_scanned(expected),
        "float32",
        {"model": stacked.to_dict()},
    )
    assert main(["convert", legacy, str(tmp_path / "hf"), "--to", "hf"]) == 0
    places = [ckpt / "ckpt_orbax", *(tmp_path / n for n in ("export", "stacked", "hf"))]
    assert [initial.open_initial(str(p)).form for p in places] == [
        "t5x-orbax",
        "flanx",
        "flanx",
        "hf",
    ]
    sharded, scanning = build(ORACLE, mesh=EIGHT), build(stacked, mesh=EIGHT)
    for place in map(str, places):
        assert_same(ours.state_from(initial.open_initial(place)).params, expected)
        state = sharded.state_from(initial.open_initial(place))
        assert_same(state.params, expected)
        assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(
            lambda x: x.sharding, sharded.state
        )
        state = scanning.state_from(initial.open_initial(place))
        assert_same(scanned.to_unrolled(state.params), expected)
        assert_same(state, scanning.state_from(in_memory(expected)))


def test_adafactor_goes_on_as_t5x_did(ckpt):
    """From T5X's state after one step, two more end in what T5X saved after its third: parameters and slots."""
    train, batches = np.load(ckpt / "train.npz"), np.load(ckpt / "expected.npz")
    start = {
        kind: {n.removeprefix(prefix): train[n] for n in train.files if n.startswith(prefix)}
        for kind, prefix in (("target", "step1/target/"), ("slots", "step1/state/param_states/"))
    }
    source = in_memory(unflatten_dict(start["target"], sep="/"), start["slots"], step=1)
    state = build(ORACLE).state_from(source, (), "state")
    assert (int(state.step), int(state.opt_state.count)) == (0, 1)
    step = jax.jit(
        make_train_step(
            models.build(ORACLE),
            Adafactor().build(Constant(0.01).build()),
            lambda count: (
                0.5 * count
            ),  # what is told: a schedule is asked with the optimizer's count
            LossConfig(z_loss=1e-4, normalizing_factor=1.0),
            num_tasks=1,
        )
    )
    prefix = "packed/batch/"
    batch = {
        n.removeprefix(prefix): jnp.asarray(batches[n])
        for n in batches.files
        if n.startswith(prefix)
    }
    with jax.default_matmul_precision("highest"):
        for number in (1, 2):
            state, got = step(state, batch, jax.random.key(0))
            np.testing.assert_allclose(got["loss"], train[f"loss{number}"], rtol=2e-5)
            assert float(got["learning_rate"]) == 0.5 * number
    theirs = build(ORACLE).state_from(initial.open_initial(str(ckpt / "ckpt_legacy")), (), "state")
    assert int(state.opt_state.count) == int(theirs.opt_state.count) == 3
    for name, value in flat(theirs.params).items():
        np.testing.assert_allclose(flat(state.params)[name], value, atol=1e-4, err_msg=name)
    for name, value in flat(theirs.opt_state.v).items():
        np.testing.assert_allclose(
            flat(state.opt_state.v)[name], value, rtol=1e-2, atol=1e-5 * value.max(), err_msg=name
        )
    orbax = build(ORACLE).state_from(initial.open_initial(str(ckpt / "ckpt_orbax")), (), "state")
    assert_same(orbax, theirs)


@pytest.fixture(scope="module")
def factored():
    """Parameters and slots of a network whose matrices are factored, as an unrolled state at step 7."""
    optimizer = Adafactor().build(Constant().build())
    params, rng = random_tree(FACTORED, 1), np.random.default_rng(2)

    def moments(x):
        unused = x.shape in ((), (1,))
        return np.zeros(x.shape, x.dtype) if unused else rng.random(x.shape).astype(x.dtype)

    slots = jax.tree.map(moments, jax.eval_shape(optimizer.init, params))
    return TrainState(jnp.int32(0), params, slots._replace(count=np.int32(7)))


def test_factored_slots_stacked_or_not(factored):
    source = in_memory(factored.params, slots_of(factored.opt_state), step=7)
    assert any(name.endswith("v_row") for name in source.optimizer)
    ours = build(FACTORED, mesh=EIGHT)
    assert_same(ours.state_from(source, (), "state"), factored)
    stacked = build(scanned_config(FACTORED), mesh=EIGHT).state_from(source, (), "state")
    for slot in ("v_row", "v_col", "v"):
        assert_same(
            scanned.to_unrolled(getattr(stacked.opt_state, slot)), getattr(factored.opt_state, slot)
        )
    reset = ours.state_from(source, (), "state_with_step_reset")
    assert int(reset.opt_state.count) == 0
    assert_same(reset.opt_state._replace(count=factored.opt_state.count), factored.opt_state)
    without = ours.state_from(source)
    assert_same(without.params, factored.params)
    assert not any(x.any() for x in jax.tree.leaves(without.opt_state))


def test_flanx_own_state_comes_along(factored, tmp_path):
    from flanx.training.checkpoint import Checkpoints
    from flanx.training.config import CheckpointConfig

    facts = {"model": FACTORED.to_dict()}
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(), facts, print)
    checkpoints.save(factored._replace(step=jnp.int32(7)), {}, {}, None, step=7)
    checkpoints.finish(needed=7)
    for config in (FACTORED, scanned_config(FACTORED)):
        state = build(config).state_from(initial.open_initial(str(tmp_path)), (), "state")
        expected = build(config).state_from(
            in_memory(factored.params, slots_of(factored.opt_state), step=7), (), "state"
        )
        assert_same(state, expected)
    # Taken over twice: what counts is Adafactor's own count, not the second run's steps.
    second = tmp_path / "second"
    checkpoints = Checkpoints(second, CheckpointConfig(), facts, print)
    late = factored._replace(
        step=jnp.int32(2), opt_state=factored.opt_state._replace(count=np.int32(9))
    )
    checkpoints.save(late, {}, {}, None, step=2)
    checkpoints.finish(needed=2)
    source = initial.open_initial(str(second))
    assert (source.step, source.optimizer_step) == (2, 9)
    assert int(build(FACTORED).state_from(source, (), "state").opt_state.count) == 9
    assert "going on from its step 9" in initial.restored_text(source, "state")


@pytest.fixture(scope="module")
def fresh():
    """What a run of seed 5 would start with, of the arrays that the next test leaves at that."""
    model = models.build(scanned_config(FACTORED))

    def some(key):
        params = scanned.to_unrolled(models.init_params(model, key))
        kept = {"encoder": {"layers_1": {"mlp": params["encoder"]["layers_1"]["mlp"]}}}
        return kept | {"decoder": {"logits_dense": params["decoder"]["logits_dense"]}}

    return flat(jax.jit(some)(jax.random.key(5)))


@pytest.mark.parametrize("stack", [False, True])
def test_parts_of_a_checkpoint(factored, fresh, stack):
    """The decoder's output fresh, the encoder's last layer from its first, and slots where the parameters are from."""
    config = scanned_config(FACTORED) if stack else FACTORED
    ours = build(config, mesh=EIGHT if stack else None, seed=5)
    rules = (
        ("decoder/logits_dense/kernel", None),
        (r"encoder/layers_1/mlp/.*", None),
        (r"encoder/layers_2/(.*)", r"encoder/layers_0/\1"),
    )
    source = in_memory(factored.params, slots_of(factored.opt_state), step=7)
    state = ours.state_from(source, rules, "state")
    theirs, theirs_v = flat(factored.params), flat(factored.opt_state.v_row)
    rows = flat(scanned.to_unrolled(state.opt_state.v_row))
    for name, value in flat(scanned.to_unrolled(state.params)).items():
        kept = name in fresh
        from_ = name.replace("encoder/layers_2/", "encoder/layers_0/")
        np.testing.assert_array_equal(value, fresh[name] if kept else theirs[from_], err_msg=name)
        wanted = np.zeros_like(theirs_v[name]) if kept else theirs_v[from_]
        np.testing.assert_array_equal(rows[name], wanted, err_msg=name)
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(
        lambda x: x.sharding, ours.state
    )


def test_nothing_is_read_before_everything_fits(factored):
    def unreadable():
        raise AssertionError("read")

    source = in_memory(factored.params)
    stored = {n: dataclasses.replace(a, read=unreadable) for n, a in source.stored.items()}
    source = dataclasses.replace(source, stored=stored)
    with pytest.raises(UserError, match=r"2 arrays of another .*vocab_size = 140"):
        build(dataclasses.replace(FACTORED, vocab_size=132)).state_from(source)
    with pytest.raises(UserError, match="memory holds no state of Adafactor"):
        build(FACTORED).state_from(source, (), "state")
    with pytest.raises(AssertionError, match="read"):
        build(FACTORED).state_from(source)


def test_slots_that_do_not_fit_are_all_told(factored):
    slots = slots_of(factored.opt_state)
    whole = in_memory(factored.params, slots, step=7)
    with pytest.raises(UserError, match="and OPTIMIZER is another"):
        build(FACTORED, optimizer=AdamW()).state_from(whole, (), "state")
    with pytest.raises(UserError, match="does not say its step"):
        build(FACTORED).state_from(in_memory(factored.params, slots), (), "state")
    plain = Adafactor(factored=False)
    with pytest.raises(UserError, match=r"wo/kernel/v_row .*Set its factored and min_dim"):
        build(FACTORED, optimizer=plain).state_from(whole, (), "state")
    with pytest.raises(UserError, match=r"encoder_norm/scale/m missing there and \(128,\) here"):
        build(FACTORED, optimizer=Adafactor(beta1=0.9)).state_from(whole, (), "state")
    less = {n: x for n, x in slots.items() if not n.startswith("encoder/layers_1/mlp/wo")}
    with pytest.raises(UserError, match="2 slots in memory do not fit"):
        build(FACTORED).state_from(in_memory(factored.params, less, step=7), (), "state")


def test_another_network_of_the_same_shapes_is_refused(tmp_path):
    config = dataclasses.replace(ORACLE, vocab_size=32)
    params = random_tree(config, 0)
    params_io.export_params(tmp_path / "x", params, "float32", {"model": config.to_dict()})
    source = open_checkpoint(str(tmp_path / "x"))
    initial.check_model(source, config)
    other = dataclasses.replace(config, mlp_activations=("silu", "linear"))
    with pytest.raises(UserError, match=r"mlp_activations gelu/linear there and silu/linear here"):
        initial.check_model(source, other)
    # T5X's arrays say nothing of them.
    initial.check_model(dataclasses.replace(source, assumed=("mlp_activations",)), other)


def test_flat_names_are_those_of_the_model():
    params = jax.eval_shape(
        lambda key: models.init_params(models.build(ORACLE), key), jax.random.key(0)
    )
    one_by_one = {name for leaf in initial.leaves_of(params) for name in leaf.pieces}
    assert one_by_one == {"/".join(path) for path in flatten_dict(params)}
    stacked = jax.eval_shape(scanned.to_scanned, params)
    assert {name for leaf in initial.leaves_of(stacked) for name in leaf.pieces} == one_by_one
