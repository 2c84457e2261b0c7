"""What the user asks of a conversion, checked, and turned into a source and a planned target."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanx import resources
from flanx.data import vocabulary as vocabularies
from flanx.errors import UserError
from flanx.interop import flanx_form, shapes
from flanx.interop.detect import open_checkpoint, vocabulary_facts
from flanx.interop.source import Source
from flanx.interop.to_flanx import FlanxTarget
from flanx.interop.to_hf import HfTarget
from flanx.interop.to_t5x import T5xTarget
from flanx.models.config import ModelConfig

FORMS = ("flanx", "t5x", "t5x-orbax", "hf")
DTYPES = ("keep", "float32", "bfloat16")


@dataclass(frozen=True)
class Request:
    """A conversion.

    Attributes:
      source: path of the checkpoint, of any form.
      destination: folder to write.
      form: "flanx", "t5x" (native), "t5x-orbax" or "hf".
      dtype: of the parameters written: "keep" the stored one, "float32" or "bfloat16".
      scanned: stack layers, as the form's own scanned network has them (not hf).
      compress: gzip the arrays, as T5X does (t5x alone).
      vocabulary: spec of the vocabulary, where the source does not bring it.
      config: the network, where the source does not tell it all.
      feature_lengths: most tokens to expect, for a flanx export of a source that does not say.
    """

    source: str
    destination: Path
    form: str
    dtype: str = "keep"
    scanned: bool = False
    compress: bool = False
    vocabulary: str | None = None
    config: ModelConfig | None = None
    feature_lengths: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UserError(f"--to {self.form}: give one of {', '.join(FORMS)}")
        if self.dtype not in DTYPES:
            raise UserError(f"--dtype {self.dtype}: give one of {', '.join(DTYPES)}")
        if self.scanned and self.form == "hf":
            raise UserError(
                "--scanned: a Hugging Face folder has its layers one by one; leave it out"
            )
        if self.compress and self.form != "t5x":
            raise UserError("--compress is for --to t5x; the other forms store arrays as they are")


@dataclass(frozen=True)
class Prepared:
    """A conversion that can start.

    Attributes:
      request: what was asked.
      source: the opened checkpoint.
      config: its network.
      vocabulary: facts on its vocabulary, {} if unknown.
      vocabulary_file: its SentencePiece model, if any.
      notes: remarks for the user.
    """

    request: Request
    source: Source
    config: ModelConfig
    vocabulary: Mapping[str, Any]
    vocabulary_file: Path | None
    notes: tuple[str, ...]

    def target(self, folder: Path) -> FlanxTarget | HfTarget | T5xTarget:
        """The target, planned to be written into `folder`."""
        request, source = self.request, self.source
        if request.form.startswith("t5x"):
            return T5xTarget(
                source,
                folder,
                request.destination,
                dtype=request.dtype,
                scanned=request.scanned,
                compress=request.compress,
                orbax=request.form == "t5x-orbax",
            )
        if request.form == "hf":
            return HfTarget(
                source,
                self.config,
                folder,
                dtype=request.dtype,
                vocabulary=self.vocabulary,
                vocabulary_file=self.vocabulary_file,
            )
        return FlanxTarget(
            source,
            self.config,
            folder,
            dtype=request.dtype,
            scanned=request.scanned,
            facts=self._facts(),
            vocabulary_file=self.vocabulary_file,
        )

    def _facts(self) -> dict[str, Any]:
        """For flanx.json: what the source's own say, the vocabulary, and how long its texts may be."""
        source = self.source
        own = flanx_form.read_facts(source.path).facts if source.form == "flanx" else {}
        facts: dict[str, Any] = {
            name: own[name] for name in ("mixture", "feature_lengths") if name in own
        }
        lengths = self.request.feature_lengths or facts.get("feature_lengths")
        facts["feature_lengths"] = dict(lengths or {"inputs": 512, "targets": 512})
        if self.vocabulary:
            facts["vocabulary"] = dict(self.vocabulary)
            if self.vocabulary_file is not None:
                copy = f"{self.request.destination}/vocabulary.model"
                spec = str(facts["vocabulary"]["spec"])
                facts["vocabulary"]["spec"] = vocabularies.with_file(spec, copy)
        if source.model_type not in (None, "t5"):
            facts["family"] = source.model_type
        if source.kept:
            facts["hf"] = dict(source.kept)
        facts["converted_from"] = {"form": source.form, "step": source.step}
        return facts


