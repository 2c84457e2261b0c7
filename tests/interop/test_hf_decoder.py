"""Decoders in Hugging Face's folders: the numbers of transformers, there and back through every form, and refusals."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import checkpoints as ck
import jax
import numpy as np
import pytest

from flanx.errors import UserError
from flanx.interop import open_checkpoint
from flanx.interop.hf import MODEL_TYPES, decoder_settings, of_config
from flanx.interop.to_hf import HfTarget
from flanx.models.decoder.config import DecoderConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
import decoders as dc

FIXTURES = Path(__file__).parent / "fixtures"
KINDS = decoder_settings.MODEL_TYPES
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def folder_of(kind: str) -> Path:
    return FIXTURES / f"decoder-{kind}"


def as_float32(source):
    return replace(source.config, dtype="float32"), ck.params_of(source)


def test_every_decoder_has_a_fixture():
    assert {n for n, family in MODEL_TYPES.items() if family == "decoder"} == {*KINDS, "gemma3"}
    assert all(folder_of(kind).is_dir() for kind in KINDS)


@every_kind
def test_logits_are_those_of_transformers(kind: str):
    expected = dict(np.load(folder_of(kind) / "expected.npz"))
    tokens, logits = expected["tokens"], expected["logits"]
    config, params = as_float32(open_checkpoint(str(folder_of(kind))))
    # Three rows padded at the end, which a model does not see; and a fourth with three examples in it.
    lengths = (12, 7, 9)
    rows = [dc.packed([row], 32) for row in tokens]
    rows.append(dc.packed([row[:n] for row, n in zip(tokens, lengths, strict=True)], 32))
    batch = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    options = {"decoder_segment_ids": batch["segments"], "decoder_positions": batch["positions"]}
    found = dc.forward(config, params, batch["tokens"], batch["tokens"], **options)
    np.testing.assert_allclose(found[:3, :12], logits, rtol=0, atol=1e-4)
    for example, (start, length) in enumerate(zip((0, 12, 19), lengths, strict=True)):
        packed = found[3, start : start + length]
        np.testing.assert_allclose(packed, logits[example, :length], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in ("llama", "gemma3_text") else pytest.mark.nightly)
        for kind in KINDS
    ],
)
def test_greedy_tokens_are_those_of_transformers(kind: str):
    expected = dict(np.load(folder_of(kind) / "expected.npz"))
    config, params = as_float32(open_checkpoint(str(folder_of(kind))))
    prompts, greedy = expected["prompts"], expected["greedy"]
    rows, width = prompts.shape
    logits = dc.steps(config, params, np.pad(prompts, ((0, 0), (0, 2))), [width] * rows, greedy)
    np.testing.assert_array_equal(logits.argmax(axis=-1), greedy)


@every_kind
def test_there_and_back_through_flanx_and_hf(kind: str, tmp_path: Path):
    source = open_checkpoint(str(folder_of(kind)))
    assert source.config.num_parameters() == sum(
        int(np.prod(i.shape)) for i in source.params.values()
    )
    flanx = ck.converted(folder_of(kind), tmp_path / "flanx", "flanx", scanned=True)
    hf = ck.converted(flanx, tmp_path / "hf", "hf")
    again = ck.converted(folder_of(kind), tmp_path / "again", "hf")
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (hf / name).read_bytes() == (again / name).read_bytes()
    ck.same(hf, {name: source.read(name) for name in source.params}, {})
    back = open_checkpoint(str(hf))
    assert (back.config, back.model_type, back.kept) == (source.config, kind, source.kept)
    theirs, ours = (json.loads((f / "config.json").read_text()) for f in (folder_of(kind), hf))
    shared = set(theirs) & set(ours) - {"torch_dtype"}
    assert {n: ours[n] for n in shared} == {n: theirs[n] for n in shared}
    assert json.loads((hf / "generation_config.json").read_text())["eos_token_id"] == 1
    stored = {n: a.read() for n, a in back.stored.items()}
    for name, array in open_checkpoint(str(folder_of(kind))).stored.items():
        ck.equal(stored[name], array.read(), name)


@every_kind
def test_transformers_reads_what_flanx_writes(kind: str, tmp_path: Path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import make_decoder_fixtures as make

    model = make.made(kind, seed=50)
    model.save_pretrained(tmp_path / "theirs")
    hf = ck.converted(tmp_path / "theirs", tmp_path / "hf", "hf")
    tokens = np.random.default_rng(50).integers(0, 64, (2, 40))
    logits = make.logits_of(model, tokens)
    read, told = transformers.AutoModelForCausalLM.from_pretrained(
        hf, output_loading_info=True, attn_implementation="eager", dtype="float32"
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    np.testing.assert_array_equal(make.logits_of(read.eval(), tokens), logits)
    config, params = as_float32(open_checkpoint(str(hf)))
    found = dc.forward(config, params, tokens.astype(np.int32))
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-4)


def rewritten(kind: str, to: Path, **changes) -> Path:
    """A fixture with other settings in config.json; `...` removes one."""
    folder = shutil.copytree(folder_of(kind), to)
    settings = {**json.loads((folder / "config.json").read_text()), **changes}
    settings = {name: value for name, value in settings.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("llama", "model_type", "mamba"),
        ("llama", "hidden_act", "gelu"),
        ("llama", "attention_bias", True),
        ("llama", "mlp_bias", True),
        ("llama", "quantization_config", {"bits": 4}),
        ("llama", "partial_rotary_factor", 0.5),
        ("llama", "rope_parameters", {"rope_type": "dynamic", "factor": 2.0}),
        ("llama", "rope_parameters", {"rope_type": "llama3", "factor": 2.0}),
        ("llama", "rope_parameters", {"rope_type": "linear", "factor": 2.0, "twist": 1}),
        ("llama", "rope_parameters", {"full_attention": {"rope_type": "default"}}),
        ("gemma", "use_bidirectional_attention", True),
        ("gemma2", "layer_types", ["chunked_attention"] * 3),
        ("gemma2", "layer_types", ["full_attention"]),
        ("gemma2", "sliding_window", None),
        ("gemma2", "query_pre_attn_scalar", "many"),
        ("gemma3_text", "attn_logit_softcapping", 50.0),
        ("gemma3_text", "rope_parameters", {"rope_type": "default"}),
        ("mistral", "sliding_window", 0),
        ("qwen3", "head_dim", "wide"),
        ("olmo2", "num_key_value_heads", 3),
    ],
)
def test_a_setting_that_is_not_followed_is_named(kind, setting, value, tmp_path: Path):
    folder = rewritten(kind, tmp_path / "x", **{setting: value})
    wanted = {"quantization_config": "quantization_config", "sliding_window": "window"}
    wanted |= {"model_type": "mamba.*llama", "num_key_value_heads": "kv_heads"}
    wanted |= {"rope_parameters": "rope_", "query_pre_attn_scalar": "config.json"}
    with pytest.raises(UserError, match=wanted.get(setting, setting)) as caught:
        open_checkpoint(str(folder))
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_hidden_layers": 4}, "layers_3"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers"),
        ({"num_hidden_layers": 2}, "layers_2"),
        ({"intermediate_size": 48}, "mlp"),
        ({"num_key_value_heads": 4}, "self_attention/key"),
        ({"tie_word_embeddings": True}, "lm_head.weight"),
        ({"model_type": "qwen2"}, "query/bias"),
        ({"model_type": "gemma2"}, "pre_feedforward|post_mlp"),
    ],
)
def test_arrays_that_disagree_with_config_json(changes, named, tmp_path: Path):
    folder = rewritten("llama", tmp_path / "x", **changes)
    with pytest.raises(UserError, match=named) as caught:
        open_checkpoint(str(folder))
    assert "config.json" in str(caught.value)


def test_settings_of_older_files_and_of_classes_say_the_same(tmp_path: Path):
    def config_of(kind, name, **changes):
        return open_checkpoint(str(rewritten(kind, tmp_path / name, **changes))).config

    llama = open_checkpoint(str(folder_of("llama"))).config
    told = json.loads((folder_of("llama") / "config.json").read_text())["rope_parameters"]
    older = {**told, "type": told["rope_type"]}
    theta = older.pop("rope_theta")
    del older["rope_type"]
    assert llama.rope_scaling == "llama3" and llama.rope_theta == 5e5
    assert llama == config_of(
        "llama", "a", rope_parameters=..., rope_scaling=older, rope_theta=theta, dtype=...
    )
    gemma = open_checkpoint(str(folder_of("gemma3_text"))).config
    assert (gemma.rope_local_theta, gemma.rope_theta, gemma.rope_factor) == (1e4, 1e6, 8.0)
    assert gemma.window_pattern == ("local", "local", "global")
    older = {"rope_parameters": ..., "rope_local_base_freq": 1e4, "layer_types": ...}
    older |= {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    older |= {"sliding_window_pattern": 3, "_sliding_window_pattern": ...}
    assert config_of("gemma3_text", "b", **older) == gemma
    assert config_of("gemma", "c", hidden_act="gelu") == config_of("gemma", "d")
    assert config_of("mistral", "e", sliding_window=None).window is None
    assert config_of("mistral", "f", sliding_window=...).window == 4096
    qwen = open_checkpoint(str(folder_of("qwen2"))).config
    assert (qwen.window, qwen.window_pattern) == (5, ("global", "local", "local"))
    assert config_of("qwen2", "g", layer_types=...) == qwen
    assert config_of("qwen2", "h", layer_types=..., use_sliding_window=False).window is None


def test_the_text_of_a_gemma_with_images(tmp_path: Path):
    from safetensors.numpy import load_file, save_file

    text = json.loads((folder_of("gemma3_text") / "config.json").read_text())
    shutil.copytree(folder_of("gemma3_text"), tmp_path / "x")
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}}
    (tmp_path / "x/config.json").write_text(json.dumps(whole))
    arrays = load_file(tmp_path / "x/model.safetensors")
    arrays = {f"language_model.{name}": array for name, array in arrays.items()}
    arrays["vision_tower.x.weight"] = np.zeros((2, 2), np.float32)
    save_file(arrays, tmp_path / "x/model.safetensors")
    source = open_checkpoint(str(tmp_path / "x"))
    assert source.config == open_checkpoint(str(folder_of("gemma3_text"))).config
    assert "1 array" in " ".join(source.notes)
    hf = ck.converted(tmp_path / "x", tmp_path / "hf", "hf")
    want = folder_of("gemma3_text") / "model.safetensors"
    assert {n: a.tobytes() for n, a in load_file(hf / "model.safetensors").items()} == {
        n: a.tobytes() for n, a in load_file(want).items()
    }


def test_a_network_that_transformers_has_not_is_refused():
    for settings in (
        {"parallel": True, "norm": "layer"},
        {"attn_softcap": 5.0},
        {"mlp_activations": ("gelu",)},
        {"query_scale": 0.3},
        {"logit_scale": 0.5},
    ):
        config = DecoderConfig(
            emb_dim=8,
            num_heads=2,
            num_kv_heads=1,
            num_layers=1,
            head_dim=4,
            mlp_dim=8,
            vocab_size=8,
            **settings,
        )
        with pytest.raises(UserError, match=next(iter(settings))):
            of_config(config).model_type(config, None)


def test_t5xs_forms_hold_no_decoder(tmp_path: Path):
    with pytest.raises(UserError, match="--to t5x"):
        ck.converted(folder_of("llama"), tmp_path / "x", "t5x")


def test_hf_target_writes_shards(tmp_path: Path):
    source = open_checkpoint(str(folder_of("gemma2")))
    ck.write(
        lambda folder: HfTarget(source, source.config, folder, shard_bytes=20_000),
        source,
        tmp_path / "hf",
    )
    assert len(list((tmp_path / "hf").glob("model-*-of-*.safetensors"))) > 2
    ck.same(tmp_path / "hf", {name: source.read(name) for name in source.params}, {})


def test_a_run_starts_from_a_folder_as_it_is():
    from functools import partial

    from flanx import models
    from flanx.models.common import scanned
    from flanx.models.t5.config import T5Config
    from flanx.training.initial import check_model, restore_params

    source = open_checkpoint(str(folder_of("gemma3_text")))
    config = replace(source.config, scan_layers=True, dropout_rate=0.1, remat="full")
    check_model(source, config)
    model = models.build(config)
    abstract = jax.eval_shape(partial(models.init_params, model), jax.random.key(0))
    params = scanned.to_unrolled(restore_params(source, abstract))
    jax.tree.map(np.testing.assert_array_equal, params, ck.params_of(source))
    for changes in ({"rope_theta": 1e4}, {"window": 6}, {"num_heads": 8, "head_dim": 8}):
        with pytest.raises(UserError, match=next(iter(changes))):
            check_model(source, replace(config, **changes))
    t5 = T5Config(emb_dim=32, num_heads=4, num_encoder_layers=3, num_decoder_layers=3, mlp_dim=40)
    with pytest.raises(UserError, match="family 'decoder'"):
        check_model(source, t5)


@every_kind
def test_one_step_of_adamw_is_torchs(kind: str, tmp_path: Path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import make_decoder_fixtures as make
    import optax

    from flanx import models

    # Without a padding id, whose gradient torch leaves out.
    model = make.made(kind, seed=60, pad_token_id=None)
    model.save_pretrained(tmp_path / "hf")
    rng = np.random.default_rng(60)
    tokens = rng.integers(0, 64, (2, 24)).astype(np.int32)
    weights = rng.integers(0, 2, (2, 23)).astype(np.float32)

    ids = torch.tensor(tokens, dtype=torch.long)
    their_logits = model(ids[:, :-1]).logits
    each = torch.nn.functional.cross_entropy(
        their_logits.transpose(1, 2), ids[:, 1:], reduction="none"
    )
    their_loss = (each * torch.tensor(weights)).sum() / weights.sum()
    their_loss.backward()

    config, params = as_float32(open_checkpoint(str(tmp_path / "hf")))
    network = models.build(config)

    def loss_of(params):
        logits = network.apply({"params": params}, tokens[:, :-1])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return (each * weights).sum() / weights.sum()

    loss, grads = dc.compiled(jax.value_and_grad(loss_of))(params)
    np.testing.assert_allclose(loss, their_loss.item(), rtol=1e-5)
    table = config.parameters()
    theirs = dict(model.named_parameters())

    def compare(tree, of_parameter):
        for path, leaf in jax.tree.leaves_with_path(tree):
            name, transposed = table.to_hf(jax.tree_util.keystr(path, simple=True, separator="/"))
            want = of_parameter(theirs[name]).detach().numpy()
            want = want.T if transposed else want
            error = np.linalg.norm(leaf - want) / np.linalg.norm(want)
            assert error < 1e-4, (name, error)

    compare(grads, lambda parameter: parameter.grad)
    torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-4, weight_decay=0.1).step()
    optimizer = optax.adamw(1e-2, eps=1e-4, weight_decay=0.1)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    compare(optax.apply_updates(params, updates), lambda parameter: parameter)


def test_a_tokenizer_json_is_written_as_one(tmp_path, capsys):
    """An export whose vocabulary is a tokenizer.json gives a folder whose tokens and special tokens are the same."""
    import jax

    from flanx import models
    from flanx.cli.main import main
    from flanx.data import vocabulary
    from flanx.models.decoder.config import DecoderConfig
    from flanx.training.params_io import export_params

    folder = Path(__file__).parents[1] / "data/fixtures/tokenizers/llama3"
    words = vocabulary.load(str(folder))
    config = DecoderConfig(
        emb_dim=8,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        num_layers=1,
        mlp_dim=8,
        vocab_size=words.size,
        norm_epsilon=1e-5,
        rope_theta=500000.0,
        mlp_activations=("silu", "linear"),
    )
    params = models.init_params(models.build(config), jax.random.key(0))
    facts = {
        "model": config.to_dict(),
        "vocabulary": {
            "spec": words.spec,
            "fingerprint": words.fingerprint,
            "size": words.size,
        },
    }
    export_params(tmp_path / "export", params, "float32", facts, words.path)
    out = tmp_path / "hf"
    assert main(["convert", str(tmp_path / "export"), str(out), "--to", "hf"]) == 0, (
        capsys.readouterr().err
    )
    assert not (out / "spiece.model").exists()
    again = vocabulary.load(str(out))
    text = "Which team? {billing}\n\nThe 3rd one, naïve façade 東京."
    assert again.encode(text) == words.encode(text)
    assert (again.eos_id, again.bos_id) == (words.eos_id, words.bos_id)
    assert (out / "tokenizer.json").read_bytes() == Path(str(words.path)).read_bytes()
