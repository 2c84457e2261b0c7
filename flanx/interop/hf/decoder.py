"""Hugging Face's decoders: Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3 (text), OLMo 2."""

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flanx.errors import UserError
from flanx.interop.hf import Contents, decoder_settings
from flanx.interop.hf.folder import CONFIG, dtype_of
from flanx.interop.source import StoredArray, View
from flanx.models.common.parameters import Parameters
from flanx.models.decoder.config import DecoderConfig

_TABLE, _KERNEL = "token_embedder/embedding", "decoder/logits_dense/kernel"
_HEAD = "lm_head.weight"
# Tables of angles, which older versions stored and which are computed.
_COMPUTED = re.compile(r".*\.rotary_emb\.inv_freq")
# Of a Gemma 3 with images, in the names of transformers 4 and 5.
_IMAGES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\..*")
_OF_TEXT = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model."),
    ("model.language_model.", "model."),
)

settings = decoder_settings.settings
model_type = decoder_settings.model_type


def read(folder: Path, settings: Mapping[str, Any], stored: Mapping[str, StoredArray]) -> Contents:
    """What a folder of a decoder holds.

    Raises:
      UserError: a setting that flanx's decoder does not follow, or arrays that it does not have.
    """
    where, kind, notes = (
        folder / CONFIG,
        settings["model_type"],
        decoder_settings.notes_on(settings),
    )
    text, arrays = settings, {name: name for name in stored if not _COMPUTED.fullmatch(name)}
    if kind == "gemma3":
        text, kind = _text_of(settings, where), "gemma3_text"
        arrays = {n: _without_images(n) for n in arrays if not _IMAGES.fullmatch(n)}
        if left := sum(bool(_IMAGES.fullmatch(name)) for name in stored):
            notes += (f"its image tower is left out ({left:,} arrays)",)
    layers = text.get("num_hidden_layers")
    if type(layers) is int and layers > len(arrays):  # a list of them could be longer than memory
        raise UserError(
            f"{where} says num_hidden_layers {layers:,}, and {folder} has {len(arrays):,} arrays: they are not of one "
            "model, fetch it again"
        )
    dtype = dtype_of(
        text if text.get("dtype") or text.get("torch_dtype") else settings, stored, where
    )
    config = decoder_settings.config_from(text, kind, dtype=dtype, where=where)
    if not any(name.startswith("model.") for name in arrays.values()):
        # A folder of the body alone, `LlamaModel`'s say.
        arrays = {n: own if own == _HEAD else f"model.{own}" for n, own in arrays.items()}
    views, unknown, table = {}, [], _names(config)
    for name, own in arrays.items():
        found = table.from_hf(own)
        if found is None:
            unknown.append(name)
        else:
            views[found[0]] = View(name, transposed=found[1])
    if unknown:
        shown = ", ".join(unknown[:4]) + (f" and {len(unknown) - 4} more" if unknown[4:] else "")
        raise UserError(f"{folder} holds arrays that a {kind} does not have: {shown}")
    if config.logits_via_embedding:
        _drop_tied(folder, stored, views)
    kept = {
        name: text.get(name, settings.get(name))
        for name in decoder_settings.KEPT
        if name in text or name in settings
    }
    return Contents(stored, views, config, kind, notes, kept)


def hf_name(config: DecoderConfig, name: str) -> tuple[str, bool]:
    """Hugging Face's name of a parameter, and whether it keeps the transpose."""
    return _table(config).to_hf(name)


def generation(kept: Mapping[str, Any]) -> dict[str, Any]:
    """generation_config.json: the ids that begin and end texts, where they are known."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: kept[name] for name in names if kept.get(name) is not None}


@functools.cache
def _table(config: DecoderConfig) -> Parameters:
    return config.parameters()


def _names(config: DecoderConfig) -> Parameters:
    """The table with an output projection, which a folder may hold though it is tied."""
    return _table(replace(config, logits_via_embedding=False))


def _text_of(settings: Mapping[str, Any], where: Path) -> dict[str, Any]:
    text = settings.get("text_config")
    if not isinstance(text, Mapping):
        raise UserError(f"{where}: a gemma3 has a text_config, and there is none: fetch it again")
    tied = settings.get("tie_word_embeddings")
    return {**({} if tied is None else {"tie_word_embeddings": tied}), **text}


def _without_images(name: str) -> str:
    """A text model's name of an array."""
    for prefix, own in _OF_TEXT:
        if name.startswith(prefix):
            return own + name.removeprefix(prefix)
    return name


def _drop_tied(folder: Path, stored: Mapping[str, StoredArray], views: dict[str, View]) -> None:
    """An output projection beside tied embeddings must be a copy of theirs."""
    head, table = views.pop(_KERNEL, None), views.get(_TABLE)
    if head is None:
        return
    if table is None:  # transformers ties what is missing to what is there
        views[_TABLE] = View(head.stored)
    elif not np.array_equal(stored[head.stored].read(), stored[table.stored].read()):
        raise UserError(
            f"{folder / CONFIG} says that logits are tied to the embedding (tie_word_embeddings), but array "
            f"'{head.stored}' in {stored[head.stored].where} is another: set it to false if the model has an output "
            "projection of its own"
        )
