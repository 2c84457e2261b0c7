"""flanx's own checkpoints: a MODEL_DIR, one of its checkpoints/<step>, or an export; layers stacked or not."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanx import digests
from flanx.data import vocabulary
from flanx.errors import UserError
from flanx.interop import layouts, t5x_form
from flanx.interop.places import Place
from flanx.interop.source import StoredArray, View
from flanx.models import ModelConfig, config_from_dict

if TYPE_CHECKING:
    import numpy as np

_SLOT_FOLDERS = "train/opt_state/{slot}/{param}"


@dataclass(frozen=True)
class Facts:
    """What lies beside the arrays: as run.json has it, and the vocabulary's own file."""

    folder: Path
    facts: dict[str, Any]
    vocabulary_file: Path | None

    @property
    def config(self) -> ModelConfig | None:
        """The network, where it is told."""
        model = self.facts.get("model")
        if model is None:
            return None
        try:
            return config_from_dict(model)
        except TypeError as error:
            raise UserError(
                f"{self.folder} names a model that this flanx does not know ({error})"
            ) from error


def looks_like(folder: Path) -> bool:
    """Whether a folder holds parameters as flanx writes them, or checkpoints that do."""
    if (folder / "params").is_dir():
        return True
    return any(
        entry.name.isdigit() and (entry / "params").is_dir()
        for place in (folder / "checkpoints", folder)
        if place.is_dir()
        for entry in place.iterdir()
    )


Steps = tuple[int | None, int | None]  # of training, and as the optimizer counts them


def read(
    path: str,
) -> tuple[Path, dict[str, StoredArray], dict[str, View], dict[str, View], Steps]:
    """The checkpoint's folder (the newest), its arrays, views of parameters and optimizer slots, and its steps.

    Raises:
      UserError: it is not whole.
    """
    from flanx.training.params_io import find_params

    folder = find_params(path)
    _check(folder, ("params", "run", "flanx.json"))
    stored = {f"params/{n}": a for n, a in _tree(folder / "params").items()}
    step = count = None
    if (folder / "train").is_dir():
        train = _tree(folder / "train")
        if "step" in train:
            step = int(train["step"].read())
        if "opt_state/count" in train:
            count = int(train["opt_state/count"].read())
        train = _checked_when_read(folder, "train", train)
        stored |= {f"train/{n}": a for n, a in train.items() if n.startswith("opt_state/")}
    params = layouts.param_views(stored, "params/")
    slots = layouts.slot_views(params, stored, "params/", _SLOT_FOLDERS)
    return folder, stored, params, slots, (step, count)


def read_facts(folder: Path) -> Facts:
    """Facts of the run or export that `folder` belongs to.

    Raises:
      UserError: a later flanx wrote them, or they are damaged.
    """
    from flanx.training.params_io import read_facts as stored_facts

    try:
        facts = stored_facts(folder)
        told = facts.get("vocabulary")
        if told and not (
            isinstance(told, dict)
            and all(isinstance(told.get(name), str) for name in ("spec", "fingerprint"))
        ):
            raise ValueError(f"its vocabulary is {told}")
    except ValueError as error:
        raise UserError(
            f"the JSON beside {folder}/params is damaged ({error}): copy the checkpoint again"
        ) from error
    places = (folder, folder.parent.parent)  # an export; MODEL_DIR/checkpoints/<step>
    files = (place / "vocabulary.model" for place in places)
    return Facts(
        folder, facts, next((file for file in files if file.is_file()), None) or _named(facts)
    )


def _named(facts: dict[str, Any]) -> Path | None:
    """The vocabulary file that the facts name, if it is here and still the same."""
    told = facts.get("vocabulary")
    if not told:
        return None
    try:
        found = vocabulary.load(told["spec"])
    except UserError:
        return None
    return Path(found.path) if found.path and found.fingerprint == told["fingerprint"] else None


def _check(folder: Path, items: tuple[str, ...]) -> None:
    """Compares files with the digests that they were written with.

    Raises:
      UserError: one is damaged.
    """
    try:
        digests.check(folder, items)
    except digests.Damaged as error:
        raise UserError(
            f"checkpoint {folder} is damaged: {error}; copy it again, or take another"
        ) from error


def _checked_when_read(
    folder: Path, item: str, arrays: Mapping[str, StoredArray]
) -> dict[str, StoredArray]:
    """Arrays whose files are compared with their digests as soon as one is read, once: most readers want none."""
    check = functools.cache(lambda: _check(folder, (item,)))

    def reading(array: StoredArray) -> "np.ndarray":
        check()
        return array.read()

    return {
        name: replace(array, read=functools.partial(reading, array), plain=None)
        for name, array in arrays.items()
    }


def _tree(folder: Path) -> dict[str, StoredArray]:
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: the checkpoint is not whole")
    return t5x_form.read_tree(Place(str(folder)))
