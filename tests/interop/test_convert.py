"""Conversions as a whole: what a kill, a full disk, or a source that does not fit leaves behind; and every message."""

import errno
import fcntl
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import checkpoints as ck
import numpy as np
import pytest

from flanx.cli.main import main
from flanx.errors import UserError
from flanx.interop import convert, open_checkpoint, safetensors_file, strips
from flanx.interop.request import Request, prepare
from flanx.interop.to_flanx import FlanxTarget
from flanx.interop.to_hf import HfTarget

FIXTURES = Path(__file__).parent / "fixtures"
TINY = FIXTURES / "untied-gated-gelu"
BASE = "pkg://flanx.tasks/playground_parts/base"


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    """A folder in shards that a test may spoil."""
    source = open_checkpoint(str(TINY))
    return ck.write(
        lambda folder: HfTarget(source, source.config, folder, shard_bytes=9000),
        source,
        tmp_path / "hf",
    )


def settings(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def failed(*argv: str, capsys) -> str:
    """The one line of a command that the user got wrong."""
    assert main(["convert", *map(str, argv)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    return lines[-1]


def test_round_trip_through_every_form(tmp_path: Path):
    """flanx, flanx stacked, T5X, T5X scanned and Hugging Face, each from each other, in both dtypes, bit for bit."""
    for dtype in ("float32", ck.BFLOAT16):
        arrays = ck.random_arrays(ck.FACTORED, dtype)
        slots = ck.random_slots(arrays)
        start = tmp_path / np.dtype(dtype).name
        source = ck.in_memory(ck.FACTORED, arrays, slots)
        folder = ck.write(flanx_target(source), source, start / "0")
        steps = (("t5x", False), ("flanx", True), ("t5x", True), ("flanx", False), ("t5x", False))
        for number, (form, scanned) in enumerate(steps, 1):
            folder = ck.converted(folder, start / str(number), form, scanned=scanned)
            ck.same(folder, arrays, slots)
        for number, (form, scanned) in enumerate((("hf", False), *steps), 10):
            folder = ck.converted(folder, start / str(number), form, scanned=scanned)
            found = open_checkpoint(str(folder))
            for name in arrays:
                ck.equal(found.read(name), arrays[name], name)


def flanx_target(source):
    """Of a source in memory, `write`'s first argument."""
    return lambda folder: FlanxTarget(source, source.config, folder)


def test_dtype(tmp_path: Path):
    arrays = ck.random_arrays(ck.NARROW)
    source = ck.in_memory(ck.NARROW, arrays, ck.random_slots(arrays))
    first = ck.write(flanx_target(source), source, tmp_path / "a")
    half = ck.converted(first, tmp_path / "b", "t5x", dtype="bfloat16")
    full = ck.converted(half, tmp_path / "c", "flanx", dtype="float32")
    rounded = {name: array.astype(ck.BFLOAT16) for name, array in arrays.items()}
    ck.same(half, rounded, ck.random_slots(arrays))
    ck.same(full, {n: a.astype(np.float32) for n, a in rounded.items()}, ck.random_slots(arrays))


def test_command(tmp_path: Path, capsys):
    out = tmp_path / "made" / "hf"
    assert main(["convert", BASE, str(out), "--to", "hf"]) == 0
    told = capsys.readouterr()
    assert f"{out}: 60 arrays, 2.2 MB, 1,108,224 parameters" in told.out
    assert sorted(os.listdir(out.parent)) == ["hf"]
    back = tmp_path / "flanx"
    lengths = ["--inputs_length=64", "--targets_length=32"]
    assert main(["convert", str(out), str(back), "--to", "flanx", *lengths]) == 0
    facts = json.loads((back / "flanx.json").read_text())
    assert facts["feature_lengths"] == {"inputs": 64, "targets": 32}
    assert facts["vocabulary"]["size"] == 1216
    assert (back / "vocabulary.model").is_file()
    ours, theirs = open_checkpoint(BASE), open_checkpoint(str(back))
    for name in ours.params:
        ck.equal(theirs.read(name), ours.read(name), name)
    assert replace(theirs.config, dtype="float32") == ours.config


def test_dry_run_writes_nothing(tmp_path: Path, capsys):
    assert (
        main(["convert", str(TINY), str(tmp_path / "x"), "--to", "t5x", "--scanned", "--dry_run"])
        == 0
    )
    told = capsys.readouterr().out
    assert "target/decoder/decoder/mlp/wi_0/kernel" in told
    assert "(16, 2, 24)" in told
    assert "nothing was written" in told
    assert not list(tmp_path.iterdir())


def test_gin_names_what_arrays_cannot_tell(tmp_path: Path, capsys):
    relu = ck.converted(FIXTURES / "untied-relu", tmp_path / "t5x", "t5x")
    gin = tmp_path / "model.gin"
    gin.write_text(
        "from __gin__ import dynamic_registration\nfrom flanx.models.t5 import config as t5\n"
        "t5.T5Config.emb_dim = 16\nt5.T5Config.num_heads = 2\nt5.T5Config.head_dim = 4\nt5.T5Config.mlp_dim = 24\n"
        "t5.T5Config.num_encoder_layers = 1\nt5.T5Config.num_decoder_layers = 2\nt5.T5Config.vocab_size = 48\n"
        't5.T5Config.mlp_activations = ("gelu",)\n'
    )
    out = tmp_path / "hf"
    assert main(["convert", str(relu), str(out), "--to", "hf", f"--gin_file={gin}"]) == 0
    assert json.loads((out / "config.json").read_text())["feed_forward_proj"] == "gelu_new"
    assert "assumed" not in capsys.readouterr().err
    gin.write_text(gin.read_text().replace("mlp_dim = 24", "mlp_dim = 32"))
    told = failed(relu, tmp_path / "no", "--to", "hf", f"--gin_file={gin}", capsys=capsys)
    assert "'decoder/layers_{0,1}/mlp/wi/kernel' (16, 24) where (16, 32) belongs" in told
    assert "'encoder/layers_0/mlp/wo/kernel' (24, 16) where (32, 16) belongs" in told


def test_destination_that_holds_something(tmp_path: Path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("dear me")
    assert "is not empty" in failed(TINY, out, "--to", "hf", capsys=capsys)
    assert "other things" in failed(TINY, out, "--to", "hf", "--overwrite", capsys=capsys)
    assert (out / "diary.txt").read_text() == "dear me"
    beneath = out / "diary.txt" / "x" / "y"
    assert f"{beneath.parent} cannot be written" in failed(
        TINY, beneath, "--to", "hf", capsys=capsys
    )
    for name in ("config.json", "state", "checkpoints/3/params", "checkpoint_3"):
        (out / name).mkdir(parents=True)
        assert "other things" in failed(TINY, out, "--to", "hf", "--overwrite", capsys=capsys)
    assert (out / "diary.txt").read_text() == "dear me"
    ck.converted(TINY, tmp_path / "first", "t5x")
    assert main(["convert", str(TINY), str(tmp_path / "first"), "--to", "hf", "--overwrite"]) == 0
    assert open_checkpoint(str(tmp_path / "first")).form == "hf"
    assert "lie in each other" in failed(
        tmp_path / "first", tmp_path / "first" / "inside", "--to", "t5x", capsys=capsys
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "out"]


def test_a_kill_is_cleared_away(tmp_path: Path, monkeypatch):
    """What a killed conversion left is not a checkpoint, and the next one starts anew; a replaced folder comes back."""
    out = tmp_path / "out"
    left = tmp_path / ".out.converting"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"part")
    old = ck.converted(TINY, tmp_path / "old", "t5x")
    old.rename(tmp_path / ".out.replaced")
    with convert.opened(out, overwrite=True):
        assert open_checkpoint(str(out)).form == "t5x"
        assert not any(left.iterdir())
    ck.converted(TINY, tmp_path / "new", "hf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "out"]


def test_one_writer_at_a_time(tmp_path: Path):
    with (tmp_path / ".out.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with (
            pytest.raises(UserError, match="another flanx convert"),
            convert.opened(tmp_path / "out", overwrite=False),
        ):
            pass


def test_a_full_disk(tmp_path: Path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(strips.os, "pwrite", full)
        patch.setattr(strips.os, "copy_file_range", full)
        for form in ("hf", "t5x", "flanx"):
            assert main(["convert", str(TINY), str(tmp_path / "out"), "--to", form]) == 1
            assert "the disk is full" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert "make room" in failed(TINY, tmp_path / "out", "--to", "hf", capsys=capsys)


def test_bytes_are_copied_or_read_and_written(tmp_path: Path, monkeypatch):
    """Where the kernel cannot copy between two file systems, the result is the same."""
    copied = []
    inside = os.copy_file_range

    def counted(*args):
        copied.append(args)
        return inside(*args)

    def apart(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    arrays = ck.random_arrays(ck.NARROW, ck.BFLOAT16)
    source = ck.in_memory(ck.NARROW, arrays)
    hf = ck.write(lambda f: HfTarget(source, ck.NARROW, f), source, tmp_path / "hf")
    for number, way in enumerate((counted, apart)):
        monkeypatch.setattr(strips.os, "copy_file_range", way)
        t5x = ck.converted(hf, tmp_path / f"t5x{number}", "t5x")
        back = ck.converted(t5x, tmp_path / f"hf{number}", "hf")
        for name in hf.iterdir():
            assert (back / name.name).read_bytes() == name.read_bytes()
    assert len(copied) == 2 * len(arrays)
    found = open_checkpoint(str(t5x))
    for name in arrays:
        ck.equal(found.read(name), arrays[name], name)


def test_damage_found_while_converting_leaves_nothing(tmp_path: Path, capsys):
    t5x = ck.converted(TINY, tmp_path / "t5x", "t5x")
    chunk = t5x / "checkpoint_0" / "target.encoder.layers_0.mlp.wo.kernel" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:-2])
    told = failed(t5x, tmp_path / "out", "--to", "hf", capsys=capsys)
    assert f"array 'target/encoder/layers_0/mlp/wo/kernel': {chunk} has" in told
    chunk.unlink()
    told = failed(t5x, tmp_path / "out", "--to", "hf", capsys=capsys)
    assert f"array 'target/encoder/layers_0/mlp/wo/kernel': {chunk} is missing" in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t5x"]


def test_no_checkpoint(tmp_path: Path, capsys):
    (tmp_path / "notes.txt").write_text("")
    told = failed(tmp_path, tmp_path / "out", "--to", "hf", capsys=capsys)
    assert "holds no checkpoint (it has notes.txt)" in told
    assert "is a file" in failed(
        tmp_path / "notes.txt", tmp_path / "out", "--to", "hf", capsys=capsys
    )
    assert "no such file" in failed(
        tmp_path / "gone", tmp_path / "out", "--to", "hf", capsys=capsys
    )
    (tmp_path / "checkpoint_3").mkdir()
    told = failed(tmp_path, tmp_path / "out", "--to", "hf", capsys=capsys)
    assert "checkpoint_3 has neither 'checkpoint' nor 'state'" in told


def test_pickles_are_refused(tmp_path: Path, capsys):
    shutil.copy(TINY / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    told = failed(tmp_path, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert "pytorch_model.bin is a pickle" in told
    assert "safetensors" in told


def test_truncated_and_missing_shards(hf: Path, tmp_path: Path, capsys):
    shards = sorted(hf.glob("model-*.safetensors"))
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-3])
    told = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    last = list(safetensors_header(content))[-1]
    assert f"array '{last}' in {shards[1]}" in told
    assert "truncated" in told
    shards[1].write_bytes(content[:5])
    assert f"{shards[1]} is no whole safetensors file" in failed(
        hf, tmp_path / "out", "--to", "flanx", capsys=capsys
    )
    shards[1].unlink()
    assert f"{shards[1]} is missing" in failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)


def safetensors_header(content: bytes) -> dict:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])


def test_index_of_another_checkpoint(hf: Path, tmp_path: Path, capsys):
    index = hf / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    files = sorted(set(content["weight_map"].values()))
    content["weight_map"]["encoder.block.9.layer.0.layer_norm.weight"] = files[0]
    index.write_text(json.dumps(content))
    told = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert "places 'encoder.block.9.layer.0.layer_norm.weight'" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vocab_size": 50}, "'token_embedder/embedding' (48, 16) where (50, 16) belongs"),
        (
            {"num_heads": 4, "d_kv": 2},
            "'encoder/relpos_bias/rel_embedding' (2, 32) where (4, 32) belongs",
        ),
        ({"num_decoder_layers": 3}, "missing 'decoder/layers_2/mlp/wi_0/kernel' (16, 24)"),
        ({"num_decoder_layers": 1}, "unknown 'decoder/layers_1/mlp/wi_0/kernel' (16, 24)"),
        ({"feed_forward_proj": "relu"}, "missing 'encoder/layers_0/mlp/wi/kernel' (16, 24)"),
        ({"feed_forward_proj": "gated-gelu_fast"}, "feed_forward_proj 'gated-gelu_fast' (dense"),
        ({"dense_act_fn": "gelu"}, "dense_act_fn 'gelu'"),
        ({"pad_token_id": 3}, "pad_token_id is 3"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder is False"),
        ({"num_layers": 1_000_000}, "1,000,000 layers, and there are"),
        ({"dtype": "int8"}, "dtype is int8"),
        ({"model_type": "bart"}, "model of type 'bart'"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05"),
        ({"scale_decoder_outputs": True}, "array 'lm_head.weight'"),
        ({"d_ff": "wide"}, "config.json: T5Config.mlp_dim is 'wide'"),
        ({"dropout_rate": None}, "config.json: T5Config.dropout_rate is None"),
        ({"feed_forward_proj": ["relu"]}, "feed_forward_proj '['relu']' is not one of"),
    ],
)
def test_config_that_disagrees_with_the_arrays(
    changes, told: str, hf: Path, tmp_path: Path, capsys
):
    settings(hf, **changes)
    line = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert told in line
    assert str(hf) in line


def test_another_model_is_named_by_its_type(hf: Path, tmp_path: Path, capsys):
    """Not by its arrays, which are all unknown."""
    settings(hf, model_type="bart")
    index = hf / "model.safetensors.index.json"
    shard = hf / "other.safetensors"
    info = open_checkpoint(str(TINY)).params["encoder/encoder_norm/scale"]
    shard.write_bytes(safetensors_file.header_bytes({"model.fc1.bias": info}) + bytes(32))
    index.write_text(json.dumps({"weight_map": {"model.fc1.bias": shard.name}}))
    told = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert "config.json is of a model of type 'bart'" in told


@pytest.mark.parametrize("content", [{}, {"weight_map": 3}, {"weight_map": {"a": None}}])
def test_an_index_that_is_none(content, hf: Path, tmp_path: Path, capsys):
    index = hf / "model.safetensors.index.json"
    index.write_text(json.dumps(content))
    told = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert f"{index} does not say which file has which array" in told


def test_a_number_of_sentinels_that_is_none(hf: Path, tmp_path: Path, capsys):
    (hf / "spiece.model").write_bytes(b"")
    (hf / "tokenizer_config.json").write_text('{"extra_ids": "many"}')
    told = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert "tokenizer_config.json: extra_ids is 'many', no number" in told


def test_unknown_layer_name(tmp_path: Path, capsys):
    source = open_checkpoint(str(TINY))
    hf = ck.converted(TINY, tmp_path / "hf", "hf")
    infos = {
        "encoder.block.0.layer.0.SelfAttention.q.bias": source.params["encoder/encoder_norm/scale"]
    }
    (hf / "extra.safetensors").write_bytes(safetensors_file.header_bytes(infos) + bytes(32))
    names = {
        **dict.fromkeys(
            safetensors_header((hf / "model.safetensors").read_bytes()), "model.safetensors"
        )
    }
    names.pop("__metadata__")
    names |= dict.fromkeys(infos, "extra.safetensors")
    (hf / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    told = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert (
        f"{hf} holds arrays that T5 does not have: encoder.block.0.layer.0.SelfAttention.q.bias"
        in told
    )


def test_vocabulary_of_another_size(hf: Path, tmp_path: Path, capsys):
    from flanx import resources

    model = resources.resolve("pkg://flanx.tasks/playground_parts/vocabulary.model")
    told = failed(hf, tmp_path / "out", "--to", "flanx", f"--vocabulary={model}", capsys=capsys)
    assert "has 1216 ids, and array 'token_embedder/embedding'" in told
    shutil.copy(model, hf / "spiece.model")
    told = failed(hf, tmp_path / "out", "--to", "flanx", capsys=capsys)
    assert "has 48 rows, and the vocabulary" in told
    assert f"{hf / 'spiece.model'} has 1216 ids" in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--to", "onnx"], "--to onnx: give one of"),
        (["--to", "hf", "--dtype=int8"], "--dtype int8"),
        (["--to", "hf", "--scanned"], "--scanned"),
        (["--to", "hf", "--compress"], "--compress"),
        (["--to", "t5x", "--inputs_length=4"], "are for --to flanx"),
        (["--to", "t5x", "--vocabulary=bytes"], "T5X's checkpoints have no place for one"),
        (["--to", "flanx", "--inputs_length=0"], "at least 1"),
    ],
)
def test_flags_that_do_not_go_together(flags, told: str, tmp_path: Path, capsys):
    assert told in failed(TINY, tmp_path / "out", *flags, capsys=capsys)


