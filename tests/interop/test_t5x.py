"""T5X's checkpoints: those that T5X itself wrote, every older way it wrote them, and what flanx writes for it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import checkpoints as ck
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import serialization
from flax.traverse_util import flatten_dict
from native_form import KERNEL, STEP, kernel_of, leaves, put, shapes

from flanx.errors import UserError
from flanx.interop import open_checkpoint, t5x_message
from flanx.interop.places import Place
from flanx.interop.request import Request, prepare
from flanx.interop.to_flanx import FlanxTarget
from flanx.interop.to_t5x import T5xTarget


def test_oracles_of_t5x(shared_oracles: Path):
    folder = shared_oracles / "t5x_tiny"
    native, orbax = (open_checkpoint(str(folder / name)) for name in ("ckpt_legacy", "ckpt_orbax"))
    assert (native.form, orbax.form) == ("t5x", "t5x-orbax")
    assert native.step == orbax.step == 3
    assert native.path.name == "checkpoint_3"
    for kind in ("params", "optimizer"):
        assert list(getattr(native, kind)) == list(getattr(orbax, kind))
    assert len(native.optimizer) == len(native.params) == 52
    for name in native.params:
        ck.equal(native.read(name), orbax.read(name), name)
        ck.equal(native.read_optimizer(f"{name}/v"), orbax.read_optimizer(f"{name}/v"), name)
    batch = dict(np.load(folder / "expected.npz"))
    expected = np.load(folder / "ckpt_expected.npz")["logits_padded"]
    inputs = batch["padded/batch/encoder_input_tokens"].astype(np.int32)
    targets = batch["padded/batch/decoder_target_tokens"].astype(np.int32)
    logits = ck.logits_of(native, inputs, targets)
    real = targets > 0
    np.testing.assert_allclose(logits[real], expected[real], rtol=0, atol=1e-4)


def test_state_equals_what_t5x_trained(shared_oracles: Path, tmp_path: Path):
    """The state after T5X's first step, through flanx's form and back, keeps its names and bits."""
    trained = dict(np.load(shared_oracles / "t5x_tiny" / "train.npz"))
    target, states = "step1/target/", "step1/state/param_states/"
    params = {n.removeprefix(target): a for n, a in trained.items() if n.startswith(target)}
    slots = {
        n.removeprefix(states): a
        for n, a in trained.items()
        if n.startswith(states) and n.endswith("/v")
    }
    config = open_checkpoint(str(shared_oracles / "t5x_tiny" / "ckpt_legacy")).config
    source = ck.in_memory(config, params, slots, step=1)
    t5x = tmp_path / "t5x"
    ck.write(lambda folder: T5xTarget(source, folder, t5x), source, t5x)
    flanx = ck.converted(t5x, tmp_path / "flanx", "flanx")
    ck.same(flanx, params, slots)
    assert open_checkpoint(str(flanx)).step == 1


def test_written_as_t5x_writes_it(shared_oracles: Path, tmp_path: Path):
    """Byte for byte the same msgpack file, the same folders and the same metadata of every array."""
    theirs = shared_oracles / "t5x_tiny" / "ckpt_legacy" / "checkpoint_3"
    flanx = ck.converted(theirs, tmp_path / "flanx", "flanx")
    ours = ck.converted(flanx, tmp_path / "t5x", "t5x", compress=True) / "checkpoint_3"
    assert (ours / "checkpoint").read_bytes() == (theirs / "checkpoint").read_bytes()
    files = [sorted(str(p.relative_to(f)) for p in f.rglob("*")) for f in (ours, theirs)]
    assert files[0] == files[1]
    for file in theirs.glob("*/.zarray"):
        assert (ours / file.relative_to(theirs)).read_text() == file.read_text()


def test_orbax_form_as_t5x_writes_it(shared_oracles: Path, tmp_path: Path):
    """The same list of arrays, and Orbax restores from it what it restores from T5X's own, bit for bit."""
    theirs = shared_oracles / "t5x_tiny" / "ckpt_orbax" / "checkpoint_3"
    native = shared_oracles / "t5x_tiny" / "ckpt_legacy"
    ours = ck.converted(native, tmp_path / "t5x", "t5x-orbax") / "checkpoint_3"
    lists = [json.loads((f / "state" / "_METADATA").read_text()) for f in (ours, theirs)]
    assert lists[0]["tree_metadata"] == lists[1]["tree_metadata"]
    found, expected = (restored(folder) for folder in (ours, theirs))
    assert found.keys() == expected.keys()
    for name in expected:
        ck.equal(found[name], expected[name], name)


