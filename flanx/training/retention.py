"""Which checkpoints stay when a new one is saved: the newest, the best, and the last one from before the trouble."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orbax.checkpoint import checkpoint_managers

from flanx.training.config import CheckpointConfig


def policy(config: CheckpointConfig, before_skips: Callable[[], int | None]) -> Any:
    """Orbax's preservation policy for a run.

    Args:
      config: how many of the newest and of the best.
      before_skips: the step after which updates began to be skipped; None where none were.
    """
    policies: list[Any] = [checkpoint_managers.LatestN(config.keep), NewestUpTo(before_skips)]
    if config.best_metric is not None and config.keep is not None:
        best = checkpoint_managers.BestN(
            get_metric_fn=best_value,
            reverse=config.best_mode == "min",
            n=config.keep_best,
            keep_checkpoints_without_metrics=False,
        )
        policies.append(best)
    return checkpoint_managers.AnyPreservationPolicy(policies)


@dataclass
class NewestUpTo:
    """Preserves the newest checkpoint that is not after a step, which may change; nothing where that is None."""

    step: Callable[[], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """One answer for each checkpoint (`orbax.checkpoint.checkpoint_managers.PreservationPolicy`)."""
        del context
        last = self.step()
        before = [] if last is None else [info.step for info in checkpoints if info.step <= last]
        return [bool(before) and info.step == max(before) for info in checkpoints]


def best_value(metrics: Mapping[str, float]) -> float:
    """What checkpoints are ranked by."""
    return metrics["best"]
