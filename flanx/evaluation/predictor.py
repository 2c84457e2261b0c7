"""A model's answers to many questions: losses of given targets, greedy answers, scores of options.

Questions of any length go in; they are batched by length (`batching.py`), so that a handful of
compiled programs serves all of them, and results come back in the order of the questions.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from flanx.decoding.greedy import greedy
from flanx.decoding.score import score_continuations
from flanx.evaluation.batching import batch_rows, batches, ladder, padded, rung
from flanx.training.loss import token_loss
from flanx.training.mesh import batch_sharding, replicated

LOGITS_IN_MEMORY = 1 << 26  # float32 cells of a batch's logits on one device, 256 MB

Tokens = Sequence[np.ndarray | Sequence[int]]
Advance = Callable[[int], None]


def _ignore(rows: int) -> None:
    del rows


class Predictor:
    """Compiled functions of one model.

    Args:
      model: a `flanx.models.t5.network.T5`.
      inputs_length: most tokens of a question, the widest batch.
      mesh: devices that share each batch (`flanx.training.mesh`); None for the default device.
        Every process of a multi-process run must ask the same questions.
    """

    def __init__(self, model: Any, inputs_length: int, mesh: Mesh | None = None):
        self._vocab_size = model.config.vocab_size
        self._widths = ladder(inputs_length)
        self._sharding = None if mesh is None else batch_sharding(mesh)
        self._shares = 1 if mesh is None else mesh.shape["replica"] * mesh.shape["data"]
        self._losses, self._greedy, self._scores = _programs(model, mesh)

    def losses(
        self,
        params: Any,
        inputs: Tokens,
        targets: Tokens,
        *,
        batch_size: int,
        advance: Advance = _ignore,
    ) -> np.ndarray:
        """Teacher-forced float64[n, 3]: summed cross-entropy, correct tokens, tokens of each example.

        Args:
          params: the model's parameters.
          inputs: token ids of each question, end-of-sequence included.
          targets: token ids of each answer, end-of-sequence included.
          batch_size: rows of a batch; fewer where their logits would not fit into memory.
          advance: told how many examples were done.
        """
        width = _power(max((len(row) for row in targets), default=1), least=8)
        out = np.zeros((len(inputs), 3))
        rows = self._rows(len(inputs), batch_size, width * self._vocab_size)
        for chosen in batches(_lengths(inputs), rows):
            given = self._put(self._inputs(inputs, chosen, rows))
            wanted = self._put(padded([targets[i] for i in chosen], rows, width))
            out[chosen] = np.asarray(self._losses(params, given, wanted))[: len(chosen)]
            advance(len(chosen))
        return out

    def generate(
        self,
        params: Any,
        inputs: Tokens,
        max_length: int,
        *,
        batch_size: int,
        advance: Advance = _ignore,
    ) -> list[list[int]]:
        """Greedy answers as token ids, `max_length` of them, 0 after the end-of-sequence.

        Args:
          params: the model's parameters.
          inputs: token ids of each question, end-of-sequence included.
          max_length: most tokens of an answer, end-of-sequence included.
          batch_size: rows of a batch.
          advance: told how many questions were done.
        """
        out: list[list[int]] = [[] for _ in inputs]
        rows = self._rows(len(inputs), batch_size)
        for chosen in batches(_lengths(inputs), rows):
            given = self._put(self._inputs(inputs, chosen, rows))
            tokens, _ = self._greedy(params, given, max_length)
            for i, row in zip(chosen, np.asarray(tokens).tolist(), strict=False):
                out[i] = row
            advance(len(chosen))
        return out

    def option_scores(
        self,
        params: Any,
        inputs: Tokens,
        options: Sequence[Tokens],
        *,
        batch_size: int,
        advance: Advance = _ignore,
    ) -> list[list[float]]:
        """Log-probability of each option of each question, summed over the option's tokens.

        Args:
          params: the model's parameters.
          inputs: token ids of each question, end-of-sequence included.
          options: token ids of each question's options, end-of-sequence included.
          batch_size: questions of a batch; fewer where their logits would not fit into memory.
          advance: told how many questions were done.
        """
        out: list[list[float]] = [[] for _ in inputs]
        groups: dict[int, list[int]] = {}
        for i, choices in enumerate(options):
            groups.setdefault(_power(len(choices), least=4, base=4), []).append(i)
        lengths = _lengths(inputs)
        for count, members in sorted(groups.items()):
            longest = max(len(option) for i in members for option in options[i])
            width = _power(longest, least=4)
            # Logits are made option by option.
            rows = self._rows(len(members), batch_size, width * self._vocab_size)
            for part in batches(lengths[members], rows):
                chosen = np.asarray(members)[part]
                given = self._put(self._inputs(inputs, chosen, rows))
                # An empty row of tokens stands for an option that is not there.
                flat = [padded([*options[i], []], count, width) for i in chosen]
                choices_bnl = np.stack([flat[min(r, len(flat) - 1)] for r in range(rows)])
                scores = np.asarray(self._scores(params, given, self._put(choices_bnl)))
                for i, row in zip(chosen, scores.tolist(), strict=False):
                    out[i] = row[: len(options[i])]
                advance(len(chosen))
        return out

    def _rows(self, total: int, batch_size: int, cells_per_row: int = 1) -> int:
        fitting = max(1, self._shares * LOGITS_IN_MEMORY // cells_per_row)
        return batch_rows(total, min(batch_size, fitting), self._shares)

    def _inputs(self, inputs: Tokens, chosen: np.ndarray, rows: int) -> np.ndarray:
        width = rung(max(len(inputs[i]) for i in chosen), self._widths)
        return padded([inputs[i] for i in chosen], rows, width)

    def _put(self, array: np.ndarray) -> jax.Array:
        if self._sharding is None:
            return jnp.asarray(array)
        return jax.make_array_from_callback(array.shape, self._sharding, lambda index: array[index])


@lru_cache(maxsize=16)
def _programs(model: Any, mesh: Mesh | None) -> tuple[Any, Any, Any]:
    """The jitted losses, greedy answers and option scores, shared by every predictor of this model and mesh."""
    # Replicated results can be read on every process.
    jit: Any = jax.jit if mesh is None else partial(jax.jit, out_shardings=replicated(mesh))
    return (
        jit(partial(_example_losses, model)),
        jit(partial(greedy, model), static_argnums=2),
        jit(partial(score_continuations, model)),
    )


def _example_losses(model: Any, params: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """float32[B, 3]: summed loss, correct tokens, tokens of each row. Inputs [B, Li], targets [B, Lt]."""
    previous = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))
    logits = model.apply({"params": params}, inputs, previous, targets)
    result = token_loss(logits, targets)
    real = targets > 0
    sums = (result.loss * real, result.correct & real, real)
    return jnp.stack([jnp.sum(x, axis=1).astype(jnp.float32) for x in sums], axis=1)


def _lengths(rows: Tokens) -> np.ndarray:
    return np.array([len(row) for row in rows], np.int64)


def _power(value: int, *, least: int, base: int = 2) -> int:
    """The first of `least`, `least * base`, ... that is not below `value`."""
    while least < value:
        least *= base
    return least
