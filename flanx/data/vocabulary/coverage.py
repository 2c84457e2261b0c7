"""Character coverage: which characters of a text a vocabulary cannot write.

T5's has no line break, tab, brace, backslash, tilde or `<`: a model never sees them, and never answers with them. A
character is covered if it comes back from its own ids, so one that normalisation turns into another (a line break into
a space, an ellipsis into three dots) is lost as well as one without a piece.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from flanx.data.vocabulary.protocol import LONG, Vocabulary

_SENTINEL = re.compile(rb"<extra_id_\d+>")  # one token, whatever characters it is written with
NAMED = 8  # characters that a line names


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


@functools.lru_cache(maxsize=4)
def coverage(vocabulary: Vocabulary) -> Coverage:
    """The coverage of a vocabulary, kept with what is known of its characters."""
    return Coverage(vocabulary)


def ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Characters with their counts, the commonest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def named(counts: Mapping[str, int], kinds: int | None = None, most: int = NAMED) -> str:
    r"""`"\n" (1,204), "{" (88)`: the commonest characters with their counts, and how many more there are.

    Args:
      counts: of each character, or of the commonest of them.
      kinds: how many different characters there are altogether; None for those counted.
      most: how many are named.
    """
    shown = [f"{_quoted(one)} ({count:,})" for one, count in ordered(counts)[:most]]
    more = (len(counts) if kinds is None else kinds) - len(shown)
    if more > 0:
        shown.append(f"and {more:,} more")
    return ", ".join(shown)


def _quoted(character: str) -> str:
    """In quotes; what cannot be seen by its code."""
    return json.dumps(character, ensure_ascii=not character.isprintable())
