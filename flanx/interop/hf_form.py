"""Hugging Face's folders of a T5: config.json, safetensors in one file or in shards, and the tokenizer's files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flanx.data.vocabulary import DEFAULT_EXTRA_IDS
from flanx.errors import UserError
from flanx.interop import hf_names, json_text, safetensors_file
from flanx.interop.source import StoredArray, View
from flanx.models.t5.config import T5Config

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
VOCABULARY = "spiece.model"
# flanx's activations <-> config.json's feed_forward_proj.
PROJECTIONS = {
    ("relu",): "relu",
    ("gelu", "linear"): "gated-gelu",
    ("silu", "linear"): "gated-silu",
    ("relu", "linear"): "gated-relu",
    ("silu",): "silu",
    ("gelu",): "gelu_new",
}


def looks_like(folder: Path) -> bool:
    """Whether a folder holds something that Hugging Face's libraries wrote."""
    names = (CONFIG, WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
    return any((folder / name).is_file() for name in names)


def read(folder: Path) -> tuple[dict[str, StoredArray], dict[str, View], T5Config, tuple[str, ...]]:
    """Stored arrays by their own names, views by flanx's, the network, and remarks for the user.

    Raises:
      UserError: no safetensors, no or another model's config.json, a damaged file, or names that T5 does not have.
    """
    stored = _arrays(folder)
    settings = read_json(folder / CONFIG)
    _check_type(settings, folder / CONFIG)
    views, unknown = {}, []
    for name in stored:
        if name in hf_names.IGNORED:
            continue
        found = hf_names.to_flanx(name)
        if found is None:
            unknown.append(name)
        else:
            views[found[0]] = View(name, transposed=found[1])
    if unknown:
        raise UserError(f"{folder} holds arrays that T5 does not have: {', '.join(unknown)}")
    copy = hf_names.IGNORED[0]
    if hf_names.SHARED not in stored and copy in stored:
        views["token_embedder/embedding"] = View(copy)
    notes = _output(folder, settings, stored, views)
    return stored, views, config_from(settings, views, folder / CONFIG), notes


def config_from(settings: Mapping[str, Any], views: Mapping[str, View], where: Path) -> T5Config:
    """The network of a config.json; its logits are tied where no view gives them an array.

    Raises:
      UserError: an activation or epsilon that flanx does not have, or a setting that is missing or of another type.
    """
    defaults = "gated-gelu" if settings["model_type"] == "mt5" else "relu"
    projection = settings.get("feed_forward_proj", defaults)
    activations = {theirs: ours for ours, theirs in PROJECTIONS.items()}
    if not isinstance(projection, str) or projection not in activations:
        raise UserError(
            f"{where}: feed_forward_proj '{projection}' is not one of {', '.join(activations)}, which flanx has"
        )
    if settings.get("layer_norm_epsilon", 1e-6) != 1e-6:
        raise UserError(
            f"{where}: layer_norm_epsilon is {settings['layer_norm_epsilon']}, flanx's T5 has 1e-06"
        )
    try:
        return T5Config(
            emb_dim=settings["d_model"],
            num_heads=settings["num_heads"],
            num_encoder_layers=settings["num_layers"],
            num_decoder_layers=settings.get("num_decoder_layers") or settings["num_layers"],
            mlp_dim=settings["d_ff"],
            vocab_size=settings["vocab_size"],
            head_dim=settings["d_kv"],
            mlp_activations=activations[projection],
            dropout_rate=settings.get("dropout_rate", 0.1),
            logits_via_embedding="decoder/logits_dense/kernel" not in views,
            relpos_buckets=settings.get("relative_attention_num_buckets", 32),
            relpos_max_distance=settings.get("relative_attention_max_distance", 128),
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except KeyError as error:
        raise UserError(f"{where} does not say {error}: it is no T5's, fetch it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      UserError: no such file, or not JSON.
    """
    try:
        content = json_text.parse(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: the checkpoint is not whole, fetch that file too"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object: fetch it again")
    return content


def extra_ids(folder: Path) -> int:
    """Number of sentinels that the tokenizer adds to spiece.model."""
    path = folder / "tokenizer_config.json"
    told = read_json(path).get("extra_ids") if path.is_file() else None
    if told is None:
        return DEFAULT_EXTRA_IDS
    if not isinstance(told, int) or told < 0:
        raise UserError(f"{path}: extra_ids is {told!r}, no number of sentinels: fetch it again")
    return told


def _check_type(settings: Mapping[str, Any], where: Path) -> None:
    """Before any array's name: another model's arrays would all be unknown."""
    kind = settings.get("model_type")
    if kind not in ("t5", "mt5"):
        raise UserError(f"{where} is of a model of type '{kind}': flanx converts t5 and mt5")


def _arrays(folder: Path) -> dict[str, StoredArray]:
    if (folder / INDEX).is_file():
        files = read_json(folder / INDEX).get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(f, str) for f in files.values()):
            raise UserError(
                f"{folder / INDEX} does not say which file has which array: fetch it again"
            )
        stored: dict[str, StoredArray] = {}
        for file in sorted(set(files.values())):
            stored |= safetensors_file.read(folder / Path(file).name)
        absent = sorted(set(files) - set(stored))
        if absent:
            raise UserError(
                f"{folder / INDEX} places '{absent[0]}' in {files[absent[0]]}, which has no such array "
                f"({len(absent)} such): the shards are of two checkpoints, fetch them again"
            )
        return stored
    if (folder / WEIGHTS).is_file():
        return safetensors_file.read(folder / WEIGHTS)
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise UserError(
            f"{pickles[0]} is a pickle, which runs code when it is loaded: flanx reads safetensors alone; get "
            "model.safetensors from the model's page, or write it where you trust the file, with transformers' "
            "from_pretrained(...).save_pretrained(...)"
        )
    raise UserError(
        f"{folder / WEIGHTS} is missing: a {CONFIG} alone is no checkpoint, fetch it too"
    )


def _output(
    folder: Path,
    settings: Mapping[str, Any],
    stored: Mapping[str, StoredArray],
    views: dict[str, View],
) -> tuple[str, ...]:
    """Settles which array gives the logits; transformers scales them by d_model**-0.5 for the first T5 alone."""
    told_tied = settings.get("tie_word_embeddings") is not False
    scaled = settings.get("scale_decoder_outputs", told_tied)
    kernel = "decoder/logits_dense/kernel"
    if hf_names.HEAD not in stored:
        if not scaled and hf_names.SHARED in stored:
            views[kernel] = View(hf_names.SHARED, transposed=True)
            return (
                "no lm_head.weight, and logits are not scaled: they get a copy of the embedding",
            )
        return ()
    if not scaled:
        return ()
    embedding = views.get("token_embedder/embedding")
    if embedding and np.array_equal(stored[hf_names.HEAD].read(), stored[embedding.stored].read()):
        del views[kernel]
        return ()
    raise UserError(
        f"{folder / CONFIG} says that logits are tied to the embedding (tie_word_embeddings, scale_decoder_outputs), "
        f"but array '{hf_names.HEAD}' in {stored[hf_names.HEAD].where} is another: set both to false if the model has "
        "an output projection of its own"
    )
