"""Opens a checkpoint of any form: says which form it is, what is in it, and gives it flanx's names."""

from dataclasses import replace
from pathlib import Path

from flanx import resources
from flanx.data import vocabulary
from flanx.errors import UserError
from flanx.interop import flanx_form, hf, layouts, shapes, t5x_form
from flanx.interop.hf import folder as hf_folder
from flanx.interop.places import Place
from flanx.interop.source import Source, StoredArray, View, infos
from flanx.models.config import ModelConfig

_FORMS = (
    "a flanx MODEL_DIR, checkpoint or export; a T5X checkpoint_<step>; or a Hugging Face folder with config.json and "
    "model.safetensors"
)


def open_checkpoint(path: str, *, config: ModelConfig | None = None) -> Source:
    """A checkpoint of flanx, T5X or Hugging Face, its arrays listed but not read.

    Args:
      path: a folder on this machine, `pkg://...`, or (T5X) `gs://...`; of several checkpoints the newest is taken.
      config: the network it must hold; else the one that the checkpoint says it holds. What T5X's arrays imply is
        given as `config`, but not held against them.

    Raises:
      UserError: no checkpoint, one that is not whole, or arrays that are missing, unknown or of another shape than
        the configuration says; in one line that names file and array.
    """
    found = resources.resolve_checkpoint(path.rstrip("/") if len(path) > 1 else path)
    if "://" in found:
        if not found.startswith("gs://"):
            raise UserError(
                f"'{path}': checkpoints are read from local folders and (T5X's) from gs://"
            )
        source = _t5x(Place(found), path)
    else:
        source = _local(Path(found), path)
    if config is not None:
        shapes.check(source.params, config, str(source.path), "this model")
    elif source.config is not None and not source.assumed:
        shapes.check(source.params, source.config, str(source.path), _told_by(source))
    _check_vocabulary(source)
    return source


def _local(folder: Path, given: str) -> Source:
    if folder.is_file():
        if folder.name not in (t5x_form.MESSAGE, hf_folder.WEIGHTS, hf_folder.INDEX):
            raise UserError(f"'{given}' is a file: give the checkpoint's folder")
        folder = folder.parent
    if flanx_form.looks_like(folder):
        return _flanx(folder)
    if hf_folder.looks_like(folder):
        return _hf(folder)
    return _t5x(Place(str(folder)), given)


def _flanx(given: Path) -> Source:
    folder, stored, params, slots, (step, count) = flanx_form.read(str(given))
    beside = flanx_form.read_facts(folder)
    notes = (
        () if folder == given else (f"of {given}, its newest checkpoint {folder.name} is taken",)
    )
    config = beside.config
    facts = beside.facts.get("vocabulary") or {}
    file = beside.vocabulary_file
    source = _source("flanx", folder, config, step, file, facts, stored, params, slots, notes)
    known, kept = beside.facts.get("family"), beside.facts.get("hf")
    return replace(
        source,
        counted=count,
        model_type=known if known in hf.MODEL_TYPES else None,
        kept=kept if isinstance(kept, dict) else {},
    )


def _hf(folder: Path) -> Source:
    contents = hf_folder.read(folder)
    config, notes = contents.config, contents.notes
    file = folder / hf_folder.VOCABULARY
    facts: dict[str, object] = {}
    if file.is_file():
        facts = vocabulary_facts(str(file), hf_folder.extra_ids(folder, config.vocab_size))
    elif (folder / "tokenizer.json").is_file():
        notes += (f"no {file.name} beside tokenizer.json: the vocabulary is not taken along",)
    at = file if file.is_file() else None
    stored, params = dict(contents.stored), contents.views
    source = _source("hf", folder, config, None, at, facts, stored, params, {}, notes)
    return replace(source, model_type=contents.model_type, kept=contents.kept)


def _t5x(place: Place, given: str) -> Source:
    names = place.children()
    notes: tuple[str, ...] = ()
    if t5x_form.MESSAGE not in names and "state" not in names:
        steps = t5x_form.steps(place)
        if not steps:
            there = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise UserError(
                f"'{given}' holds no checkpoint (it has {there or 'nothing'}): give {_FORMS}"
            )
        if len(steps) > 1:
            notes = (
                f"of {len(steps)} checkpoints in {place}, the newest, step {max(steps)}, is taken",
            )
        place = place / steps[max(steps)]
        names = place.children()
    if t5x_form.MESSAGE in names:
        form, (stored, step) = "t5x", t5x_form.read_native(place)
    elif "state" in names:
        form, (stored, step) = "t5x-orbax", t5x_form.read_orbax(place)
    else:
        raise UserError(
            f"{place} has neither '{t5x_form.MESSAGE}' nor 'state': T5X did not finish it, take another step"
        )
    params = layouts.param_views(stored, "target/")
    slots = layouts.slot_views(params, stored, "target/", "state/param_states/{param}/{slot}")
    source = _source(form, place.path, None, step, None, {}, stored, params, slots, notes)
    try:
        config, assumed = shapes.infer(source.params, str(place))
    except UserError:
        return source
    told = ", ".join(f"{name} {getattr(config, name)}" for name in assumed)
    notes += (f"T5X's arrays do not tell everything; assumed: {told}",)
    return replace(source, config=config, assumed=assumed, notes=notes)


def vocabulary_facts(file: str, extra_ids: int) -> dict[str, object]:
    """Of a SentencePiece model, what run.json says of a vocabulary.

    Raises:
      UserError: not a SentencePiece model.
    """
    spec = file if extra_ids == vocabulary.DEFAULT_EXTRA_IDS else f"{file}?extra_ids={extra_ids}"
    loaded = vocabulary.load(spec)
    return {"spec": loaded.spec, "fingerprint": loaded.fingerprint, "size": loaded.size}


def _source(
    form: str,
    path: Path,
    config: ModelConfig | None,
    step: int | None,
    file: Path | None,
    facts: dict[str, object],
    stored: dict[str, StoredArray],
    params: dict[str, View],
    slots: dict[str, View],
    notes: tuple[str, ...],
) -> Source:
    views = {**params, **slots}
    return Source(
        form=form,
        path=path,
        config=config,
        step=step,
        vocabulary_file=file,
        vocabulary=facts,
        params=infos(views, stored, params),
        optimizer=infos(views, stored, slots),
        assumed=(),
        notes=notes,
        views=views,
        stored=stored,
    )


def _told_by(source: Source) -> str:
    if source.form == "hf":
        return f"its {hf_folder.CONFIG}"
    return "the model it was saved with"


def _check_vocabulary(source: Source) -> None:
    size, table = source.vocabulary.get("size"), "token_embedder/embedding"
    if table not in source.params:
        return
    rows = source.params[table].shape[0]
    if isinstance(size, int) and rows < size:
        raise UserError(
            f"array '{table}' in {source.where(table)} has {rows} rows, and the vocabulary "
            f"{source.vocabulary_file or source.vocabulary['spec']} has {size} ids: they are not of one model"
        )
