"""Hugging Face's folders: logits against those that transformers computed, and what transformers reads of ours."""

import json
import shutil
from pathlib import Path

import checkpoints as ck
import numpy as np
import pytest

from flanx.errors import UserError
from flanx.interop import open_checkpoint
from flanx.interop.to_hf import HfTarget

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = ("tied-relu", "tied-gated-gelu", "untied-relu", "untied-gated-gelu")


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path):
    expected = dict(np.load(FIXTURES / name / "expected.npz"))
    source = open_checkpoint(str(FIXTURES / name))
    assert source.config.logits_via_embedding == name.startswith("tied")
    assert source.config.mlp_activations == (("relu",) if "relu" in name else ("gelu", "linear"))
    real = expected["targets"] > 0
    for logits_of in (ck.logits_of, ck.packed_logits_of):
        logits = logits_of(source, expected["inputs"], expected["targets"])
        np.testing.assert_allclose(logits[real], expected["logits"][real], rtol=0, atol=1e-4)
    # And the same arrays once they went through every form.
    flanx = ck.converted(FIXTURES / name, tmp_path / "flanx", "flanx", scanned=True)
    t5x = ck.converted(flanx, tmp_path / "t5x", "t5x", config=source.config)
    hf = ck.converted(t5x, tmp_path / "hf", "hf", config=source.config)
    assert (hf / "model.safetensors").read_bytes() == ck.converted(
        FIXTURES / name, tmp_path / "again", "hf"
    ).joinpath("model.safetensors").read_bytes()
    ck.same(hf, {n: source.read(n) for n in source.params}, {})
    assert open_checkpoint(str(hf)).config == source.config


