"""Damaged and hostile checkpoints of T5X: each is named, with the file and the array."""

import json
import shutil
from pathlib import Path

import checkpoints as ck
import pytest
from native_form import KERNEL, STEP, kernel_of, leaves, put

from flanx.errors import UserError
from flanx.interop import open_checkpoint
from flanx.interop.to_t5x import T5xTarget


def test_a_depth_that_one_array_claims_is_damage(tmp_path: Path, arrays):
    source = ck.in_memory(ck.NARROW, arrays)
    final = tmp_path / "scanned"
    ck.write(lambda folder: T5xTarget(source, folder, final, scanned=True), source, final)
    file = final / STEP / "target.encoder.encoder.pre_mlp_layer_norm.scale" / ".zarray"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "shape": [160, 7], "chunks": [160, 7]}))
    tree = leaves(final)
    spec = tree["optimizer"]["target"]["encoder"]["encoder"]["pre_mlp_layer_norm"]["scale"]
    spec["metadata"] |= {"shape": [160, 7], "chunks": [160, 7]}
    put(final, tree)
    with pytest.raises(UserError, match="pre_mlp_layer_norm/scale.* 7 layers|2, .*7"):
        open_checkpoint(str(final))


@pytest.mark.parametrize("shape", [[2**40, 4], [-5, 3], [True, 2]])
def test_a_shape_beyond_the_files(shape: list[int], native: Path):
    file = native / STEP / KERNEL / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shape": shape, "chunks": shape}))
    with pytest.raises(UserError, match="decoder/layers_1/mlp/wo/kernel") as caught:
        open_checkpoint(str(native))
    assert "\n" not in str(caught.value)


def damage(native: Path, kind: str) -> None:
    step = native / STEP
    if kind == "chunk gone":
        (step / KERNEL / "0.0").unlink()
    elif kind == "chunk short":
        (step / KERNEL / "0.0").write_bytes((step / KERNEL / "0.0").read_bytes()[:-90])
    elif kind == "folder gone":
        shutil.rmtree(step / KERNEL)
    elif kind == "metadata":
        (step / KERNEL / ".zarray").write_text('{"shape": [1')
    elif kind == "other shape":
        text = json.loads((step / KERNEL / ".zarray").read_text())
        (step / KERNEL / ".zarray").write_text(
            json.dumps({**text, "shape": [160, 192], "chunks": [160, 192]})
        )
    elif kind == "message":
        (step / "checkpoint").write_bytes((step / "checkpoint").read_bytes()[:200])


@pytest.mark.parametrize(
    "kind", ["chunk gone", "chunk short", "folder gone", "metadata", "other shape"]
)
def test_damage_names_file_and_array(kind: str, native: Path):
    damage(native, kind)
    with pytest.raises(UserError, match=r"decoder/layers_1/mlp/wo/kernel.*copy") as caught:
        open_checkpoint(str(native)).read("decoder/layers_1/mlp/wo/kernel")
    assert KERNEL in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_message(native: Path):
    damage(native, "message")
    with pytest.raises(UserError, match=r"checkpoint_7/checkpoint is no whole T5X checkpoint"):
        open_checkpoint(str(native))


def test_compressed_damage(tmp_path: Path, arrays):
    source = ck.in_memory(ck.NARROW, arrays)
    final = tmp_path / "native"
    ck.write(lambda folder: T5xTarget(source, folder, final, compress=True), source, final)
    for kind in ("chunk short", "chunk gone"):
        damage(final, kind)
        with pytest.raises(UserError, match=rf"target/decoder/layers_1/mlp/wo/kernel.*{KERNEL}"):
            open_checkpoint(str(final)).read("decoder/layers_1/mlp/wo/kernel")


@pytest.mark.parametrize(
    "spoil",
    [
        {"kvstore": None},
        {"kvstore": {"driver": "file", "path": [1]}},
        {"metadata": []},
    ],
)
def test_a_spec_that_is_none(spoil: dict, native: Path):
    tree = leaves(native)
    kernel_of(tree)["kernel"] |= spoil
    put(native, tree)
    with pytest.raises(UserError, match="checkpoint is no whole T5X checkpoint"):
        open_checkpoint(str(native))


@pytest.mark.parametrize(
    "spoil", [{"shape": []}, {"shape": ["a", "b"]}, {"dimension_separator": None}]
)
def test_zarr_metadata_that_is_none(spoil: dict, native: Path):
    file = native / STEP / KERNEL / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **spoil}))
    with pytest.raises(
        UserError, match="array 'target/decoder/layers_1/mlp/wo/kernel' in .*damaged"
    ):
        open_checkpoint(str(native))


def test_a_gzipped_chunk_that_is_lost_is_no_zeros(tmp_path: Path, arrays):
    """Orbax lists that it writes zeros too; a compressed array is read by TensorStore, which would fill them in."""
    source = ck.in_memory(ck.NARROW, arrays)
    final = tmp_path / "x"
    ck.write(lambda folder: T5xTarget(source, folder, final, orbax=True), source, final)
    folder = final / STEP / "state" / KERNEL
    content = json.loads((folder / ".zarray").read_text())
    (folder / ".zarray").write_text(
        json.dumps({**content, "compressor": {"id": "gzip", "level": 1}})
    )
    (folder / "0.0").unlink()
    with pytest.raises(UserError, match="array 'target/decoder/layers_1/mlp/wo/kernel' in"):
        open_checkpoint(str(final)).read("decoder/layers_1/mlp/wo/kernel")
