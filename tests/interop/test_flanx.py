"""flanx's own form: a run's checkpoint as Orbax wrote it, and an export that Orbax restores."""

import shutil
from dataclasses import replace
from pathlib import Path

import checkpoints as ck
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from flanx import models, resources
from flanx.errors import UserError
from flanx.interop import open_checkpoint
from flanx.interop.to_flanx import FlanxTarget
from flanx.models.common import scanned
from flanx.training import params_io
from flanx.training.checkpoint import Checkpoints
from flanx.training.config import CheckpointConfig
from flanx.training.optimizer import Adafactor
from flanx.training.schedules import Constant
from flanx.training.state import TrainState


def test_expected_shapes_are_the_networks():
    for config in (
        ck.FACTORED,
        replace(ck.NARROW, mlp_activations=("relu",), logits_via_embedding=True),
    ):
        model = models.build(config)
        made = jax.eval_shape(lambda key, m=model: models.init_params(m, key), jax.random.key(0))
        flat = {"/".join(path): leaf.shape for path, leaf in flatten_dict(made).items()}
        assert config.parameters().shapes() == flat


@pytest.mark.parametrize("stacked", [False, True], ids=["unrolled", "stacked"])
def test_a_runs_checkpoint(stacked: bool, tmp_path: Path):
    """Parameters and state as the trainer saved them, read by name, converted to T5X and back."""
    arrays = ck.random_arrays(ck.FACTORED)
    slots = ck.random_slots(arrays)
    params = unflatten_dict(arrays, sep="/")
    axis = (lambda path: 0 if "layers" in path else None) if stacked else None
    if stacked:
        params = scanned.to_scanned(params)
    state = Adafactor().build(Constant(0.01).build(), axis).init(params)
    trees = {}
    for kind in ("v_row", "v_col", "v"):
        flat = flatten_dict(getattr(state, kind), sep="/")
        trees[kind] = unflatten_dict(
            {n: _slot(n, kind, a, slots) for n, a in flat.items()}, sep="/"
        )
    state = state._replace(count=np.int32(9), **trees)  # taken over at 4
    facts = {
        "model": replace(ck.FACTORED, scan_layers=stacked).to_dict(),
        "feature_lengths": {"inputs": 9},
    }
    checkpoints = Checkpoints(tmp_path / "run", CheckpointConfig(), facts, warn=pytest.fail)
    checkpoints.save(TrainState(np.int32(5), params, state), {}, {}, None, step=5)
    checkpoints.finish(needed=5)
    ck.same(tmp_path / "run", arrays, slots)
    found = open_checkpoint(str(tmp_path / "run" / "checkpoints" / "5"))
    assert (found.form, found.step, found.config.scan_layers) == ("flanx", 5, stacked)
    t5x = ck.converted(tmp_path / "run", tmp_path / "t5x", "t5x", scanned=stacked)
    ck.same(t5x, arrays, slots)
    assert open_checkpoint(str(t5x)).step == 9
    export = open_checkpoint(str(ck.converted(tmp_path / "run", tmp_path / "export", "flanx")))
    assert (export.step, export.optimizer_step) == (5, 9)


def _slot(name: str, kind: str, like, slots) -> np.ndarray:
    """The slot's value, stacked if `like` is; a placeholder where there is none."""
    if "/layers/" not in name:
        return slots.get(f"{name}/{kind}", np.zeros(like.shape, np.float32))
    layers = [f"{name.replace('/layers/', f'/layers_{i}/')}/{kind}" for i in range(like.shape[0])]
    zero = np.zeros(like.shape[1:], np.float32)
    return np.stack([slots.get(layer, zero) for layer in layers])


@pytest.mark.parametrize("stacked", [False, True], ids=["unrolled", "stacked"])
def test_orbax_restores_an_export(stacked: bool, tmp_path: Path):
    arrays = ck.random_arrays(ck.NARROW, ck.BFLOAT16)
    slots = ck.random_slots(arrays)
    source = ck.in_memory(ck.NARROW, arrays, slots)
    folder = tmp_path / "export"
    ck.write(lambda f: FlanxTarget(source, ck.NARROW, f, scanned=stacked), source, folder)
    model = models.build(replace(ck.NARROW, scan_layers=stacked))
    abstract = jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))
    restored = params_io.read_tree(folder / "params", abstract)
    flat = flatten_dict(scanned.to_unrolled(restored), sep="/")
    for name, array in arrays.items():
        ck.equal(np.asarray(flat[name]), array.astype(np.float32), name)
    stored = params_io.stored_shapes(folder / "params")
    assert stored == {p: x.shape for p, x in flatten_dict(abstract).items()}
    facts = params_io.read_facts(folder)
    assert facts["model"]["scan_layers"] is stacked
    ck.same(folder, arrays, slots)


