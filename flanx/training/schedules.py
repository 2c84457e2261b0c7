"""Learning-rate schedules: frozen dataclasses whose `build()` gives a function of the step.

A step is counted from 0 (the value of `TrainState.step` before the update) and may be a Python number or a traced
array; the rate comes back as a float32 scalar. Warm-ups rise as (step + 1) / warmup_steps, so that no update is lost to
a rate of zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import jax

ScheduleFn = Callable[[Any], "jax.Array"]


class Schedule(Protocol):
    """A learning rate as a function of the step."""

    def build(self) -> ScheduleFn:
        """`step -> learning rate`, traceable."""
        ...


@dataclass(frozen=True)
class Constant:
    """One rate throughout: Flan-T5's is 5e-4 (Chung et al. 2022, Table 22)."""

    learning_rate: float = 5e-4

    def build(self) -> ScheduleFn:
        """`step -> learning_rate`."""
        import jax.numpy as jnp

        return lambda step: jnp.full((), self.learning_rate, jnp.float32)


@dataclass(frozen=True)
class LinearWarmup:
    """A linear rise over `warmup_steps`, then `learning_rate` for good."""

    learning_rate: float = 5e-4
    warmup_steps: int = 1000

    def build(self) -> ScheduleFn:
        """`step -> learning_rate * min(1, (step + 1) / warmup_steps)`."""
        return lambda step: self.learning_rate * _warmup(step, self.warmup_steps)


@dataclass(frozen=True)
class RsqrtDecay:
    """T5's pre-training schedule: `learning_rate / sqrt(max(step, warmup_steps))` (T5X: `constant * rsqrt_decay`).

    During the first `warmup_steps` the rate stands still at learning_rate / sqrt(warmup_steps).
    """

    learning_rate: float = 1.0
    warmup_steps: int = 10_000

    def build(self) -> ScheduleFn:
        """`step -> learning_rate / sqrt(max(step, warmup_steps, 1))`."""
        import jax.numpy as jnp

        floor = max(self.warmup_steps, 1)
        return lambda step: self.learning_rate / jnp.sqrt(jnp.maximum(_float(step), floor))


@dataclass(frozen=True)
class Linear:
    """A warm-up to `learning_rate`, then a straight line to `final` at `decay_steps`, and `final` after it."""

    learning_rate: float = 5e-4
    decay_steps: int = 10_000
    warmup_steps: int = 0
    final: float = 0.0

    def build(self) -> ScheduleFn:
        """`step -> rate`; `decay_steps` counts the warm-up in."""

        def rate(step: Any) -> Any:
            left = 1.0 - _progress(step, self.warmup_steps, self.decay_steps)
            decayed = self.final + (self.learning_rate - self.final) * left
            return decayed * _warmup(step, self.warmup_steps)

        return rate


@dataclass(frozen=True)
class Cosine:
    """A warm-up to `learning_rate`, then half a cosine down to `final` at `decay_steps` (Loshchilov & Hutter 2017)."""

    learning_rate: float = 5e-4
    decay_steps: int = 10_000
    warmup_steps: int = 0
    final: float = 0.0

    def build(self) -> ScheduleFn:
        """`step -> rate`; `decay_steps` counts the warm-up in."""
        import jax.numpy as jnp

        def rate(step: Any) -> Any:
            done = _progress(step, self.warmup_steps, self.decay_steps)
            left = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
            decayed = self.final + (self.learning_rate - self.final) * left
            return decayed * _warmup(step, self.warmup_steps)

        return rate


def _float(step: Any) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(step, jnp.float32)


def _warmup(step: Any, warmup_steps: int) -> Any:
    """Rises from 1 / warmup_steps to 1."""
    import jax.numpy as jnp

    if warmup_steps <= 0:
        return jnp.ones((), jnp.float32)
    return jnp.minimum(1.0, (_float(step) + 1.0) / warmup_steps)


def _progress(step: Any, warmup_steps: int, decay_steps: int) -> Any:
    """Share of the decay that lies behind `step`: 0 until the warm-up ends, 1 from `decay_steps` on."""
    import jax.numpy as jnp

    span = max(decay_steps - warmup_steps, 1)
    return jnp.clip((_float(step) - warmup_steps) / span, 0.0, 1.0)