def test_the_oracle_of_transformers(shared_oracles: Path):
    folder = shared_oracles / "hf_tiny"
    expected = dict(np.load(folder / "expected.npz"))
    source = open_checkpoint(str(folder))
    inputs = np.where(expected["encoder_mask"] > 0, expected["encoder_input_ids"], 0).astype(
        np.int32
    )
    shifted = expected["decoder_input_ids"].astype(np.int32)
    real = expected["decoder_mask"] > 0
    ones = (expected["encoder_mask"].astype(np.int32), np.ones_like(shifted))
    logits = ck.forward(source.config)(
        ck.params_of(source), inputs, shifted, np.ones_like(shifted), *ones
    )
    np.testing.assert_allclose(
        np.asarray(logits)[real], expected["logits"][real], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_transformers_reads_what_flanx_writes(name: str, tmp_path: Path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    expected = dict(np.load(FIXTURES / name / "expected.npz"))
    config = open_checkpoint(str(FIXTURES / name)).config
    arrays = ck.random_arrays(config, seed=5)
    source = ck.in_memory(config, arrays)
    ck.write(
        lambda folder: HfTarget(source, config, folder, shard_bytes=9000), source, tmp_path / "hf"
    )
    assert len(list((tmp_path / "hf").glob("model-*-of-*.safetensors"))) > 2
    model, told = transformers.T5ForConditionalGeneration.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    inputs, targets = expected["inputs"], expected["targets"]
    with torch.no_grad():
        logits = model.eval()(
            input_ids=torch.tensor(inputs, dtype=torch.long),
            attention_mask=torch.tensor(inputs > 0, dtype=torch.long),
            decoder_input_ids=torch.tensor(
                np.pad(targets, ((0, 0), (1, 0)))[:, :-1], dtype=torch.long
            ),
        ).logits.numpy()
    real = targets > 0
    ours = open_checkpoint(str(tmp_path / "hf"))
    for logits_of in (ck.logits_of, ck.packed_logits_of):
        np.testing.assert_allclose(
            logits_of(ours, inputs, targets)[real], logits[real], rtol=0, atol=1e-4
        )
    ck.same(tmp_path / "hf", arrays, {})


def test_the_tokenizer_is_flanx_own(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    from flanx import resources
    from flanx.data import vocabulary

    base = resources.resolve("pkg://flanx.tasks/playground_parts/base")
    hf = ck.converted(Path(base), tmp_path / "hf", "hf")
    ours = vocabulary.load("pkg://flanx.tasks/playground_parts/vocabulary.model")
    theirs = transformers.AutoTokenizer.from_pretrained(hf)
    text = "Find the animal that comes last: <extra_id_0> rabbit <extra_id_99>"
    assert theirs(text).input_ids == [*ours.encode(text), ours.eos_id]
    assert len(theirs) == ours.size
    back = open_checkpoint(str(hf))
    assert back.vocabulary["fingerprint"] == ours.fingerprint
    assert back.vocabulary_file == hf / "spiece.model"


def test_safetensors_library_reads_and_writes_the_same(tmp_path: Path):
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = ck.random_arrays(ck.NARROW)
    source = ck.in_memory(ck.NARROW, arrays)
    ck.write(lambda folder: HfTarget(source, ck.NARROW, folder), source, tmp_path / "hf")
    read = numpy.load_file(tmp_path / "hf" / "model.safetensors")
    assert len(read) == len(arrays)
    np.testing.assert_array_equal(
        read["decoder.block.2.layer.1.EncDecAttention.o.weight"],
        arrays["decoder/layers_2/encoder_decoder_attention/out/kernel"].T,
    )
    numpy.save_file(read, tmp_path / "hf" / "model.safetensors")
    ck.same(tmp_path / "hf", arrays, {})


def test_an_untied_head_that_is_not_there_is_the_embedding(tmp_path: Path):
    """transformers 5 drops lm_head.weight where it is tied, and scales logits only where told to."""
    hf = ck.converted(FIXTURES / "tied-relu", tmp_path / "hf", "hf")
    settings = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps({**settings, "scale_decoder_outputs": False}))
    source = open_checkpoint(str(hf))
    assert not source.config.logits_via_embedding
    head, table = (
        source.read("decoder/logits_dense/kernel"),
        source.read("token_embedder/embedding"),
    )
    np.testing.assert_array_equal(head, table.T)
    assert "copy of the embedding" in source.notes[0]


@pytest.mark.parametrize("name", ["tied-mt5", "untied-mt5", "tied-umt5"])
def test_other_families_of_t5_as_transformers_has_them(name: str, tmp_path: Path):
    """mT5's logits are never scaled; umT5 has a bias for each layer; each stays what it was, through flanx and back."""
    expected = dict(np.load(FIXTURES / name / "expected.npz"))
    source = open_checkpoint(str(FIXTURES / name))
    assert source.config.logits_via_embedding == (name == "tied-umt5")
    real = expected["targets"] > 0
    logits = ck.logits_of(source, expected["inputs"], expected["targets"])
    np.testing.assert_allclose(logits[real], expected["logits"][real], rtol=0, atol=1e-4)
    flanx = ck.converted(FIXTURES / name, tmp_path / "flanx", "flanx", scanned=True)
    hf = ck.converted(flanx, tmp_path / "hf", "hf")
    told = json.loads((hf / "config.json").read_text())
    assert told["model_type"] == name.partition("-")[2]
    ck.same(hf, {n: source.read(n) for n in source.params}, {})
    assert open_checkpoint(str(hf)).config == source.config


def rewritten(folder: Path, to: Path, change) -> Path:
    """A copy of a folder with its arrays changed by `change(arrays)`."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder, to)
    arrays = load_file(to / "model.safetensors")
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    change(arrays)
    save_file(arrays, to / "model.safetensors")
    return to


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_another_table_of_embeddings_is_refused(name: str, tmp_path: Path):
    def change(arrays):
        arrays[name] = arrays["shared.weight"].copy()

    same = rewritten(FIXTURES / "untied-gated-gelu", tmp_path / "same", change)
    assert open_checkpoint(str(same)).config.vocab_size == 48

    def spoil(arrays):
        change(arrays)
        arrays[name][3, 5] += 1

    with pytest.raises(UserError, match=f"array '{name}'"):
        open_checkpoint(str(rewritten(FIXTURES / "untied-gated-gelu", tmp_path / "x", spoil)))


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_the_table_of_embeddings_under_another_name(name: str, tmp_path: Path):
    def change(arrays):
        arrays[name] = arrays.pop("shared.weight")

    found = open_checkpoint(str(rewritten(FIXTURES / "untied-relu", tmp_path / "x", change)))
    wanted = open_checkpoint(str(FIXTURES / "untied-relu")).read("token_embedder/embedding")
    np.testing.assert_array_equal(found.read("token_embedder/embedding"), wanted.astype(np.float32))


@pytest.mark.parametrize(
    ("told", "dtype"),
    [({"dtype": "float32"}, "float32"), ({"torch_dtype": "bfloat16", "dtype": None}, "bfloat16")],
)
def test_the_dtype_of_config_json_is_followed(told: dict, dtype: str, tmp_path: Path):
    folder = shutil.copytree(FIXTURES / "untied-relu", tmp_path / "x")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **told}))
    assert open_checkpoint(str(folder)).config.dtype == dtype


def spoiled_header(folder: Path, change) -> None:
    """Rewrites the header of a safetensors file."""
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = change(content[8 : 8 + length].decode()).encode()
    whole = len(text).to_bytes(8, "little") + text + content[8 + length :]
    (folder / "model.safetensors").write_bytes(whole)


def shifted(by: int):
    def change(text: str) -> str:
        header = json.loads(text)
        entry = header["shared.weight"]
        entry["data_offsets"] = [n + by for n in entry["data_offsets"]]
        return json.dumps(header)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (shifted(-64), "array '"),
        (shifted(-(10**6)), "array 'shared.weight'"),
        (lambda text: '{"shared.weight":{},' + text[1:], "'shared.weight' is in it"),
        (lambda text: '{"a":' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
    ],
)
def test_a_header_that_does_not_tile_the_file(change, told: str, tmp_path: Path):
    folder = shutil.copytree(FIXTURES / "untied-relu", tmp_path / "x")
    spoiled_header(folder, change)
    with pytest.raises(UserError, match=told) as caught:
        open_checkpoint(str(folder))
    assert "model.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_config_nested_too_deeply(tmp_path: Path):
    folder = shutil.copytree(FIXTURES / "untied-relu", tmp_path / "x")
    (folder / "config.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match="nested too deeply"):
        open_checkpoint(str(folder))


def test_more_sentinels_than_the_model_has_ids(tmp_path: Path):
    folder = shutil.copytree(FIXTURES / "untied-relu", tmp_path / "x")
    (folder / "spiece.model").write_bytes(b"")
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 100000000}')
    with pytest.raises(UserError, match="extra_ids is 100,000,000, and the model has 48 ids"):
        open_checkpoint(str(folder))