def restored(checkpoint: Path) -> dict[str, np.ndarray]:
    """All of `checkpoint_<step>`, as T5X asks Orbax's manager for it."""
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(checkpoint / "state").tree
    plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    options = ocp.CheckpointManagerOptions(step_prefix="checkpoint", read_only=True)
    with ocp.CheckpointManager(
        checkpoint.parent, options=options, item_handlers={"state": handler}
    ) as manager:
        assert list(manager.all_steps()) == [int(checkpoint.name.removeprefix("checkpoint_"))]
        args = ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=plain))
        return flatten_dict(manager.restore(manager.latest_step(), args=args).state, sep="/")


@pytest.mark.parametrize("state", [True, False], ids=["state", "fresh"])
@pytest.mark.parametrize("scanned", [False, True], ids=["unrolled", "scanned"])
def test_round_trip_through_the_orbax_form(scanned: bool, state: bool, tmp_path, arrays, slots):
    source = ck.in_memory(ck.NARROW, arrays, slots if state else None)
    flanx = tmp_path / "flanx"
    ck.write(lambda folder: FlanxTarget(source, ck.NARROW, folder), source, flanx)
    orbax = ck.converted(flanx, tmp_path / "orbax", "t5x-orbax", scanned=scanned)
    found = open_checkpoint(str(orbax))
    assert (found.form, found.step) == ("t5x-orbax", 7 if state else 0)
    fresh = {name: np.zeros_like(array) for name, array in slots.items()}
    ck.same(orbax, arrays, slots if state else fresh)
    native = ck.converted(orbax, tmp_path / "native", "t5x")
    ck.same(native, arrays, slots if state else fresh)
    (chunk,) = orbax.glob("*/state/target.decoder.decoder_norm.scale/0")
    chunk.unlink()
    with pytest.raises(UserError, match=f"{chunk} is missing"):
        open_checkpoint(str(orbax)).read("decoder/decoder_norm/scale")


def test_slots_lie_where_t5x_has_them(native: Path):
    tree = leaves(native)
    state = tree["optimizer"]["state"]["param_states"]["encoder"]["layers_0"]
    assert tree["optimizer"]["state"]["step"] == 7
    assert {k: v.shape for k, v in state["mlp"]["wi_0"]["kernel"].items()} == {
        "m": (1,),
        "v": (1,),
        "v_row": (160,),
        "v_col": (192,),
    }
    assert state["pre_mlp_layer_norm"]["scale"]["v"]["driver"] == "zarr"


def test_without_state_t5x_finds_a_fresh_one(tmp_path: Path, arrays):
    source = ck.in_memory(ck.NARROW, arrays, step=None)
    for scanned in (False, True):
        final = tmp_path / f"t5x{scanned}"
        ck.write(
            lambda folder, s=scanned, f=final: T5xTarget(source, folder, f, scanned=s),
            source,
            final,
        )
        found = open_checkpoint(str(final))
        wanted = ck.random_slots(arrays)
        assert {n: i.shape for n, i in found.optimizer.items()} == {
            n: a.shape for n, a in wanted.items()
        }
        assert not any(found.read_optimizer(name).any() for name in found.optimizer)
        assert found.step == 0


