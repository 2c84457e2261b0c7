"""A trained model opened for use: network, parameters and vocabulary, from a checkpoint of any form."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from flanx import models
from flanx.data import vocabulary as vocabularies
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.interop.source import Source
from flanx.models.config import ModelConfig
from flanx.sharding.axes import Rules
from flanx.sharding.mesh import REPLICATED
from flanx.sharding.params import param_shardings
from flanx.sharding.trees import with_shardings
from flanx.training import initial, params_io
from flanx.training.config import DataConfig
from flanx.training.run_info import VOCABULARY_FILE

CONFIG_FILE = "config.gin"
# Most tokens of questions and answers where a checkpoint does not say what it was trained on.
LENGTHS: Mapping[str, int] = {"inputs": 512, "targets": 512}


@dataclass(frozen=True)
class Trained:
    """A model that can answer.

    Attributes:
      model: the network.
      params: its parameters, float32.
      vocabulary: its vocabulary.
      step: training steps it took; None where the form does not say (exports, Hugging Face).
      folder: where its parameters lie.
      feature_lengths: most tokens it was trained on, `{"inputs": n, "targets": m}`.
      notes: lines for the user on what of it had to be assumed.
    """

    model: Any
    params: Any
    vocabulary: Vocabulary
    step: int | None
    folder: Path
    feature_lengths: Mapping[str, int]
    notes: tuple[str, ...] = ()


def has_config(checkpoint: Path) -> bool:
    """Whether the checkpoint is one of a run, whose configuration is known."""
    return (checkpoint.parent.parent / CONFIG_FILE).is_file()


def config_file(checkpoint: Path) -> str:
    """The gin file of the run that a checkpoint belongs to, where `has_config`."""
    return str(checkpoint.parent.parent / CONFIG_FILE)


def usable_data(
    data: DataConfig, vocabulary: Vocabulary, *, as_trained: bool = False
) -> DataConfig:
    """`data` with the model's vocabulary where it names none, or a file that is gone (a run may be of elsewhere).

    Args:
      data: as configured.
      vocabulary: the model's.
      as_trained: whether the tasks are those of the model's own run, which have a vocabulary where it names none.
    """
    if data.vocabulary is None:
        return data if as_trained else dataclasses.replace(data, vocabulary=vocabulary.spec)
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
    rules: Rules = REPLICATED,
    config: ModelConfig | None = None,
    vocabulary: str | None = None,
    feature_lengths: Mapping[str, int] | None = None,
    source: Source | None = None,
) -> Trained:
    """Opens a checkpoint of any form.

    Args:
      model_dir: what `params_io.find_params` takes: a MODEL_DIR, one of its checkpoints, an export, a T5X checkpoint,
        a Hugging Face folder.
      step: which checkpoint; None for the newest.
      mesh: devices to spread the parameters over, as training does; None for the default device.
      rules: how (`flanx.sharding.mesh.rules_of`).
      config: the network; None for what the checkpoint says.
      vocabulary: spec of the vocabulary where the checkpoint has none beside it.
      feature_lengths: most tokens, where the checkpoint does not say; None for `LENGTHS`.
      source: the checkpoint itself, where it is open already.

    Raises:
      UserError: nothing to open, arrays that do not fit `config`, no vocabulary, or not the one it was trained with.
    """
    from flanx.interop import open_checkpoint

    folder = params_io.find_params(model_dir, step)
    source = source or open_checkpoint(str(folder))
    config = config or source.config
    if config is None:
        raise UserError(
            f"{folder} does not say its model: name it with --gin_file=models/t5_1_1/small.gin, say"
        )
    models.check_answers(config)
    initial.check_model(source, config, mend="Give the checkpoint's own model, or no file for it")
    model = models.build(config)
    loaded = _vocabulary(folder, source, vocabulary)
    if loaded.size > config.vocab_size:
        raise UserError(
            f"vocabulary '{loaded.spec}' has {loaded.size} ids, the model in {folder} {config.vocab_size}"
        )
    abstract = jax.eval_shape(partial(models.init_params, model), jax.random.key(0))
    if mesh is not None:
        abstract = with_shardings(
            abstract, param_shardings(abstract, mesh, config.parameters().logical_axes, rules)
        )
    nonfinite: list[str] = []
    params = initial.restore_params(source, abstract, nonfinite=nonfinite.append)
    # What arrays leave open is told unless the user has said it.
    notes = source.notes if config == source.config or not source.assumed else ()
    return Trained(
        model=model,
        params=params,
        vocabulary=loaded,
        step=source.step,
        folder=folder,
        feature_lengths=lengths_of(folder) or feature_lengths or LENGTHS,
        notes=(*notes, *_warnings(source, nonfinite)),
    )


def _warnings(source: Source, nonfinite: list[str]) -> tuple[str, ...]:
    """One line on arrays that no answer can be right with."""
    if not nonfinite:
        return ()
    more = f" and {len(nonfinite) - 1:,} more" if len(nonfinite) > 1 else ""
    return (
        f"warning: array '{nonfinite[0]}' in {source.where(nonfinite[0])}{more} holds NaN or infinity: its answers "
        "mean nothing; take an earlier checkpoint, or copy it again",
    )


def lengths_of(folder: Path) -> Mapping[str, int] | None:
    """Feature lengths that a checkpoint's run was trained on; None where it does not say."""
    return params_io.read_facts(folder).get("feature_lengths")


def _vocabulary(folder: Path, source: Source, given: str | None) -> Vocabulary:
    """The copy beside the checkpoint if there is one, else what its facts name, else the one given."""
    facts = source.vocabulary
    if not facts:
        if given is None:
            raise UserError(
                f"no vocabulary is known for {folder}: add --gin.VOCABULARY=FILE, the SentencePiece model it was "
                "trained with (T5's is gs://t5-data/vocabs/cc_all.32000/sentencepiece.model)"
            )
        return vocabularies.load(given)
    spec = str(facts["spec"])
    if source.vocabulary_file is not None:
        spec = vocabularies.with_file(spec, str(source.vocabulary_file))
    vocabulary = vocabularies.load(spec)
    if vocabulary.fingerprint != facts["fingerprint"]:
        raise UserError(
            f"vocabulary '{spec}' is not the one that {folder} was trained with "
            f"('{facts['spec']}', {facts['size']} ids); put that model at {folder.parent.parent / VOCABULARY_FILE}"
        )
    return vocabulary
