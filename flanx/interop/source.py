"""A checkpoint of any form as flanx's parameters by name: what is there without reading it, then array by array."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flanx.models.config import ModelConfig

if TYPE_CHECKING:
    import numpy as np

SLOTS = ("m", "v", "v_row", "v_col")


@dataclass(frozen=True)
class ArrayInfo:
    """Shape and dtype of an array that was not read yet."""

    shape: tuple[int, ...]
    dtype: "np.dtype"

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        size = self.dtype.itemsize
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True)
class PlainBytes:
    """Where an array's values lie one after the other in a file.

    Attributes:
      file: the file.
      offset: of the first value.
      columns: whether they are those of the transpose, in C order.
    """

    file: Path
    offset: int = 0
    columns: bool = False


@dataclass(frozen=True)
class StoredArray:
    """An array as a file holds it, under the name that its form gives it.

    Attributes:
      info: shape and dtype.
      where: the file or folder, for messages.
      read: gives the values; raises UserError naming file and array where they are damaged.
      plain: where its bytes can be copied from, if they lie together.
    """

    info: ArrayInfo
    where: str
    read: Callable[[], "np.ndarray"]
    plain: PlainBytes | None = None


@dataclass(frozen=True)
class View:
    """A flanx array within a stored one.

    Attributes:
      stored: name of the array in the form's own naming.
      axis, index: the slice to take where layers are stacked; None for all of it.
      joined: the first of two axes of what was taken that become one (heads and their width); None for none.
      transposed: whether the (two) axes of what is left change places.
    """

    stored: str
    axis: int | None = None
    index: int = 0
    transposed: bool = False
    joined: int | None = None

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the view of an array of shape `stored`."""
        kept = tuple(n for i, n in enumerate(stored) if i != self.axis)
        if self.joined is not None:
            at = self.joined
            kept = (*kept[:at], kept[at] * kept[at + 1], *kept[at + 2 :])
        return kept[::-1] if self.transposed else kept

    def take(self, array: "np.ndarray") -> "np.ndarray":
        """The view itself; shares memory with `array` where it can."""
        taken = array if self.axis is None else array.take(self.index, self.axis)
        if self.joined is not None:
            taken = taken.reshape(replace(self, axis=None, transposed=False).shape(taken.shape))
        return taken.T if self.transposed else taken


@dataclass
class _LastRead:
    """The stacked array that was read last, so that its layers cost one read."""

    name: str | None = None
    array: "np.ndarray | None" = None


@dataclass(frozen=True)
class Source:
    """A checkpoint that was opened by `flanx.interop.open_checkpoint`.

    Iterate over `params` and `optimizer` in their own order: it reads every stored array once, stacked ones too.

    Attributes:
      form: "flanx", "t5x", "t5x-orbax" or "hf".
      path: the folder of the checkpoint itself (of the newest, where a folder of several was given).
      config: the network; None where the arrays alone cannot tell it.
      step: steps taken, None where the form does not say.
      vocabulary_file: the SentencePiece model beside it, if any.
      vocabulary: facts on the vocabulary as run.json has them ({"spec", "fingerprint", "size"}), {} if unknown.
      params: flanx's unrolled name ("encoder/layers_0/attention/query/kernel") -> shape and dtype as stored.
      optimizer: "<param>/<slot>" -> the same, for each slot of T5X's Adafactor that is in use; {} for none.
      assumed: fields of `config` that the arrays could not tell (T5X's forms).
      counted: what the optimizer itself has counted, where that is another than `step` (a run of flanx that took its
        state over from another checkpoint); see `optimizer_step`.
      model_type: Hugging Face's name of its network ("mt5", "llama"), None where the form does not keep it.
      kept: what no number depends on and a Hugging Face folder says, special ids for instance.
      notes: one line each on what was chosen or left out, for the user.
    """

    form: str
    path: Path
    config: ModelConfig | None
    step: int | None
    vocabulary_file: Path | None
    vocabulary: Mapping[str, object]
    params: Mapping[str, ArrayInfo]
    optimizer: Mapping[str, ArrayInfo]
    assumed: tuple[str, ...]
    notes: tuple[str, ...]
    views: Mapping[str, View] = field(repr=False)
    stored: Mapping[str, StoredArray] = field(repr=False)
    counted: int | None = None
    model_type: str | None = None
    kept: Mapping[str, object] = field(default_factory=dict, repr=False)
    _last: _LastRead = field(default_factory=_LastRead, repr=False, compare=False)

    @property
    def optimizer_step(self) -> int | None:
        """The step that the optimizer's state is of: its own count, else the checkpoint's step."""
        return self.step if self.counted is None else self.counted

    def read(self, name: str) -> "np.ndarray":
        """One parameter, on the host, in the stored dtype.

        Raises:
          KeyError: no such parameter.
          UserError: its file is damaged; names both.
        """
        if name not in self.params:
            raise KeyError(name)
        return self._read(name)

    def read_optimizer(self, name: str) -> "np.ndarray":
        """One slot, "<param>/<slot>", as `read` does."""
        if name not in self.optimizer:
            raise KeyError(name)
        return self._read(name)

    def where(self, name: str) -> str:
        """The file or folder that holds a parameter or slot."""
        return self.stored[self.views[name].stored].where

    def _read(self, name: str) -> "np.ndarray":
        view = self.views[name]
        if view.axis is None:
            return view.take(self.stored[view.stored].read())
        if self._last.name != view.stored or self._last.array is None:
            self._last.array = None  # the memory of the one before, first
            self._last.array, self._last.name = self.stored[view.stored].read(), view.stored
        return view.take(self._last.array)


def infos(
    views: Mapping[str, View], stored: Mapping[str, StoredArray], names: Iterable[str]
) -> dict[str, ArrayInfo]:
    """What the views show, without reading."""
    found = {}
    for name in names:
        view, info = views[name], stored[views[name].stored].info
        found[name] = ArrayInfo(view.shape(info.shape), info.dtype)
    return found
