"""A trained model opened for use: network, parameters and vocabulary from a MODEL_DIR or an export."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from flanx import models, resources
from flanx.data import vocabulary as vocabularies
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.evaluation.predictor import Predictor
from flanx.models.t5 import partition
from flanx.models.t5.config import T5Config
from flanx.training import params_io
from flanx.training.config import DataConfig
from flanx.training.mesh import RULES, param_shardings
from flanx.training.run_info import RUN_FILE, VOCABULARY_FILE
from flanx.training.state import with_shardings

CONFIG_FILE = "config.gin"


@dataclass(frozen=True)
class Trained:
    """A model that can answer.

    Attributes:
      model: the network.
      params: its parameters, float32.
      vocabulary: its vocabulary.
      step: training steps it took; None for exported parameters.
      folder: where its parameters lie.
      feature_lengths: most tokens it was trained on, `{"inputs": n, "targets": m}`.
    """

    model: Any
    params: Any
    vocabulary: Vocabulary
    step: int | None
    folder: Path
    feature_lengths: Mapping[str, int]


def find_checkpoint(model_dir: str | os.PathLike[str], step: int | None = None) -> Path:
    """The folder of a run's checkpoint, the newest unless `step` says; or of exported parameters.

    Raises:
      UserError: no such folder, not a MODEL_DIR, no checkpoint yet, or none of that step.
    """
    folder = Path(resources.resolve(str(model_dir)))
    checkpoints = folder / "checkpoints"
    if (folder / "params").is_dir():
        if step is not None and folder.name != str(step):
            raise UserError(f"--step={step}: '{model_dir}' holds one set of parameters, no steps")
        return folder
    if not checkpoints.is_dir():
        if (folder / CONFIG_FILE).exists() or (folder / RUN_FILE).exists():
            raise UserError(f"'{model_dir}' has no checkpoint yet; train it first")
        raise UserError(
            f"'{model_dir}' is no MODEL_DIR: it holds neither checkpoints/ nor exported params/"
        )
    steps = sorted(
        int(entry.name)
        for entry in checkpoints.iterdir()
        if entry.name.isdigit() and (entry / "params").is_dir()
    )
    if not steps:
        raise UserError(f"'{model_dir}' has no checkpoint yet; train it first")
    if step is not None and step not in steps:
        known = ", ".join(map(str, steps))
        raise UserError(f"--step={step}: '{model_dir}' has no such checkpoint (it has {known})")
    return checkpoints / str(steps[-1] if step is None else step)


def has_config(checkpoint: Path) -> bool:
    """Whether the checkpoint is one of a run, whose configuration is known."""
    return (checkpoint.parent.parent / CONFIG_FILE).is_file()


def config_file(checkpoint: Path, model_dir: str | os.PathLike[str]) -> str:
    """The gin file of the run that a checkpoint belongs to.

    Raises:
      UserError: it has none.
    """
    if not has_config(checkpoint):
        raise UserError(
            f"'{model_dir}' has no {CONFIG_FILE}, so its run's suites and data are unknown"
        )
    return str(checkpoint.parent.parent / CONFIG_FILE)


def usable_data(data: DataConfig, vocabulary: Vocabulary) -> DataConfig:
    """`data` of a run that may have been started elsewhere: a vocabulary file that is gone is replaced by the model's.

    Args:
      data: as configured.
      vocabulary: the model's.
    """
    if data.vocabulary is None:
        return data
    try:
        vocabularies.load(data.vocabulary, data.data_dir)
    except UserError:
        return dataclasses.replace(data, vocabulary=vocabulary.spec)
    return data


def open_trained(
    model_dir: str | os.PathLike[str],
    step: int | None = None,
    *,
    mesh: Mesh | None = None,
    rules: partition.Rules = RULES,
) -> Trained:
    """Opens a run's checkpoint or exported parameters.

    Args:
      model_dir: a MODEL_DIR, one of its checkpoints, or an export.
      step: which checkpoint; None for the newest.
      mesh: devices to spread the parameters over, as training does; None for the default device.
      rules: how (`flanx.training.mesh.rules_of`).

    Raises:
      UserError: nothing to open, or the vocabulary is not the one the model was trained with.
    """
    folder = find_checkpoint(model_dir, step)
    facts = params_io.read_facts(folder)
    for needed in ("model", "vocabulary", "feature_lengths"):
        if needed not in facts:
            raise UserError(
                f"{folder} does not say its {needed}: it was not written by flanx train"
            )
    model = models.build(T5Config.from_dict(facts["model"]))
    vocabulary = _vocabulary(folder, facts["vocabulary"])
    if vocabulary.size > model.config.vocab_size:
        raise UserError(
            f"vocabulary '{vocabulary.spec}' has {vocabulary.size} ids, the model in {folder} "
            f"{model.config.vocab_size}"
        )
    abstract = jax.eval_shape(partial(models.init_params, model), jax.random.key(0))
    if mesh is not None:
        abstract = with_shardings(abstract, param_shardings(abstract, mesh, rules))
    params = params_io.restore_params(str(folder), abstract)
    at_step = facts.get("step")
    return Trained(
        model=model,
        params=params,
        vocabulary=vocabulary,
        step=None if at_step is None else int(at_step),
        folder=folder,
        feature_lengths=facts["feature_lengths"],
    )


def answer(
    trained: Trained,
    predictor: Predictor,
    texts: Sequence[str],
    *,
    inputs_length: int,
    max_decode_length: int,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
    clipped: Callable[[int], None] | None = None,
) -> list[str]:
    """Greedy answers to texts; a text beyond `inputs_length` tokens loses its end.

    Args:
      trained: the model.
      predictor: made for its network and `inputs_length`.
      texts: questions.
      inputs_length: most tokens of a question, end-of-sequence included.
      max_decode_length: most tokens of an answer.
      batch_size: rows of a batch.
      advance: told how many were answered.
      clipped: told how many texts lost their end.
    """
    vocabulary = trained.vocabulary
    encoded = vocabulary.encode_batch(list(texts))
    if clipped:
        clipped(sum(len(ids) >= inputs_length for ids in encoded))
    rows = [[*ids[: inputs_length - 1], vocabulary.eos_id] for ids in encoded]
    ids = predictor.generate(
        trained.params,
        rows,
        max_decode_length,
        batch_size=batch_size,
        advance=advance or (lambda count: None),
    )
    return [vocabulary.decode(row) for row in ids]


def _vocabulary(folder: Path, facts: dict[str, Any]) -> Vocabulary:
    """The copy beside the checkpoint if there is one, else what the facts name; it must be the same."""
    spec = facts["spec"]
    name, extra_ids = vocabularies.parse_spec(spec)
    copies = [place / VOCABULARY_FILE for place in (folder, folder.parent.parent)]
    copy = next((path for path in copies if path.is_file()), None)
    if copy is not None and name != "bytes":
        spec = f"{copy}?extra_ids={extra_ids}"
    vocabulary = vocabularies.load(spec)
    if vocabulary.fingerprint != facts["fingerprint"]:
        raise UserError(
            f"vocabulary '{spec}' is not the one that {folder} was trained with "
            f"('{facts['spec']}', {facts['size']} ids); put that model at {copies[-1]}"
        )
    return vocabulary
