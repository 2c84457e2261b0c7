"""What to prepare: one mixture's split, tokenised with given lengths and vocabulary."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flanx import field_types, resources
from flanx.data import filters as filter_settings
from flanx.data.filters import Filter
from flanx.errors import UserError, did_you_mean

FEATURES = ("inputs", "targets")


@dataclass(frozen=True)
class StoreRequest:
    """A mixture's split, ready to be cached or read. Everything that decides the tokens is in it.

    Attributes:
      mixture: mixture, dataset or task, or a glob over them.
      feature_lengths: most tokens of an example's `inputs` and `targets`, EOS included.
      cache_dir: folder of token stores and manifests.
      split: split of the tasks.
      vocabulary: spec for `flanx.data.vocabulary.load`; None for the tasks' own.
      data_dir: where relative data files are looked up; None for the environment's FLANX_DATA_DIR.
      num_tasks: take only this many datasets, nested.
      template_types: `("zs_opt", ...)`, or `{"zs_opt": share, ...}`; None for all. Without shares each type weighs 1,
        and `inv` 0.3.
      seed: seed of templates, option styles and exemplars.
      imports: the user's modules that register tasks.
      max_examples: most examples taken of each task; None for all.
      for_eval: keep texts, references and options beside the tokens.
      filters: what leaves out rows, in any form that `flanx.data.filters.read` takes.
      datasets_of: take only the datasets that this selection of the mixture has: {"split", "num_tasks",
        "template_types"}, as of training; None for all that the other fields select.
    """

    mixture: str
    feature_lengths: Mapping[str, int]
    cache_dir: str
    split: str = "train"
    vocabulary: str | None = None
    data_dir: str | None = None
    num_tasks: int | None = None
    template_types: tuple[str, ...] | Mapping[str, float] | None = None
    seed: int = 0
    imports: tuple[str, ...] = ()
    max_examples: int | None = None
    for_eval: bool = False
    filters: tuple[Filter, ...] = ()
    datasets_of: Mapping[str, str | int | tuple[str, ...] | None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", filter_settings.read(self.filters))
        field_types.check(self)
        lengths = {str(name): int(length) for name, length in self.feature_lengths.items()}
        if fault := _fault_of_lengths(lengths):
            raise UserError(
                f"feature lengths {lengths} of '{self.mixture}': {fault}; TASK_FEATURE_LENGTHS "
                "(--feature_lengths) gives 'inputs' and 'targets', each at least 2, as {'inputs': 512, 'targets': 128}"
            )
        if not self.cache_dir.strip():
            raise UserError(
                f"the cache folder (CACHE_DIR) of '{self.mixture}' is empty: give a path"
            )
        object.__setattr__(self, "feature_lengths", lengths)
        types = self.template_types
        if isinstance(types, Mapping):
            object.__setattr__(self, "template_types", {str(k): float(v) for k, v in types.items()})
        elif types is not None:
            object.__setattr__(self, "template_types", tuple(types))
        object.__setattr__(self, "imports", tuple(self.imports))

    @property
    def key(self) -> str:
        """16 hex digits over everything but the cache folder; the data folder counts as an absolute path.

        The working directory counts too: relative data files, vocabularies and the user's modules are looked up in it,
        so one request made in two folders may mean two things.
        """
        fields = self.to_json()
        del fields["cache_dir"]
        fields["working_dir"] = os.getcwd()
        folder = resources.data_dir(self.data_dir)
        if folder and "://" not in folder:
            folder = os.path.abspath(os.path.expanduser(folder))
        fields["data_dir"] = folder
        canonical = json.dumps(fields, sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()

    @property
    def manifest_path(self) -> str:
        """`<cache_dir>/manifests/<mixture>-<split>-<key>.json`."""
        name = f"{safe_name(self.mixture)}-{safe_name(self.split)}-{self.key}.json"
        return str(Path(self.cache_dir).expanduser() / "manifests" / name)

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values; `from_json` is its inverse."""
        fields = asdict(self)
        fields["imports"] = list(self.imports)
        if isinstance(self.template_types, tuple):
            fields["template_types"] = list(self.template_types)
        del fields["filters"]
        if self.datasets_of is None:
            del fields["datasets_of"]
        if self.filters:  # a request without any is what it was before there were filters
            fields["filters"] = [filter_settings.to_json(one) for one in self.filters]
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "StoreRequest":
        """Reads what `to_json` wrote.

        Raises:
          UserError: a field that is unknown, or a needed one that is missing.
        """
        known = cls.__dataclass_fields__
        for name in fields:
            if name not in known:
                raise UserError(f"store request: unknown field '{name}'{did_you_mean(name, known)}")
        missing = [n for n in ("mixture", "feature_lengths", "cache_dir") if n not in fields]
        if missing:
            raise UserError(f"store request: field '{missing[0]}' is missing")
        return cls(**fields)


def _fault_of_lengths(lengths: Mapping[str, int]) -> str | None:
    for name in lengths:
        if name not in FEATURES:
            return f"there is no feature '{name}'{did_you_mean(name, FEATURES)}"
    for name in FEATURES:
        if name not in lengths:
            return f"'{name}' is missing"
        if lengths[name] < 2:
            return f"'{name}' is {lengths[name]}"
    return None


def safe_name(name: str) -> str:
    """`name` as a file name: whatever is not a letter, digit, dot, dash or underscore becomes `_`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:120].lstrip(".") or "_"
