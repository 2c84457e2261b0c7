"""Hugging Face's folders of a T5: config.json, safetensors in one file or in shards, and the tokenizer's files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flanx.data.vocabulary import DEFAULT_EXTRA_IDS
from flanx.errors import UserError
from flanx.interop import hf_names, hf_settings, json_text, safetensors_file
from flanx.interop.source import StoredArray, View
from flanx.models.t5.config import T5Config

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
VOCABULARY = "spiece.model"


def looks_like(folder: Path) -> bool:
    """Whether a folder holds something that Hugging Face's libraries wrote."""
    names = (CONFIG, WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
    return any((folder / name).is_file() for name in names)


def read(
    folder: Path,
) -> tuple[dict[str, StoredArray], dict[str, View], T5Config, str, tuple[str, ...]]:
    """Stored arrays by their own names, views by flanx's, the network, its family, and remarks for the user.

    Raises:
      UserError: no safetensors, no or another model's config.json, a damaged file, or names that T5 does not have.
    """
    stored = _arrays(folder)
    settings, where = read_json(folder / CONFIG), folder / CONFIG
    family = hf_settings.family(settings, where)
    views, unknown = {}, []
    for name in stored:
        if name in hf_names.IGNORED or name in hf_names.COPIES:
            continue
        found = hf_names.to_flanx(name, bias_per_layer=family == "umt5")
        if found is None:
            unknown.append(name)
        else:
            views[found[0]] = View(name, transposed=found[1])
    if unknown:
        raise UserError(f"{folder} holds arrays that T5 does not have: {', '.join(unknown)}")
    _embedding(stored, views)
    notes = _output(folder, settings, stored, views)
    answers = folder / "generation_config.json"
    notes += hf_settings.left_out(settings, CONFIG)
    if answers.is_file():
        notes += hf_settings.left_out(read_json(answers), answers.name)
    tied = "decoder/logits_dense/kernel" not in views
    dtype = max((a.info.dtype.name for a in stored.values()), default="float32")
    config = hf_settings.config_from(settings, tied=tied, stored=dtype, where=where)
    return stored, views, config, family, notes


def _embedding(stored: Mapping[str, StoredArray], views: dict[str, View]) -> None:
    """The one table of embeddings, under whichever of its names it is there: the others must be copies of it.

    Raises:
      UserError: the encoder's or decoder's table is another, which transformers would use and flanx has no place for.
    """
    tables = [name for name in (hf_names.SHARED, *hf_names.COPIES) if name in stored]
    if not tables and hf_names.HEAD in stored:  # transformers ties what is missing to what is there
        tables = [hf_names.HEAD]
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


def extra_ids(folder: Path, most: int) -> int:
    """Number of sentinels that the tokenizer adds to spiece.model.

    Raises:
      UserError: it is no number, or more than the `most` ids that the model has.
    """
    path = folder / "tokenizer_config.json"
    told = read_json(path).get("extra_ids") if path.is_file() else None
    if told is None:
        return DEFAULT_EXTRA_IDS
    if type(told) is int and told > most:
        raise UserError(
            f"{path}: extra_ids is {told:,}, and the model has {most:,} ids: fetch it again"
        )
    if type(told) is not int or told < 0:
        raise UserError(f"{path}: extra_ids is {told!r}, no number of sentinels: fetch it again")
    return told


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
    """Settles which array gives the logits; a copy of the embedding where they are tied but not scaled."""
    scaled = hf_settings.is_scaled(settings)
    kernel = "decoder/logits_dense/kernel"
    if hf_names.HEAD not in stored:
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
    if embedding and np.array_equal(stored[hf_names.HEAD].read(), stored[embedding.stored].read()):
        del views[kernel]
        return ()
    raise UserError(
        f"{folder / CONFIG} says that logits are tied to the embedding (tie_word_embeddings, scale_decoder_outputs), "
        f"but array '{hf_names.HEAD}' in {stored[hf_names.HEAD].where} is another: set both to false if the model has "
        "an output projection of its own"
    )