def prepare(request: Request) -> Prepared:
    """Opens the source and checks everything that can be checked before anything is written.

    Raises:
      UserError: as `open_checkpoint`; a destination inside the source; a vocabulary that does not fit.
    """
    source = open_checkpoint(request.source, config=request.config)
    config = request.config or source.config
    if config is None and source.form.startswith("t5x"):
        config, _ = shapes.infer(source.params, str(source.path))
    if config is None:
        raise UserError(
            f"{source.path} does not say what network it holds: name it with --gin_file, "
            "for instance --gin_file=models/t5_1_1/small.gin"
        )
    shapes.check(source.params, config, str(source.path), "one network")
    if request.form.startswith("t5x") and config.family != "t5":
        raise UserError(
            f"--to {request.form}: T5X's forms hold a T5, and this is a {config.family}: give flanx or hf"
        )
    _check_apart(source, request)
    vocabulary, file = _vocabulary(source, request, config)
    notes = source.notes
    if request.config is not None:
        notes = tuple(note for note in notes if "assumed" not in note)
    to_t5x = request.form.startswith("t5x")
    if not vocabulary and not to_t5x:
        notes += ("its vocabulary is not known: give --vocabulary to have it written along",)
    elif vocabulary and file is None and request.form == "hf":
        notes += (
            f"vocabulary '{vocabulary['spec']}' has no SentencePiece model: no tokenizer files are written",
        )
    elif vocabulary and to_t5x:
        notes += ("its vocabulary is left out: T5X's checkpoints have no place for one",)
    left = _left_out(source)
    if left and request.form != "hf":
        notes += (
            f"left out of its optimizer state, as no slots of Adafactor for these parameters: {left[0]}"
            + (f" and {len(left) - 1} more" if len(left) > 1 else ""),
        )
    if source.optimizer and request.form == "hf":
        notes += ("optimizer state is left out: Hugging Face's folders have no place for it",)
    if not source.optimizer and to_t5x:
        notes += (
            f"no optimizer state to take along: T5X finds a fresh one at step {source.step or 0}",
        )
    return Prepared(request, source, config, vocabulary, file, notes)


def _left_out(source: Source) -> list[str]:
    """Stored arrays of an optimizer that no view shows; counts and T5X's placeholders of one zero are none of them."""
    if source.form == "hf":
        return []
    shown = {view.stored for view in source.views.values()}
    unseen = ((n, a.info.shape) for n, a in source.stored.items() if n not in shown)
    return [name for name, shape in unseen if shape not in ((), (1,))]


def _check_apart(source: Source, request: Request) -> None:
    inside, outside = request.destination.resolve(), Path(str(source.path)).resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise UserError(f"{inside} and {outside} lie in each other: give a folder elsewhere")


def _vocabulary(
    source: Source, request: Request, config: ModelConfig
) -> tuple[Mapping[str, Any], Path | None]:
    if request.vocabulary is None:
        return source.vocabulary, source.vocabulary_file
    name, extra_ids = vocabularies.parse_spec(request.vocabulary)
    if name == "bytes" or vocabularies.is_tokenizer_json(request.vocabulary):
        loaded = vocabularies.load(request.vocabulary)
        facts: Mapping[str, Any] = {
            "spec": loaded.spec,
            "fingerprint": loaded.fingerprint,
            "size": loaded.size,
        }
        file = None if loaded.path is None else Path(loaded.path)
    else:
        file = Path(resources.resolve(name))
        facts = vocabulary_facts(str(file), extra_ids)
    if facts["size"] > config.vocab_size:
        raise UserError(
            f"--vocabulary {request.vocabulary} has {facts['size']} ids, and array 'token_embedder/embedding' in "
            f"{source.path} {config.vocab_size} rows: they are not of one model"
        )
    known = source.vocabulary.get("fingerprint")
    if known and str(known) != str(facts["fingerprint"]):
        raise UserError(
            f"--vocabulary {request.vocabulary} is not the one that {source.path} was trained with "
            f"('{source.vocabulary['spec']}'): leave it out"
        )
    return facts, file
