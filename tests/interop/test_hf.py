"""Hugging Face's folders: logits against those that transformers computed, and what transformers reads of ours."""

import json
from pathlib import Path

import checkpoints as ck
import numpy as np
import pytest

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
