"""One question to a model and how it is to be answered, and the answer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flanx.errors import did_you_mean

# What `Request` takes besides its tokens: name -> what it must be, in words, and the test for it.
_RULES: dict[str, tuple[str, Callable[..., bool]]] = {
    "max_length": ("a whole number from 1", lambda x: _whole(x) and x >= 1),
    "temperature": ("a number from 0", lambda x: _number(x) and x >= 0),
    "top_k": ("a whole number from 0 (0 is off)", lambda x: _whole(x) and 0 <= x < 1 << 31),
    "top_p": ("a number above 0, up to 1 (1 is off)", lambda x: _number(x) and 0 < x <= 1),
    "seed": ("a whole number from 0 below 2^32", lambda x: _whole(x) and 0 <= x < 1 << 32),
    "stop": ("a list of texts, none of them empty", lambda x: _texts(x)),
    "beams": ("a whole number from 1", lambda x: _whole(x) and x >= 1),
    "alpha": ("a number from 0", lambda x: _number(x) and x >= 0),
    "length_penalty": ("a number", lambda x: x is None or _number(x)),
}
SETTINGS = tuple(_RULES)

EOS_ID = 1  # the end of a sequence in T5's vocabularies, where a caller names no other


@dataclass(frozen=True)
class Request:
    """A question and how it is answered.

    Attributes:
      tokens: ids of the question, end-of-sequence included.
      max_length: most tokens of the answer, end-of-sequence included.
      temperature: 0 takes the likeliest token each time; above, tokens are drawn.
      top_k: draw among the k likeliest; 0 for all.
      top_p: draw among the likeliest that together have this probability; 1 for all.
      seed: of the draws; a token depends on the seed and its position, not on other requests.
      stop: the answer ends before the first of these texts; beam search takes no notice of them, and its best answer
        is cut there.
      beams: above 1, beam search with as many beams.
      alpha: its length penalty, as T5X has it.
      length_penalty: transformers' in its place, with transformers' rules for what is finished; None for T5X's.

    Raises:
      ValueError: a setting is outside of its range, or draws and beams are asked for together.
    """

    tokens: Sequence[int] | np.ndarray
    max_length: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    beams: int = 1
    alpha: float = 0.6
    length_penalty: float | None = None

    def __post_init__(self) -> None:
        wrong = mistake({name: getattr(self, name) for name in SETTINGS})
        if wrong:
            raise ValueError(wrong)


@dataclass(frozen=True)
class Result:
    """The answer to a request.

    Attributes:
      tokens: its ids; the end-of-sequence, or the token that completed a stop text, included.
      text: decoded, without the stop text; empty where the engine has no vocabulary.
      log_probability: of its tokens under the model, whatever the temperature; of a beam search's whole answer, also
        where a stop text cut it.
      ended: by end-of-sequence, by its greatest length, or by a stop text.
    """

    tokens: tuple[int, ...]
    text: str
    log_probability: float
    ended: Literal["eos", "length", "stop"]


def mistake(settings: Mapping[str, object]) -> str | None:
    """What is wrong with some of `SETTINGS`, in words; None where nothing is.

    Args:
      settings: by name; an unknown name is a mistake.
    """
    for name, value in settings.items():
        if name not in _RULES:
            return f"no setting '{name}'{did_you_mean(name, SETTINGS)}"
        wanted, holds = _RULES[name]
        if not holds(value):
            return f"{name}={value!r}: give {wanted}"
    beams, temperature = settings.get("beams", 1), settings.get("temperature", 0)
    if beams != 1 and temperature != 0:
        return f"beams={beams} and temperature={temperature} exclude each other"
    return None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(x, str) and x for x in value)
