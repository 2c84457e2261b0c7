"""Hugging Face's T5s: T5, mT5, umT5 and FLAN-T5 (`T5ForConditionalGeneration` and its kin)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flanx.errors import UserError
from flanx.interop.hf import Contents, t5_names, t5_settings
from flanx.interop.hf.folder import CONFIG, dtype_of
from flanx.interop.source import StoredArray, View
from flanx.models.t5.config import T5Config


def read(folder: Path, settings: Mapping[str, Any], stored: Mapping[str, StoredArray]) -> Contents:
    """What a folder of a T5 holds.

    Raises:
      UserError: a setting that flanx's T5 does not follow, or arrays that it does not have.
    """
    where, kind = folder / CONFIG, settings["model_type"]
    views, unknown = {}, []
    for name in stored:
        if name in t5_names.IGNORED or name in t5_names.COPIES:
            continue
        found = t5_names.to_flanx(name, bias_per_layer=kind == "umt5")
        if found is None:
            unknown.append(name)
        else:
            views[found[0]] = View(name, transposed=found[1])
    if unknown:
        raise UserError(f"{folder} holds arrays that T5 does not have: {', '.join(unknown)}")
    _embedding(stored, views)
    notes = _output(folder, settings, stored, views)
    tied = "decoder/logits_dense/kernel" not in views
    dtype = dtype_of(settings, stored, where)
    config = t5_settings.config_from(settings, tied=tied, dtype=dtype, where=where)
    return Contents(stored, views, config, kind, notes)


def model_type(config: T5Config, known: str | None) -> str:
    """ "t5", "mt5" or "umt5".

    Raises:
      UserError: activations that transformers' T5 does not have.
    """
    if config.mlp_activations not in t5_settings.PROJECTIONS:
        raise UserError(
            f"mlp_activations {config.mlp_activations} have no name in Hugging Face's T5: it has "
            f"{', '.join(map(str, t5_settings.PROJECTIONS))}"
        )
    if config.relpos_per_layer:
        return "umt5"
    # An mT5's logits are never scaled, and those of flanx's tied network are.
    return "mt5" if known == "mt5" and not config.logits_via_embedding else "t5"


def hf_name(config: T5Config, name: str) -> tuple[str, bool]:
    """Hugging Face's name of a parameter, and whether it keeps the transpose."""
    del config
    return t5_names.from_flanx(name)


def generation(kept: Mapping[str, Any]) -> dict[str, Any]:
    """generation_config.json."""
    del kept
    return {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}


def settings(
    config: T5Config, dtype: str, model_type: str, kept: Mapping[str, Any]
) -> dict[str, Any]:
    """config.json of a "t5", "mt5" or "umt5".

    Whether logits are scaled is said twice: transformers 4 reads `tie_word_embeddings` for it.
    """
    del kept
    tied = config.logits_via_embedding
    architecture = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}[model_type]
    return {
        "architectures": [f"{architecture}ForConditionalGeneration"],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": config.relpos_buckets,
        "relative_attention_max_distance": config.relpos_max_distance,
        "feed_forward_proj": t5_settings.PROJECTIONS[config.mlp_activations],
        "dropout_rate": config.dropout_rate,
        "layer_norm_epsilon": 1e-6,
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "use_cache": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "tie_word_embeddings": tied,
        "scale_decoder_outputs": tied,
        "torch_dtype": dtype,
    }


def _embedding(stored: Mapping[str, StoredArray], views: dict[str, View]) -> None:
    """The one table of embeddings, under whichever of its names it is there: the others must be copies of it.

    Raises:
      UserError: the encoder's or decoder's table is another, which transformers would use and flanx has no place for.
    """
    tables = [name for name in (t5_names.SHARED, *t5_names.COPIES) if name in stored]
    if not tables and t5_names.HEAD in stored:  # transformers ties what is missing to what is there
        tables = [t5_names.HEAD]
    if not tables:
        return
    views["token_embedder/embedding"] = View(tables[0])
    first, *others = tables
    table = stored[first].read() if others else np.empty(0)
    for other in others:
        if not np.array_equal(table, stored[other].read()):
            raise UserError(
                f"array '{other}' in {stored[other].where} is not '{tables[0]}': transformers embeds with each, and "
                "flanx's T5 has one table for encoder and decoder"
            )


def _output(
    folder: Path,
    settings: Mapping[str, Any],
    stored: Mapping[str, StoredArray],
    views: dict[str, View],
) -> tuple[str, ...]:
    """Settles which array gives the logits; a copy of the embedding where they are tied but not scaled."""
    scaled = t5_settings.is_scaled(settings)
    kernel = "decoder/logits_dense/kernel"
    if t5_names.HEAD not in stored:
        embedding = views.get("token_embedder/embedding")
        if not scaled and embedding is not None:
            views[kernel] = View(embedding.stored, transposed=True)
            return (
                "no lm_head.weight, and logits are not scaled: they get a copy of the embedding",
            )
        return ()
    if not scaled:
        return ()
    embedding = views.get("token_embedder/embedding")
    if embedding and np.array_equal(stored[t5_names.HEAD].read(), stored[embedding.stored].read()):
        del views[kernel]
        return ()
    raise UserError(
        f"{folder / CONFIG} says that logits are tied to the embedding (tie_word_embeddings, scale_decoder_outputs), "
        f"but array '{t5_names.HEAD}' in {stored[t5_names.HEAD].where} is another: set both to false if the model has "
        "an output projection of its own"
    )