@pytest.mark.parametrize("config", [ck.FACTORED, ck.NARROW], ids=["square", "narrow"])
def test_scanned_form_follows_t5x_axes(config, tmp_path: Path):
    arrays = ck.random_arrays(config)
    slots = ck.random_slots(arrays)
    source = ck.in_memory(config, arrays, slots)
    final = tmp_path / "scanned"
    ck.write(lambda folder: T5xTarget(source, folder, final, scanned=True), source, final)
    tree = leaves(final)["optimizer"]
    embed, joined = config.emb_dim, config.joined_dim
    decoder = tree["target"]["decoder"]["decoder"]
    assert shapes(decoder["mlp"]["wi_0"]["kernel"]) == (embed, 3, 192)
    assert shapes(decoder["pre_mlp_layer_norm"]["scale"]) == (embed, 3)
    assert shapes(decoder["relpos_bias"]["rel_embedding"]) == (2, 3, 32)
    assert shapes(tree["target"]["decoder"]["decoder_norm"]["scale"]) == (embed,)
    # T5X factors (joined_kv, layers, embed) by COLUMN, BATCH, ROW: v_row lacks the column, v_col the row.
    out = tree["state"]["param_states"]["decoder"]["decoder"]["self_attention"]["out"]["kernel"]
    assert out["v_row"].shape == (3, embed)
    assert out["v_col"].shape == (2, 3, joined // 2)
    query = tree["state"]["param_states"]["decoder"]["decoder"]["self_attention"]["query"]["kernel"]
    assert query["v_row"].shape == (embed, 3)
    assert query["v_col"].shape == (3, 2, joined // 2)
    # Heads and their width apart, as `t5x/examples/scalable_t5` has them.
    attention = decoder["encoder_decoder_attention"]
    for part in ("query", "key", "value"):
        assert shapes(attention[part]["kernel"]) == (embed, 3, 2, joined // 2)
    assert shapes(attention["out"]["kernel"]) == (2, 3, joined // 2, embed)
    ck.same(final, arrays, slots)
    again = ck.converted(final, tmp_path / "flanx", "flanx", scanned=True)
    ck.same(again, arrays, slots)


def test_stacked_arrays_are_read_once(tmp_path: Path, arrays, slots):
    source = ck.in_memory(ck.NARROW, arrays, slots)
    final = tmp_path / "scanned"
    ck.write(lambda folder: T5xTarget(source, folder, final, scanned=True), source, final)
    found = open_checkpoint(str(final))
    reads: list[str] = []

    def counted(name: str, array):
        def read():
            reads.append(name)
            return array.read()

        return replace(array, read=read)

    found = replace(found, stored={name: counted(name, a) for name, a in found.stored.items()})
    for name in found.params:
        found.read(name)
    for name in found.optimizer:
        found.read_optimizer(name)
    assert len(reads) == len(set(reads))
    reads.clear()
    prepared = prepare(Request(str(final), tmp_path / "flanx", "flanx"))
    prepared = replace(prepared, source=found)
    ck.write(prepared.target, found, tmp_path / "flanx")
    assert len(reads) == len(set(reads))


def test_bfloat16_and_gzip(tmp_path: Path):
    arrays = ck.random_arrays(ck.NARROW, ck.BFLOAT16)
    source = ck.in_memory(ck.NARROW, arrays)
    final = tmp_path / "checkpoint_0"
    ck.write(lambda folder: T5xTarget(source, folder, final, compress=True), source, final)
    found = open_checkpoint(str(final))
    for name in found.params:
        ck.equal(found.read(name), arrays[name], name)


def test_the_message_is_flax_own(monkeypatch):
    """What flax packs is read, and the other way round: arrays, scalars, and arrays in pieces."""
    tree = {
        "a": {"b": np.arange(6, dtype=np.int32).reshape(2, 3), "half": np.ones(3, ck.BFLOAT16)},
        "scalar": np.float32(2.5),
        "spec": {"driver": "zarr", "shape": [1, 2]},
        "step": np.asarray(7, np.int32),
    }
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 16)
    ours = t5x_message.unpack(serialization.msgpack_serialize(tree))
    ck.equal(ours["a"]["b"], tree["a"]["b"], "b")
    ck.equal(ours["a"]["half"], tree["a"]["half"], "half")
    assert ours["scalar"] == 2.5
    assert ours["spec"] == tree["spec"]
    assert ours["step"].shape == ()
    monkeypatch.undo()
    del tree["scalar"]
    assert t5x_message.pack(tree) == serialization.msgpack_serialize(tree)


def test_inline_arrays(native: Path, arrays, slots):
    tree = leaves(native)
    kernel_of(tree)["kernel"] = np.array(arrays["decoder/layers_1/mlp/wo/kernel"])
    shutil.rmtree(native / STEP / KERNEL)
    put(native, tree)
    ck.same(native, arrays, slots)


def test_array_without_zarray(native: Path, arrays, slots):
    (native / STEP / KERNEL / ".zarray").unlink()
    ck.same(native, arrays, slots)


@pytest.mark.parametrize("kind", ["path at the top", "gfile", "gcs"])
def test_old_kvstores(kind: str, native: Path, arrays, slots):
    tree = leaves(native)
    spec = kernel_of(tree)["kernel"]
    if kind == "path at the top":
        spec["path"] = spec["kvstore"].pop("path").rstrip("/")
    elif kind == "gcs":
        spec["kvstore"] |= {"driver": "gcs", "bucket": "t5x-dummy-bucket"}
        spec["kvstore"]["path"] = f"some/folder/{spec['kvstore']['path']}"
    else:
        spec["kvstore"]["driver"] = "gfile"
    put(native, tree)
    ck.same(native, arrays, slots)


def test_the_newest_of_several(native: Path):
    shutil.copytree(native / STEP, native / "checkpoint_12")
    (native / "checkpoint_99.tmp-1").mkdir()
    found = open_checkpoint(str(native))
    assert found.path.name == "checkpoint_12"
    assert "step 12" in found.notes[0]


def test_arrays_that_are_no_t5(native: Path, tmp_path: Path):
    """A partial checkpoint opens, for rules to choose from; it is not converted, and every odd array is named."""
    tree = leaves(native)
    del tree["optimizer"]["target"]["decoder"]["decoder_norm"]
    tree["optimizer"]["target"]["prompt"] = {"embedding": np.zeros((5, 160), np.float32)}
    put(native, tree)
    assert "prompt/embedding" in open_checkpoint(str(native)).params
    with pytest.raises(UserError) as caught:
        ck.converted(native, tmp_path / "out", "hf")
    told = "missing 'decoder/decoder_norm/scale' (160,); unknown 'prompt/embedding' (5, 160)"
    assert told in str(caught.value)
    tree = leaves(native)
    del tree["optimizer"]["target"]["encoder"]["relpos_bias"]
    put(native, tree)
    assert open_checkpoint(str(native)).config is None
    with pytest.raises(UserError, match="array 'encoder/relpos_bias/rel_embedding' is missing"):
        ck.converted(native, tmp_path / "out", "hf")


@pytest.mark.parametrize("orbax", [False, True], ids=["native", "orbax"])
def test_t5x_scanned_layout_is_read(orbax: bool, tmp_path: Path):
    """Arrays as T5X's scanned network has them, a bias for each layer, become the layers' own; and the way back."""
    config = replace(ck.NARROW, relpos_per_layer=True)
    arrays = ck.random_arrays(config)
    source = ck.in_memory(config, arrays, ck.random_slots(arrays))
    final = tmp_path / "scanned"
    ck.write(
        lambda folder: T5xTarget(source, folder, final, scanned=True, orbax=orbax), source, final
    )
    stored = open_checkpoint(str(final)).stored
    # The slow, obvious version of the layout: numpy's own stack of reshaped layers.
    heads, width = config.num_heads, config.head_dim
    layers = [f"decoder/layers_{i}/self_attention" for i in range(3)]
    for part in ("query", "key", "value"):
        kernels = [arrays[f"{n}/{part}/kernel"].reshape(-1, heads, width) for n in layers]
        found = stored[f"target/decoder/decoder/self_attention/{part}/kernel"].read()
        np.testing.assert_array_equal(found, np.stack(kernels, axis=1))
    kernels = [arrays[f"{n}/out/kernel"].reshape(heads, width, -1) for n in layers]
    found = stored["target/decoder/decoder/self_attention/out/kernel"].read()
    np.testing.assert_array_equal(found, np.stack(kernels, axis=1))
    tables = [arrays[f"decoder/layers_{i}/relpos_bias/rel_embedding"] for i in range(3)]
    found = stored["target/decoder/decoder/relpos_bias/rel_embedding"].read()
    np.testing.assert_array_equal(found, np.stack(tables, axis=1))
    assert open_checkpoint(str(final)).config.relpos_per_layer
    ck.same(final, arrays, ck.random_slots(arrays))
    ck.same(
        ck.converted(final, tmp_path / "flanx", "flanx", scanned=True),
        arrays,
        ck.random_slots(arrays),
    )


@pytest.mark.parametrize("way", ["..", "file://", "link", "slash", "relative"])
def test_ways_to_write_a_path(way: str, native: Path, monkeypatch):
    (native / "x y").mkdir()
    (native.parent / "link").symlink_to(native)
    monkeypatch.chdir(native.parent)
    path = {
        "..": f"{native}/x y/..",
        "file://": f"file://{native}",
        "link": str(native.parent / "link"),
        "slash": f"{native}/",
        "relative": "x/../native" if (native.parent / "x").mkdir() is None else "",
    }[way]
    found = open_checkpoint(path)
    assert found.read("decoder/decoder_norm/scale").shape == (160,)
    assert ".." not in str(found.path)


def test_a_bucket_is_asked_for_by_tensorstore():
    place = Place("gs://t5-data/pretrained_models/t5x/t5_1_1_lm100k_small/checkpoint_1100000")
    assert (place / "target.x").kvstore() == {
        "driver": "gcs",
        "bucket": "t5-data",
        "path": "pretrained_models/t5x/t5_1_1_lm100k_small/checkpoint_1100000/target.x/",
    }
    assert str(place.path) == place.url
