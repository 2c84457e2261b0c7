"""Every task of a mixture looked at: share, lengths, what was lost, and what stands out in its texts."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flanx.data import store
from flanx.data.manifest import Entry, Manifest
from flanx.data.vocabulary import Vocabulary
from flanx.data.vocabulary.coverage import Unwritable
from flanx.insight.distribution import Lengths, weighted
from flanx.insight.sample import open_store

LOOKED_AT = 400  # examples of a task whose tokens are read, evenly spread over it
COMMON_ANSWERS = 12


@dataclass(frozen=True)
class Shown:
    """An example to print: texts as stored (or, of a training store, as its tokens decode)."""

    example_id: int
    template: int
    inputs: str
    targets: str
    inputs_tokens: int
    targets_tokens: int


@dataclass(frozen=True)
class TaskFacts:
    """One task, as training will meet it.

    Attributes:
      entry: the manifest's.
      share: of the training examples.
      loss_share: of the target tokens, over which the loss is a mean.
      mean_inputs, mean_targets: tokens of an example.
      clipped_inputs, clipped_targets: share of its examples that were cut.
      longest_inputs, longest_targets: tokens before cutting.
      dropped: rows that did not reach the store, by reason.
      looked_at: examples that the next four are told from.
      answer: its commonest target, decoded.
      answer_share: share of the targets that are that one.
      repeated: share of the examples whose input another, earlier one has.
      unknown: share of input tokens that the vocabulary has no piece for; None where that is not known.
      unwritable: characters of all its texts that the vocabulary cannot write; None where the store does not say.
      shown: examples to print.
    """

    entry: Entry
    share: float
    loss_share: float
    mean_inputs: float
    mean_targets: float
    clipped_inputs: float
    clipped_targets: float
    longest_inputs: int
    longest_targets: int
    dropped: Mapping[str, int]
    looked_at: int = 0
    answer: str = ""
    answer_share: float = 0.0
    repeated: float = 0.0
    unknown: float | None = None
    unwritable: Unwritable | None = None
    shown: tuple[Shown, ...] = ()

    @property
    def source(self) -> str:
        """The collection: what stands before the first dot of the task's name."""
        return self.entry.dataset.partition(".")[0]

    @property
    def lost(self) -> float:
        """Share of the source's rows that did not reach the store."""
        lost = sum(self.dropped.values())
        return lost / max(lost + self.entry.examples, 1)


@dataclass(frozen=True)
class Survey:
    """A mixture looked at.

    Attributes:
      manifest: what it is.
      tasks: in the manifest's order.
      inputs, targets: lengths, weighted by the mixture's rates.
      answers: the targets that training meets most: text, share of the examples, number of tasks.
    """

    manifest: Manifest
    tasks: tuple[TaskFacts, ...]
    inputs: Lengths
    targets: Lengths
    answers: tuple[tuple[str, float, int], ...] = field(default=())


def survey(
    manifest: Manifest,
    cache_dir: str | os.PathLike[str],
    vocabulary: Vocabulary | None,
    *,
    examples: int = 2,
    opened: Iterable[Entry] | None = None,
) -> Survey:
    """Reads every store of the manifest once.

    Args:
      manifest: the mixture.
      cache_dir: what its entries' paths are relative to.
      vocabulary: decodes tokens; None where it is not at hand: no texts then.
      examples: examples kept for printing, of each task.
      opened: the manifest's entries, wrapped to show progress.

    Raises:
      UserError: a store is damaged.
    """
    folder = Path(cache_dir).expanduser()
    shares = task_shares(manifest)
    means = [e.tokens["targets"] / max(e.examples, 1) for e in manifest.entries]
    loss = shares * means
    loss /= max(loss.sum(), 1e-30)
    facts: list[TaskFacts] = []
    inputs, targets = [], []
    answers = _Answers()
    for place, entry in enumerate(manifest.entries if opened is None else opened):
        one = open_store(folder / entry.path)
        share = float(shares[place])
        fact = _facts(entry, one, share, float(loss[place]), vocabulary, examples, answers)
        facts.append(fact)
        inputs.append((share, one.input_lengths, fact.clipped_inputs))
        targets.append((share, one.target_lengths, fact.clipped_targets))
    limits = manifest.feature_lengths
    return Survey(
        manifest,
        tuple(facts),
        weighted(inputs, limits["inputs"], max((f.longest_inputs for f in facts), default=0)),
        weighted(targets, limits["targets"], max((f.longest_targets for f in facts), default=0)),
        answers.commonest(vocabulary),
    )


