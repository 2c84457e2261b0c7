"""What a training run is made of. Plain frozen dataclasses: gin fills them at the edge, nothing else reads gin."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flanx.data import filters
from flanx.data.batch_formats import BatchFormat, RowSettings
from flanx.data.filters import Filter
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.evaluation.suites import TRAINED, EvalSuite
from flanx.models.config import ModelConfig
from flanx.sharding.config import MeshConfig
from flanx.training.optimizer import Adafactor, AdamW
from flanx.training.schedules import Constant, Schedule


@dataclass(frozen=True)
class DataConfig:
    """The examples to train on and how they become batches.

    Attributes:
      mixture: mixture, dataset, task, or a glob over them (T5X: MIXTURE_OR_TASK_NAME).
      feature_lengths: most tokens of a row, `{"inputs": n, "targets": m}`, EOS included.
      vocabulary: SentencePiece model (a path, or `pkg://package/file`), or None for the tasks' own.
      cache_dir: where token stores lie.
      data_dir: where relative data files are looked up; None for the environment's FLANX_DATA_DIR.
      split: split of the mixture to train on.
      num_tasks: take only this many datasets, nested: those at N are among those at N' > N.
      template_types: `("zs_opt", ...)` or `{"zs_opt": share, ...}`; None for all: each weighs 1, and `inv` 0.3.
      template_seed: seed of templates, option styles and exemplars.
      imports: modules of the user's that register tasks, or one's name, or None (T5X: MIXTURE_OR_TASK_MODULE).
      max_examples: most examples taken of each task, None for all.
      filters: what leaves out training rows, `("ExactDuplicates()", ...)` or the filters themselves; evaluation never
        has any.
      packing: several examples a row, attention kept apart; False for one example a row.
      block_size: examples that are mixed, shuffled and packed together.
      row_length: positions of a row that holds inputs and targets, as a decoder's do; None for the sum of the feature
        lengths.
      loss_on: of such rows, "targets", or "all" for inputs too.
      prefix: whether inputs of such rows are seen both ways (prefix language model), and not causally.
      cache_workers: processes that fill the store; None for one a core.
    """

    mixture: str
    feature_lengths: Mapping[str, int]
    cache_dir: str
    vocabulary: str | None = None
    data_dir: str | None = None
    split: str = "train"
    num_tasks: int | None = None
    template_types: Mapping[str, float] | tuple[str, ...] | None = None
    template_seed: int = 0
    imports: tuple[str, ...] = ()
    max_examples: int | None = None
    filters: tuple[Filter | str, ...] = ()
    packing: bool = True
    block_size: int = 2048
    row_length: int | None = None
    loss_on: Literal["targets", "all"] = "targets"
    prefix: bool = False
    cache_workers: int | None = None

    def __post_init__(self) -> None:
        _refuse_empty(self, "cache_dir", "vocabulary", "data_dir")
        named = self.imports
        whole = (named,) if isinstance(named, str) else () if named is None else named
        object.__setattr__(self, "imports", whole)

    def rows(self) -> RowSettings:
        """What is said of rows that hold inputs and targets."""
        return RowSettings(self.row_length, self.loss_on, self.prefix)

    def request(self) -> StoreRequest:
        """The token store that training reads."""
        return StoreRequest(
            mixture=self.mixture,
            split=self.split,
            feature_lengths=dict(self.feature_lengths),
            vocabulary=self.vocabulary,
            cache_dir=os.path.expanduser(self.cache_dir),
            data_dir=self.data_dir,
            num_tasks=self.num_tasks,
            template_types=self.template_types,
            seed=self.template_seed,
            imports=tuple(self.imports),
            max_examples=self.max_examples,
            filters=filters.read(self.filters),
        )

    def eval_request(self, suite: EvalSuite) -> StoreRequest:
        """The token store that one evaluation suite reads: this data's lengths, vocabulary and folders.

        Its datasets do not depend on `num_tasks`, unless the suite asks for those trained on.

        Raises:
          UserError: it asks for those trained on in a mixture that is not trained on.
        """
        mixture = suite.mixture or self.mixture
        follows = suite.num_tasks == TRAINED
        if follows and mixture != self.mixture:
            raise UserError(
                f"EvalSuite.num_tasks = '{TRAINED}' of suite '{suite.name}': its mixture is '{mixture}', and "
                f"'{self.mixture}' is trained on; give a number, or leave num_tasks out"
            )
        return StoreRequest(
            mixture=mixture,
            split=suite.split,
            feature_lengths=dict(suite.feature_lengths or self.feature_lengths),
            vocabulary=self.vocabulary,
            cache_dir=os.path.expanduser(self.cache_dir),
            data_dir=self.data_dir,
            num_tasks=None if isinstance(suite.num_tasks, str) else suite.num_tasks,
            template_types=suite.template_types,
            seed=self.template_seed,
            imports=tuple(self.imports),
            max_examples=suite.max_examples,
            for_eval=True,
            datasets_of=self._selection() if follows else None,
        )

    def _selection(self) -> dict[str, Any] | None:
        """What decides which datasets are trained on; None for all of the mixture."""
        if self.num_tasks is None:
            return None
        types = self.template_types
        return {
            "split": self.split,
            "num_tasks": self.num_tasks,
            "template_types": None if types is None else sorted(types),
        }


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy and what is added to it.

    Attributes:
      z_loss: weight of log(Z)^2 (T5X: Z_LOSS).
      label_smoothing: probability spread over the vocabulary (T5X: LABEL_SMOOTHING).
      normalizing_factor: what the summed loss is divided by: None for the number of real target tokens in the
        whole batch, or a constant (T5X: LOSS_NORMALIZING_FACTOR).
      chunks: parts of the targets' length for which logits are made one after the other, so that those of the whole
        batch are never there at once; None for as few as keep a part's float32 logits within 256 MiB a device (32 on
        a CPU).
    """

    z_loss: float = 1e-4
    label_smoothing: float = 0.0
    normalizing_factor: float | None = None
    chunks: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.chunks, int) and self.chunks < 1:
            raise UserError(
                f"LossConfig.chunks is {self.chunks}; give at least 1, or None to choose by size"
            )


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written and which are kept.

    Attributes:
      period: steps between checkpoints; the last step is always saved.
      keep: newest checkpoints kept; None for all.
      keep_best: beside them, the best by `best_metric`.
      best_metric: an evaluation metric, as named in metrics.jsonl; None to keep by age alone.
      best_mode: "max" or "min".
    """

    period: int = 1000
    keep: int | None = 3
    keep_best: int = 1
    best_metric: str | None = None
    best_mode: str = "max"


@dataclass(frozen=True)
class TrainConfig:
    """One training run: `flanx.training.loop.train` needs nothing else.

    Attributes:
      model_dir: where everything of the run is written (T5X: MODEL_DIR).
      model: network configuration.
      data: training examples.
      train_steps: steps of this run (T5X counts the checkpoint's as well; flanx does not).
      batch_size: rows of a global batch.
      optimizer: Adafactor with T5X's numbers unless set.
      schedule: learning rate as a function of the step.
      loss: loss terms and normalisation.
      microbatches: parts of the batch whose gradients are summed one after the other.
      gradient_clip: largest global norm of the gradient, None for no clipping.
      seed: seed of parameters, dropout and the order of examples (T5X: RANDOM_SEED).
      initial_checkpoint_path: parameters to start from (T5X: INITIAL_CHECKPOINT_PATH): a MODEL_DIR, one of its
        checkpoints, exported parameters, a T5X checkpoint or a Hugging Face folder.
      restore_optimizer: what of that checkpoint's optimizer is taken over: "none"; "state", which goes on from the
        checkpoint's step too, as T5X does; or "state_with_step_reset", which counts from 0. On the step depend
        Adafactor's decay and the learning rate's schedule (docs/checkpoints.md says which to choose).
      assignment: pairs (pattern, source) for a restore of parts: which array of the checkpoint an array of the model
        comes from, None for none (`flanx.training.assignment`; T5X: assignment_map).
      evals: evaluation suites.
      eval_period: steps between evaluations; 0 to evaluate only at the ends.
      eval_steps: most batches of each task in teacher-forced evaluation, None for all (T5X: EVAL_STEPS).
      eval_at_start: evaluate before the first step, so that the summary can tell tuned from untuned.
      checkpoint: saving and keeping.
      most_skipped_in_a_row: updates that may be skipped one after the other, because loss or gradient is not finite,
        before the run ends; None to go on whatever comes. Parameters that are still sound see other batches, of which
        ten bad ones in a row are no chance; broken ones never recover.
      hang_seconds: without a step, before the run counts as hung; None to wait for ever. Compiling, evaluating and
        saving are not counted.
      hang_exit: whether a hung run ends (status 75) or says so and waits.
      log_period: steps between lines of metrics.jsonl.
      profile_steps: steps to trace for xprof and TensorBoard, in MODEL_DIR/profile: the pair (first, last), or a number
        of steps, the first of which is step 10; None for no trace.
      mesh: layout of devices.
      prng: JAX random generator of dropout ("threefry2x32", or "rbg", which is faster on TPU).
      compile_cache: folder of compiled programs; None for `<cache_dir>/xla`, "" to keep none.
    """

    model_dir: str
    model: ModelConfig
    data: DataConfig
    train_steps: int
    batch_size: int
    optimizer: Adafactor | AdamW = field(default_factory=Adafactor)
    schedule: Schedule = field(default_factory=Constant)
    loss: LossConfig = field(default_factory=LossConfig)
    microbatches: int = 1
    gradient_clip: float | None = None
    seed: int = 0
    initial_checkpoint_path: str | None = None
    restore_optimizer: Literal["none", "state", "state_with_step_reset"] = "none"
    assignment: tuple[tuple[str | None, ...], ...] = ()
    evals: tuple[EvalSuite, ...] = ()
    eval_period: int = 1000
    eval_steps: int | None = None
    eval_at_start: bool = True
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    most_skipped_in_a_row: int | None = 10
    hang_seconds: float | None = 600.0
    hang_exit: bool = True
    log_period: int = 10
    profile_steps: int | tuple[int, int] | None = None
    mesh: MeshConfig = field(default_factory=MeshConfig)
    prng: str = "threefry2x32"
    compile_cache: str | None = None

    def __post_init__(self) -> None:
        _refuse_empty(self, "model_dir", "initial_checkpoint_path")

    @property
    def cells(self) -> Mapping[str, int]:
        """Positions of a row: of each feature, or of the whole where it has a length of its own."""
        whole = self.data.row_length
        return self.data.feature_lengths if whole is None else {"row": whole}

    def batch_format(self, bos_id: int | None = None) -> BatchFormat:
        """What batches look like, by the model's family; `bos_id` as `ModelConfig.batch_format`."""
        return self.model.batch_format(self.data.feature_lengths, self.data.rows(), bos_id)


def _refuse_empty(config: "DataConfig | TrainConfig", *names: str) -> None:
    """An empty path would mean the working directory: what an unset shell variable leaves."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, str) and not value.strip():
            raise UserError(
                f"{name.upper()} ({type(config).__name__}.{name}) is empty: give a path, or leave it out"
            )