def test_a_column_ordered_array_is_restored(tmp_path: Path):
    """A transposed kernel is stored in zarr's order "F"; Orbax and the plain reader agree on its values."""
    kernel = "encoder/layers_0/attention/query/kernel"
    arrays = ck.random_arrays(ck.NARROW)
    arrays[kernel] = np.ascontiguousarray(arrays[kernel].T).T
    source = ck.in_memory(ck.NARROW, arrays)
    ck.write(lambda f: FlanxTarget(source, ck.NARROW, f), source, tmp_path / "export")
    folder = tmp_path / "export" / "params"
    assert '"order":"F"' in (folder / kernel.replace("/", ".") / ".zarray").read_text()
    model = models.build(ck.NARROW)
    abstract = jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))
    restored = flatten_dict(params_io.read_tree(folder, abstract), sep="/")
    ck.equal(np.asarray(restored[kernel]), arrays[kernel], kernel)
    ck.same(tmp_path / "export", arrays, {})


def test_arrays_in_many_chunks(tmp_path: Path, monkeypatch):
    from flanx.interop import zarr_write

    monkeypatch.setattr(zarr_write, "CHUNK_BYTES", 20_000)
    arrays = ck.random_arrays(ck.NARROW)
    source = ck.in_memory(ck.NARROW, arrays)
    ck.write(lambda f: FlanxTarget(source, ck.NARROW, f), source, tmp_path / "export")
    embedding = tmp_path / "export" / "params" / "token_embedder.embedding"
    assert len(list(embedding.iterdir())) > 5
    ck.same(tmp_path / "export", arrays, {})
    hf = ck.converted(tmp_path / "export", tmp_path / "hf", "hf")
    ck.same(ck.converted(hf, tmp_path / "again", "flanx"), arrays, {})


@pytest.mark.parametrize("kind", ["gone", "short"])
def test_damage_inside_orbax(kind: str, tmp_path: Path):
    """Orbax's own files have no names that mean anything; the array is named all the same."""
    base = tmp_path / "base"
    shutil.copytree(resources.resolve("pkg://flanx.tasks/playground_parts/base"), base)
    file = max((base / "params").rglob("d/*"), key=lambda path: path.stat().st_size)
    if kind == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"array '\S+' in {base}/params cannot be read"):
        _ = [source.read(n) for source in [open_checkpoint(str(base))] for n in source.params]


def test_damaged_facts(tmp_path: Path):
    base = tmp_path / "base"
    shutil.copytree(resources.resolve("pkg://flanx.tasks/playground_parts/base"), base)
    text = (base / "flanx.json").read_text()
    (base / "flanx.json").write_text(text[:100])
    with pytest.raises(UserError, match=f"JSON beside {base}/params is damaged"):
        open_checkpoint(str(base))
    for damaged in ("[]", '{"vocabulary": {"spec": 3}}'):
        (base / "flanx.json").write_text(damaged)
        with pytest.raises(UserError, match=f"JSON beside {base}/params is damaged"):
            open_checkpoint(str(base))
    (base / "flanx.json").write_text(text.replace('"emb_dim"', '"emb_dimension"'))
    with pytest.raises(UserError, match=f"{base} names a model .*emb_dimension"):
        open_checkpoint(str(base))
    (base / "flanx.json").write_text(text.replace('"mlp_dim": 256', '"mlp_dim": 128'))
    with pytest.raises(UserError, match=r"'encoder/layers_\{0,1,2\}/mlp/wo/kernel' \(256, 128\)"):
        open_checkpoint(str(base))


def test_missing_metadata(tmp_path: Path):
    arrays = ck.random_arrays(ck.NARROW)
    source = ck.in_memory(ck.NARROW, arrays)
    ck.write(lambda f: FlanxTarget(source, ck.NARROW, f), source, tmp_path / "export")
    (tmp_path / "export" / "params" / "_METADATA").unlink()
    with pytest.raises(UserError, match="params/_METADATA is missing"):
        open_checkpoint(str(tmp_path / "export"))
