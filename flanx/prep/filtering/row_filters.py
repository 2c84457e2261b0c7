"""The filters that judge one example at a time, inside the work item that renders it."""

import functools
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanx.data.filters import (
    PREFIX,
    Decontaminate,
    Filter,
    Function,
    Language,
    Length,
    label,
)
from flanx.errors import UserError, did_you_mean
from flanx.prep.filtering import content, libraries, user_function
from flanx.prep.filtering.content import Content
from flanx.prep.filtering.example import Example
from flanx.prep.filtering.ngrams import words
from flanx.prep.filtering.overlap_index import Index

if TYPE_CHECKING:
    from flanx.prep.work_item import WorkItem
    from flanx.registry import TaskSpec

# In the key of every store with filters that see one example at a time. Raise it when one of them keeps what it
# dropped, drops what it kept, or counts it under another name.
VERSION = 1
Judge = Callable[[Example], str | None]


class RowFilters:
    """An item's row-wise filters, in the order given: the first that refuses an example counts it.

    Args:
      item: the task, its filters and the index files of Decontaminate.
      spec: the task; None for one that flanx did not register, whose texts stand for its fields.
    """

    def __init__(self, item: "WorkItem", spec: "TaskSpec | None"):
        self._item = item
        self._spec = spec
        self.needs_fields = spec is not None and any(
            isinstance(one, Language | Function) for one in item.filters
        )
        overlaps = iter(item.overlaps)
        self._judges: list[Judge] = []
        for one in item.filters:
            path = next(overlaps) if isinstance(one, Decontaminate) else None
            self._judges.append(self._judge(one, path))

    def reason(
        self,
        index: int,
        inputs: str,
        targets: str,
        tokens: tuple[int, int],
        fields: Mapping[str, Any] | None = None,
        options: Sequence[str] | None = None,
    ) -> str | None:
        """Why an example is dropped, in the words of the manifest; None where it stays.

        Args:
          index: place of its row.
          inputs, targets: the rendered texts.
          tokens: how many tokens they have, without end-of-sequence.
          fields: the row's fields; not looked at unless `needs_fields`.
          options: the answers to choose from.
        """
        example = Example(
            self._item.task,
            self._item.split,
            index,
            inputs,
            targets,
            *tokens,
            fields=fields or {},
            options=None if options is None else tuple(options),
        )
        for judge in self._judges:
            why = judge(example)
            if why is not None:
                return why
        return None

    def _judge(self, one: Filter, overlap: str | None) -> Judge:
        if isinstance(one, Length):
            return functools.partial(_length, one)
        if isinstance(one, Language):
            return language_judge(one, self._content)
        if isinstance(one, Function):
            return functools.partial(_function, one, user_function.load(one))
        assert isinstance(one, Decontaminate) and overlap is not None
        index = Index.read(os.path.join(self._item.cache_dir, overlap))
        return functools.partial(_overlap, one, index)

    def _content(self, example: Example) -> Content:
        if self._spec is None:
            return Content((example.inputs,), (example.targets,))
        return self._reader.content(example.fields)

    @functools.cached_property
    def _reader(self) -> content.Reader:
        assert self._spec is not None
        item = self._item
        return content.reader(self._spec, item.split, item.data_dir, item.max_examples)


def _length(one: Length, example: Example) -> str | None:
    text = example.inputs if one.of == "inputs" else example.targets
    if one.unit == "tokens":
        size = example.input_tokens if one.of == "inputs" else example.target_tokens
    else:
        size = len(text) if one.unit == "characters" else len(words(text))
    return None if one.min <= size and (one.max is None or size <= one.max) else label(one)


def language_judge(one: Language, content_of: Callable[[Example], Content]) -> Judge:
    """What drops rows in other languages; `content_of` gives the texts that tell.

    Raises:
      UserError: a language to keep that is never found, so that nothing of it would stay.
    """
    known = list(language_identifier().nb_classes)
    for code in one.keep:
        if code not in known:
            raise UserError(
                f"filter Language: keep names '{code}'{did_you_mean(code, known)}; give codes that py3langid knows, "
                "'en' or 'fr', say"
            )
    classify = language_identifier().classify

    def judge(example: Example) -> str | None:
        found = content_of(example)
        for side in one.of:
            text = "\n".join(found.inputs if side == "inputs" else found.targets)
            if sum(map(str.isalpha, text)) < one.shortest:
                continue
            language, probability = classify(text)
            if language not in one.keep and probability >= one.probability:
                return label(one)
        return None

    return judge


@functools.cache
def language_identifier() -> Any:
    """py3langid's own model, with probabilities; it takes a second to load."""
    langid = libraries.load("py3langid", "Language")
    model = langid.langid.MODEL_FILE
    return langid.langid.LanguageIdentifier.from_model_file(model, norm_probs=True)


def _overlap(one: Decontaminate, index: Index, example: Example) -> str | None:
    return label(one) if index.meets(example.inputs) or index.meets(example.targets) else None


def _function(one: Function, function: Callable[[Example], Any], example: Example) -> str | None:
    try:
        answer = function(example)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"filter {one.name} fails on row {example.index} of task '{example.task}' "
            f"({example.split}): {text} ({Path(place.filename).name}:{place.lineno})"
        ) from error
    if answer is True:
        return None
    if answer is False:
        return label(one)
    if isinstance(answer, str) and answer.strip():
        return f"{PREFIX}{' '.join(answer.split())}"
    raise UserError(
        f"filter {one.name} returns {answer!r} for row {example.index} of task '{example.task}'; "
        "return True to keep it, False or a reason to drop it"
    )
