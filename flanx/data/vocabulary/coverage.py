"""Character coverage: which characters of a text a vocabulary cannot write.

T5's has no line break, tab, brace, backslash, tilde or `<`: a model never sees them, and never answers with them. A
character is covered if it comes back from its own ids, so one that normalisation turns into another (a line break into
a space, an ellipsis into three dots) is lost as well as one without a piece.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flanx.data.vocabulary.protocol import LONG, Vocabulary

_SENTINEL = re.compile(rb"<extra_id_\d+>")  # one token, whatever characters it is written with
KEPT = 32  # characters that a summary keeps
NAMED = 8  # of them that a line names


class Coverage:
    """What of a text a vocabulary cannot write; each character is tried once."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._known: dict[str, bool] = {}
        self._ascii = bytes(i for i in range(128) if self.covers(chr(i)))
        self._sentinels = self._comes_back("<extra_id_0>", "<extra_id_0>")

    def covers(self, character: str) -> bool:
        """Whether the vocabulary can write a character."""
        covered = self._known.get(character)
        if covered is None:
            # By itself, or between letters: some tokenizers strip what stands at an end.
            tried = (character, f"a{character}a")
            covered = any(self._comes_back(character, text) for text in tried)
            self._known[character] = covered
        return covered

    def lost(self, texts: Iterable[str]) -> Counter[str]:
        """How often each character that cannot be written occurs in the texts."""
        counts: Counter[str] = Counter()
        together: list[str] = []
        size = 0
        for text in texts:
            for start in range(0, len(text), LONG):
                together.append(text[start : start + LONG])
                size += len(together[-1])
                if size >= LONG:
                    self._count("".join(together), counts)
                    together, size = [], 0
        self._count("".join(together), counts)
        return counts

    def _count(self, text: str, counts: Counter[str]) -> None:
        content = text.encode("utf-8", "replace")
        if self._sentinels and b"<extra_id_" in content:
            content = _SENTINEL.sub(b"", content)
        # Bytes are deleted ten times as fast as characters are counted, and most texts are of these alone.
        rest = content.translate(None, self._ascii).decode()
        if not rest:
            return
        codes, times = np.unique(np.frombuffer(rest.encode("utf-32-le"), "<u4"), return_counts=True)
        for code, count in zip(codes.tolist(), times.tolist(), strict=True):
            if not self.covers(chr(code)):
                counts[chr(code)] += count

    def _comes_back(self, wanted: str, text: str) -> bool:
        ids = self._vocabulary.encode(text)
        return self._vocabulary.unk_id not in ids and wanted in self._vocabulary.decode(ids)


_coverages: dict[str, Coverage] = {}


def coverage(vocabulary: Vocabulary) -> Coverage:
    """The coverage of a vocabulary, kept with what is known of its characters."""
    known = _coverages.get(vocabulary.fingerprint)
    if known is None:
        known = _coverages[vocabulary.fingerprint] = Coverage(vocabulary)
    return known


@dataclass(frozen=True)
class Unwritable:
    """What of a task's texts a vocabulary cannot write.

    Attributes:
      characters: how many characters.
      kinds: how many different ones.
      commonest: the commonest of them with their counts, the most first.
    """

    characters: int
    kinds: int
    commonest: Mapping[str, int]

    @classmethod
    def of(cls, counts: Counter[str]) -> "Unwritable":
        """A summary of all counts."""
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(counts.total(), len(counts), dict(ordered[:KEPT]))

    @classmethod
    def from_json(cls, told: Any) -> "Unwritable | None":
        """What `to_json` made; None for anything else, as of a store that was written before these were counted."""
        if not isinstance(told, dict) or told.keys() != {"characters", "kinds", "commonest"}:
            return None
        return cls(**told)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "commonest": dict(self.commonest)}

    def __str__(self) -> str:
        r"""`"\n" (1,204), "{" (88), and 3 more`."""
        shown = [f"{_quoted(one)} ({n:,})" for one, n in list(self.commonest.items())[:NAMED]]
        if self.kinds > len(shown):
            shown.append(f"and {self.kinds - len(shown):,} more")
        return ", ".join(shown)


def total(parts: Iterable[Unwritable]) -> Unwritable:
    """Of several tasks together: exact in `characters`, at least in `kinds`."""
    counts: Counter[str] = Counter()
    characters = kinds = 0
    for part in parts:
        counts.update(part.commonest)
        characters += part.characters
        kinds = max(kinds, part.kinds)
    commonest = Unwritable.of(counts)
    return Unwritable(characters, max(kinds, commonest.kinds), commonest.commonest)


def _quoted(character: str) -> str:
    """In quotes; what cannot be seen by its code."""
    return json.dumps(character, ensure_ascii=not character.isprintable())
