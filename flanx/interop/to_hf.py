"""Writes a Hugging Face folder: safetensors in shards, config.json, generation settings and the tokenizer's files."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flanx.data import vocabulary
from flanx.interop import hf, safetensors_file
from flanx.interop.hf import folder as hf_folder
from flanx.interop.planned import Planned, dtype_of
from flanx.interop.source import ArrayInfo, PlainBytes, Source
from flanx.interop.strips import copy_bytes, write_values
from flanx.models.config import ModelConfig

SHARD_BYTES = 5 * 10**9
_TOKENIZER = "tokenizer_config.json"
TOKENIZER_JSON = "tokenizer.json"


@dataclass(frozen=True)
class _Place:
    file: str
    offset: int


class HfTarget:
    """A folder that `from_pretrained` of transformers' model, and of `AutoTokenizer`, open."""

    def __init__(
        self,
        source: Source,
        config: ModelConfig,
        folder: Path,
        *,
        dtype: str = "keep",
        vocabulary: Mapping[str, Any] | None = None,
        vocabulary_file: Path | None = None,
        shard_bytes: int = SHARD_BYTES,
    ):
        """Plans the files; nothing is written before the first array.

        Raises:
          UserError: settings that no model of transformers has.
        """
        self._family = hf.of_config(config)
        self._model_type = self._family.model_type(config, source.model_type)
        self.arrays = plan(source, config, dtype)
        self._config, self._folder, self._kept = config, folder, source.kept
        self._vocabulary, self._vocabulary_file = dict(vocabulary or {}), vocabulary_file
        self._files = _shards(self.arrays, shard_bytes)
        self._places: dict[str, _Place] = {}
        self._descriptors: dict[str, int] = {}

    def write(self, planned: Planned, array: np.ndarray) -> None:
        place = self._places[planned.name]
        write_values(self._descriptors[place.file], place.offset, array, place.file)

    def copy(self, planned: Planned, plain: PlainBytes) -> bool:
        place = self._places[planned.name]
        to = self._descriptors[place.file]
        size = planned.info.nbytes
        return not plain.columns and copy_bytes(
            plain.file, plain.offset, to, place.offset, size, place.file
        )

    def start(self) -> None:
        """Makes the files, with their headers."""
        for file, members in self._files.items():
            path = self._folder / file
            header = safetensors_file.header_bytes({p.name: p.info for p in members})
            path.write_bytes(header)
            offset = len(header)
            for planned in members:
                self._places[planned.name] = _Place(file, offset)
                offset += planned.info.nbytes
            self._descriptors[file] = os.open(path, os.O_WRONLY)

    def close(self) -> None:
        """Closes the files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}

    def finish(self) -> None:
        self.close()
        if len(self._files) > 1:
            where = {p.name: file for file, members in self._files.items() for p in members}
            total = sum(p.info.nbytes for p in self.arrays)
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
            self._json(hf_folder.INDEX, index)
        dtypes = {p.info.dtype.name for p in self.arrays}
        config = self._family.settings(self._config, max(dtypes), self._model_type, self._kept)
        self._json(hf_folder.CONFIG, config)
        self._json(hf_folder.GENERATION, self._family.generation(self._kept))
        if self._vocabulary_file is not None:
            self._tokenizer(self._vocabulary_file)

    def _tokenizer(self, file: Path) -> None:
        """The vocabulary's file under the name that its kind has there, and what transformers asks beside it."""
        if vocabulary.is_tokenizer_json(str(file)):
            shutil.copyfile(file, self._folder / TOKENIZER_JSON)
            spec = vocabulary.with_file(str(self._vocabulary["spec"]), str(file))
            self._json(_TOKENIZER, _special_tokens(vocabulary.load(spec), file))
            return
        shutil.copyfile(file, self._folder / hf_folder.VOCABULARY)
        self._json(_TOKENIZER, _tokenizer(extra_ids_of(self._vocabulary)))

    def _json(self, name: str, content: Mapping[str, Any]) -> None:
        (self._folder / name).write_text(json.dumps(content, indent=2) + "\n")


def plan(source: Source, config: ModelConfig, dtype: str) -> list[Planned]:
    """Every parameter under transformers' name, in the order of those names: equal models make equal files."""
    arrays, family = [], hf.of_config(config)
    for name, info in source.params.items():
        theirs, transposed = family.hf_name(config, name)
        shape = info.shape[::-1] if transposed else info.shape
        written = ArrayInfo(shape, dtype_of(info, dtype))
        arrays.append(Planned(theirs, written, (name,), transposed=transposed))
    return sorted(arrays, key=lambda planned: planned.name)


def extra_ids_of(vocabulary: Mapping[str, Any]) -> int:
    """Number of sentinels, which a vocabulary's fingerprint ends with."""
    return int(str(vocabulary["fingerprint"]).rpartition("+")[2])


def _special_tokens(words: vocabulary.Vocabulary, file: Path) -> dict[str, Any]:
    """tokenizer_config.json of a tokenizer.json: the tokens that end, begin and pad a text."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    ids = {"eos_token": words.eos_id, "bos_token": words.bos_id, "pad_token": words.pad_id}
    named = {name: tokenizer.id_to_token(i) for name, i in ids.items() if i is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **named}


def _tokenizer(extra_ids: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "T5Tokenizer",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "extra_ids": extra_ids,
        "additional_special_tokens": [f"<extra_id_{i}>" for i in range(extra_ids)],
    }


def _shards(arrays: Sequence[Planned], most: int) -> dict[str, list[Planned]]:
    groups: list[list[Planned]] = [[]]
    size = 0
    for planned in arrays:
        if groups[-1] and size + planned.info.nbytes > most:
            groups.append([])
            size = 0
        groups[-1].append(planned)
        size += planned.info.nbytes
    if len(groups) == 1:
        return {hf_folder.WEIGHTS: groups[0]}
    count = len(groups)
    return {f"model-{i + 1:05}-of-{count:05}.safetensors": group for i, group in enumerate(groups)}