def lengths(manifest: Manifest, cache_dir: str | os.PathLike[str]) -> tuple[Lengths, Lengths]:
    """Only the lengths of inputs and of targets, weighted by the mixture's rates.

    Raises:
      UserError: a store is damaged.
    """
    found = survey(manifest, cache_dir, None, examples=0)
    return found.inputs, found.targets


def task_shares(manifest: Manifest) -> NDArray[np.float64]:
    """float64[T]: each entry's share of the training examples."""
    rates = np.array([e.rate if e.examples > 0 else 0.0 for e in manifest.entries], np.float64)
    total = rates.sum()
    return rates / total if total > 0 else rates


def _facts(
    entry: Entry,
    one: store.TaskStore,
    share: float,
    loss_share: float,
    vocabulary: Vocabulary | None,
    examples: int,
    answers: "_Answers",
) -> TaskFacts:
    n = max(entry.examples, 1)
    longest = one.meta.get("longest", {})
    known = TaskFacts(
        entry=entry,
        share=share,
        loss_share=loss_share,
        mean_inputs=entry.tokens["inputs"] / n,
        mean_targets=entry.tokens["targets"] / n,
        clipped_inputs=entry.clipped.get("inputs", 0) / n,
        clipped_targets=entry.clipped.get("targets", 0) / n,
        longest_inputs=longest.get("inputs", int(one.input_lengths.max(initial=0))),
        longest_targets=longest.get("targets", int(one.target_lengths.max(initial=0))),
        dropped=entry.dropped,
        unwritable=Unwritable.from_json(one.meta.get("unwritable")),
    )
    if vocabulary is None or not one.num_examples:
        return known
    rows = spread(one.num_examples, LOOKED_AT)
    inputs, targets = _tokens(one, "inputs", rows), _tokens(one, "targets", rows)
    counts = Counter(targets)
    commonest, times = counts.most_common(1)[0]
    answers.add(counts, share / len(rows))
    read = np.frombuffer(b"".join(inputs), one.feature("inputs")[0].dtype)
    looks = {
        "looked_at": len(rows),
        "answer": _decoded(commonest, one, vocabulary),
        "answer_share": times / len(rows),
        "repeated": 1 - len(set(inputs)) / len(rows),
        "unknown": float(np.count_nonzero(read == vocabulary.unk_id) / max(read.size, 1)),
        "shown": tuple(_shown(one, i, vocabulary) for i in spread(one.num_examples, examples)),
    }
    answers.dtype = one.feature("targets")[0].dtype
    return TaskFacts(**{**vars(known), **looks})


def spread(total: int, wanted: int) -> list[int]:
    """At most `wanted` places of `total`, evenly spread: a source sorted by answer is not met at one end alone."""
    count = min(total, wanted)
    return [place * total // count for place in range(count)]


def _tokens(one: store.TaskStore, name: str, rows: Sequence[int]) -> list[bytes]:
    values, offsets = one.feature(name)
    at = np.asarray(rows)
    ends = zip(offsets[at].tolist(), offsets[at + 1].tolist(), strict=True)
    return [values[start:stop].tobytes() for start, stop in ends]


def _decoded(tokens: bytes, one: store.TaskStore, vocabulary: Vocabulary) -> str:
    return vocabulary.decode(np.frombuffer(tokens, one.feature("targets")[0].dtype).tolist())


def _shown(one: store.TaskStore, row: int, vocabulary: Vocabulary) -> Shown:
    text = one.has_text
    references = one.references(row) if text else []
    return Shown(
        example_id=int(one.example_ids[row]),
        template=int(one.templates[row]),
        inputs=one.inputs_text(row) if text else vocabulary.decode(one.inputs(row).tolist()),
        targets=references[0] if references else vocabulary.decode(one.targets(row).tolist()),
        inputs_tokens=int(one.input_lengths[row]),
        targets_tokens=int(one.target_lengths[row]),
    )


class _Answers:
    """The commonest targets over all tasks; those that a task has once only are not counted."""

    def __init__(self) -> None:
        self._shares: defaultdict[bytes, float] = defaultdict(float)
        self._tasks: Counter[bytes] = Counter()
        self.dtype: np.dtype = np.dtype(np.uint16)

    def add(self, counts: Counter[bytes], weight: float) -> None:
        for tokens, count in counts.items():
            if count > 1:
                self._shares[tokens] += count * weight
                self._tasks[tokens] += 1

    def commonest(self, vocabulary: Vocabulary | None) -> tuple[tuple[str, float, int], ...]:
        if vocabulary is None:
            return ()
        first = sorted(self._shares.items(), key=lambda item: (-item[1], item[0]))[:COMMON_ANSWERS]
        return tuple(
            (
                vocabulary.decode(np.frombuffer(tokens, self.dtype).tolist()),
                share,
                self._tasks[tokens],
            )
            for tokens, share in first
        )
