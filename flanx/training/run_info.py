"""What a MODEL_DIR says of its run (run.json, model-info.txt, config.gin, vocabulary), and whether it is this one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flanx
from flanx import atomic_files
from flanx.data.manifest import Manifest
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.models.config import ModelConfig
from flanx.training.config import TrainConfig
from flanx.training.params_io import read_facts

RUN_FILE = "run.json"
VOCABULARY_FILE = "vocabulary.model"
# A run may go on with these changed: they change no array's shape.
CHANGEABLE = ("dropout_rate", "dtype", "remat", "remat_names", "attention")


def facts(config: TrainConfig, manifest: Manifest, vocabulary: Vocabulary) -> dict[str, Any]:
    """JSON that identifies a run; it goes into run.json and into every checkpoint."""
    return {
        "model": config.model.to_dict(),
        "mixture": config.data.mixture,
        "feature_lengths": dict(manifest.feature_lengths),
        "vocabulary": identity(vocabulary),
        "manifest": manifest.fingerprint,
        "seed": config.seed,
        "initial_checkpoint_path": config.initial_checkpoint_path,
        "flanx_version": flanx.__version__,
    }


def read(model_dir: str | Path) -> dict[str, Any] | None:
    """What is known of the run in a MODEL_DIR: run.json, or where that is missing or damaged, its newest checkpoint's
    copy; None where no run was started."""
    told = _run_file(model_dir)
    return told if told is not None else _newest_facts(model_dir)


def notes(model_dir: str | Path) -> list[str]:
    """Lines on small files that are damaged and made again."""
    path = Path(model_dir) / RUN_FILE
    if not path.is_file() or _run_file(model_dir) is not None:
        return []
    source = "from the newest checkpoint" if has_checkpoint(model_dir) else "anew"
    return [f"{path} was damaged, and is written {source}"]


def _run_file(model_dir: str | Path) -> dict[str, Any] | None:
    """run.json; None where there is none that can be used."""
    try:
        told = json.loads((Path(model_dir) / RUN_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return told if _are_facts(told) else None


def _newest_facts(model_dir: str | Path) -> dict[str, Any] | None:
    """The facts that go into every checkpoint, from the newest in which they can be read."""
    for folder in _checkpoints(model_dir):
        try:
            told = read_facts(folder)
        except (OSError, ValueError):
            continue
        if _are_facts(told):
            return told
    return None


def _are_facts(told: Any) -> bool:
    """Whether JSON is what `facts` makes, as far as a run that resumes relies on it."""
    if not isinstance(told, dict):
        return False
    kinds = {
        "model": dict,
        "vocabulary": dict,
        "feature_lengths": dict,
        "mixture": str,
        "manifest": str,
        "seed": int,
    }
    if not all(isinstance(told.get(name), kind) for name, kind in kinds.items()):
        return False
    vocabulary = told["vocabulary"]
    return isinstance(vocabulary.get("size"), int) and all(
        isinstance(vocabulary.get(name), str) for name in ("spec", "fingerprint")
    )


def check_configuration(config: TrainConfig) -> None:
    """Refuses a MODEL_DIR with a checkpoint of another model's or mixture's run; needs no store, so it comes first.

    Raises:
      UserError: naming both.
    """
    then = read(config.model_dir)
    if then is None or not has_checkpoint(config.model_dir):
        return
    mend = "choose another MODEL_DIR, or set it back"
    ours = config.model.to_dict()
    theirs = {**ours, **then["model"]}
    changed = [name for name in ours if name not in CHANGEABLE and theirs[name] != ours[name]]
    if changed:
        told = ", ".join(
            f"{n} {_short(theirs[n])} there and {_short(ours[n])} here" for n in changed
        )
        raise UserError(
            f"MODEL_DIR '{config.model_dir}' holds a run of another model ({told}): {mend}"
        )
    if then["mixture"] != config.data.mixture:
        raise UserError(
            f"MODEL_DIR '{config.model_dir}' holds a run on mixture '{then['mixture']}', this one is on "
            f"'{config.data.mixture}': {mend}"
        )


def identity(vocabulary: Vocabulary) -> dict[str, Any]:
    """What tells a vocabulary from others, as JSON."""
    return {
        "spec": vocabulary.spec,
        "fingerprint": vocabulary.fingerprint,
        "size": vocabulary.size,
    }


def check_data(config: TrainConfig, now: Mapping[str, Any]) -> None:
    """Refuses to go on with other data: the place in the stream would mean something else.

    Raises:
      UserError: naming both.
    """
    then = read(config.model_dir)
    if then is None or not has_checkpoint(config.model_dir):
        return
    where = f"MODEL_DIR '{config.model_dir}' holds a run"
    mend = (
        "set it back, or start anew in another MODEL_DIR with this one as INITIAL_CHECKPOINT_PATH"
    )
    old, new = then["vocabulary"], now["vocabulary"]
    if old["fingerprint"] != new["fingerprint"]:
        raise UserError(
            f"{where} with vocabulary '{old['spec']}' ({old['size']} ids), this one has '{new['spec']}' "
            f"({new['size']} ids): {mend}"
        )
    for name, what in (("feature_lengths", "feature lengths"), ("seed", "seed")):
        if then[name] != now[name]:
            raise UserError(f"{where} with {what} {then[name]}, this one has {now[name]}: {mend}")
    if then["manifest"] != now["manifest"]:
        raise UserError(
            f"{where} on other contents of mixture '{now['mixture']}' (manifest {then['manifest']} there, "
            f"{now['manifest']} here: tasks, rates, template types or sources have changed): {mend}"
        )


def has_checkpoint(model_dir: str | Path) -> bool:
    """Whether there is anything to go on from."""
    return bool(_checkpoints(model_dir))


def _checkpoints(model_dir: str | Path) -> list[Path]:
    """Folders of checkpoints, newest first."""
    folder = Path(model_dir) / "checkpoints"
    found = [e for e in folder.iterdir() if e.name.isdecimal()] if folder.is_dir() else []
    return sorted(found, key=lambda entry: -int(entry.name))


def write(
    config: TrainConfig,
    now: Mapping[str, Any],
    vocabulary: Vocabulary,
    params: Any,
    config_text: str | None,
) -> None:
    """Writes everything that says what this run is. One process does."""
    folder = Path(config.model_dir)
    atomic_files.write(folder / RUN_FILE, json.dumps(now, indent=1, sort_keys=True) + "\n")
    atomic_files.write(folder / "model-info.txt", model_info(config.model, params))
    if config_text is not None:
        atomic_files.write(folder / "config.gin", config_text)
    if vocabulary.path is not None:
        atomic_files.write(folder / VOCABULARY_FILE, Path(vocabulary.path).read_bytes())


def model_info(model: ModelConfig, params: Any) -> str:
    """Every parameter with its shape, and the sums.

    Args:
      model: the network's configuration.
      params: arrays or `jax.ShapeDtypeStruct`s.
    """
    import jax

    from flanx.sharding.trees import count_parameters, path_names

    rows = [
        ("/".join(path_names(path)), f"{tuple(leaf.shape)}", f"{leaf.size:,}")
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{n:<{widths[0]}}  {s:<{widths[1]}}  {c:>{widths[2]}}" for n, s, c in rows]
    settings = [f"{name} = {value}" for name, value in model.to_dict().items()]
    total = f"parameters: {count_parameters(params):,}"
    return "\n".join(["T5", *settings, "", *lines, "", total]) + "\n"


def _short(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
