"""What all of Hugging Face's folders have: config.json, safetensors in one file or in shards, the tokenizer's files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flanx.data.vocabulary import DEFAULT_EXTRA_IDS
from flanx.errors import UserError
from flanx.interop import hf, json_text, safetensors_file
from flanx.interop.source import StoredArray

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"
VOCABULARY = "spiece.model"
# How answers were made where the folder comes from; `flanx infer` has flags for it.
_ANSWERS = (
    "num_beams",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "length_penalty",
    "early_stopping",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "min_length",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
_NEUTRAL: tuple[Any, ...] = (None, False, 0, 1, 1.0, [], 50)
_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float32"}


def looks_like(folder: Path) -> bool:
    """Whether a folder holds something that Hugging Face's libraries wrote."""
    names = (CONFIG, WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
    return any((folder / name).is_file() for name in names)


def read(folder: Path) -> hf.Contents:
    """What a folder holds.

    Raises:
      UserError: no safetensors, no or an unknown model's config.json, a damaged file, a setting that flanx does not
        follow, or names that the model does not have.
    """
    stored = _arrays(folder)
    settings = read_json(folder / CONFIG)
    family = hf.of_type(settings.get("model_type"), folder / CONFIG)
    contents = family.read(folder, settings, stored)
    notes = contents.notes + _left_out(settings, CONFIG)
    answers = folder / GENERATION
    if answers.is_file():
        notes += _left_out(read_json(answers), answers.name)
    return replace(contents, notes=notes)


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


def dtype_of(settings: Mapping[str, Any], stored: Mapping[str, StoredArray], where: Path) -> Any:
    """Of the activations: the one that the file names, which transformers runs in; else the arrays'."""
    of_arrays = max((a.info.dtype.name for a in stored.values()), default="float32")
    told = settings.get("dtype") or settings.get("torch_dtype") or of_arrays
    name = str(told).removeprefix("torch.")
    if name not in _DTYPES:
        raise UserError(f"{where}: dtype is {name[:80]}, flanx has {', '.join(_DTYPES)}")
    return _DTYPES[name]


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


def _left_out(settings: Mapping[str, Any], file: str) -> tuple[str, ...]:
    """A line on the settings of a file that say how to answer, which flanx has flags for and does not take over."""
    told = [n for n in _ANSWERS if settings.get(n) not in _NEUTRAL]
    if not told:
        return ()
    return (f"{file} says how to answer ({', '.join(told)}): not taken over, give flags for it",)