def test_memory_of_a_job_is_one_array_in_and_one_out():
    """Stacked sources are read once, whatever number of arrays they give; the cost counts both ends."""
    from flanx.interop import planned
    from flanx.interop.to_t5x import T5xTarget

    arrays = ck.random_arrays(ck.NARROW)
    source = ck.in_memory(ck.NARROW, arrays)
    target = T5xTarget(source, Path("x"), Path("x"), scanned=True)
    jobs = planned.jobs(source, target.arrays)
    assert sorted(p.name for job in jobs for p in job) == sorted(p.name for p in target.arrays)
    largest = max(a.nbytes for a in arrays.values())
    stack = max(p.info.nbytes for p in target.arrays)
    assert max(planned.cost(source, job) for job in jobs) <= largest + stack


def test_prepare_says_what_is_left_out(tmp_path: Path):
    arrays = ck.random_arrays(ck.NARROW)
    source = ck.in_memory(ck.NARROW, arrays, ck.random_slots(arrays))
    flanx = ck.write(flanx_target(source), source, tmp_path / "a")
    notes = prepare(Request(str(flanx), tmp_path / "hf", "hf")).notes
    assert any("optimizer state is left out" in note for note in notes)
    assert any("--vocabulary" in note for note in notes)


def test_state_of_another_optimizer_is_told_to_be_left_out(tmp_path: Path):
    arrays = ck.random_arrays(ck.NARROW)
    slots = ck.random_slots(arrays)
    norm = "encoder/encoder_norm/scale/v"
    slots[norm] = np.zeros(3, np.float32)  # of no shape that Adafactor gives it
    source = ck.in_memory(ck.NARROW, arrays, slots)
    flanx = ck.write(flanx_target(source), source, tmp_path / "a")
    (note,) = (
        n for n in prepare(Request(str(flanx), tmp_path / "b", "t5x")).notes if "no slots" in n
    )
    assert note.startswith("left out of its optimizer state")
    assert note.endswith(f"train/opt_state/v/{norm.removesuffix('/v')}")
