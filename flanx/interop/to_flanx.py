"""Writes a flanx export: `params/` as Orbax restores it, `train/` with optimizer state, facts, and the vocabulary."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flanx import digests
from flanx.interop import orbax_write, zarr_write
from flanx.interop.planned import Planned, dtype_of, stacked
from flanx.interop.source import SLOTS, ArrayInfo, PlainBytes, Source
from flanx.models.config import ModelConfig

_LAYER = re.compile(r"(encoder|decoder)/layers_(\d+)/(.+)")


class FlanxTarget:
    """A folder that INITIAL_CHECKPOINT_PATH, `flanx eval` and `flanx infer` open."""

    def __init__(
        self,
        source: Source,
        config: ModelConfig,
        folder: Path,
        *,
        dtype: str = "keep",
        scanned: bool = False,
        facts: Mapping[str, Any] | None = None,
        vocabulary_file: Path | None = None,
    ):
        """Plans the arrays.

        Args:
          source: the checkpoint.
          config: its network.
          folder: to write into.
          dtype: of parameters; slots keep theirs.
          scanned: stack layers as flanx's own scanned network has them.
          facts: for flanx.json, beside the model: vocabulary, feature_lengths, ...
          vocabulary_file: copied as `vocabulary.model`.
        """
        self._folder, self._vocabulary_file = folder, vocabulary_file
        self._step, self._count = source.step or 0, source.optimizer_step or 0
        self._params = _plan(source.params, "params", dtype, scanned, lambda name: name)
        self._slots = []
        for slot in SLOTS:
            ending = f"/{slot}"
            infos = {
                n.removesuffix(ending): i for n, i in source.optimizer.items() if n.endswith(ending)
            }
            self._slots += _plan(
                infos, f"train/opt_state/{slot}", "keep", scanned, lambda name, e=ending: name + e
            )
        self.arrays: Sequence[Planned] = [*self._params, *self._slots]
        dtypes = {planned.info.dtype.name for planned in self._params}
        self._facts = {
            **(facts or {}),
            "format_version": 1,
            "dtype": max(dtypes),
            "model": replace(config, scan_layers=scanned).to_dict(),
        }

    def start(self) -> None:
        """Makes the folders."""
        (self._folder / "params").mkdir()
        if self._slots:
            (self._folder / "train").mkdir()

    def close(self) -> None:
        """Nothing is open."""

    def write(self, planned: Planned, array: np.ndarray) -> None:
        zarr_write.write(self._array_folder(planned), array)

    def copy(self, planned: Planned, plain: PlainBytes) -> bool:
        return zarr_write.copy(self._array_folder(planned), planned.info, plain)

    def _array_folder(self, planned: Planned) -> Path:
        item, _, path = planned.name.partition("/")
        return orbax_write.array_folder(self._folder / item, path)

    def finish(self) -> None:
        self._metadata("params", self._params, {})
        if self._slots:
            steps = {"step": self._step, "opt_state/count": self._count}
            scalars = {name: np.asarray(number, np.int32) for name, number in steps.items()}
            self._metadata("train", self._slots, scalars)
        text = json.dumps(self._facts, indent=1, sort_keys=True) + "\n"
        (self._folder / "flanx.json").write_text(text)
        if self._vocabulary_file is not None:
            shutil.copyfile(self._vocabulary_file, self._folder / "vocabulary.model")
        digests.write(self._folder, ("params", "train", "flanx.json", "vocabulary.model"))

    def _metadata(
        self, item: str, arrays: Sequence[Planned], scalars: Mapping[str, np.ndarray]
    ) -> None:
        folder = self._folder / item
        for path, value in scalars.items():
            zarr_write.write(orbax_write.array_folder(folder, path), value)
        shapes = [(p.name.partition("/")[2], p.info.shape) for p in arrays]
        orbax_write.write_tree(folder, [*shapes, *((n, ()) for n in scalars)])
        orbax_write.write_handlers(folder, orbax_write.STANDARD)


def _plan(
    infos: Mapping[str, ArrayInfo], prefix: str, dtype: str, scanned: bool, source_name: Any
) -> list[Planned]:
    groups: dict[str, list[str]] = {}
    for name in infos:
        found = _LAYER.fullmatch(name) if scanned else None
        own = f"{found.group(1)}/layers/{found.group(3)}" if found else name
        groups.setdefault(own, []).append(name)
    arrays = []
    for own, members in groups.items():
        info = infos[members[0]]
        info = ArrayInfo(info.shape, dtype_of(info, dtype))
        if "/layers/" not in own:
            arrays.append(Planned(f"{prefix}/{own}", info, (source_name(members[0]),)))
            continue
        members.sort(key=_number)
        names = tuple(source_name(name) for name in members)
        arrays.append(Planned(f"{prefix}/{own}", stacked(info, len(names), 0), names, 0))
    return arrays


def _number(name: str) -> int:
    found = _LAYER.fullmatch(name)
    return int(found.group(2)) if found else 0
