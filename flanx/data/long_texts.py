"""Token ids of texts of any length, in little memory: a text far longer than its feature is tokenised in parts.

A tokeniser takes some forty bytes of memory a character, and ids in Python's lists as many again. Only the first of the
ids are kept; of the others the number is all that anybody asks for.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flanx.data.vocabulary import LONG, Vocabulary


class Head(NamedTuple):
    """The first ids of a text, and how many it has altogether."""

    ids: list[int]
    tokens: int


def heads(vocabulary: Vocabulary, texts: Sequence[str], most: int) -> list[Head]:
    """Each text's ids, without end-of-sequence; of a long one no more than the first `most`.

    Args:
      vocabulary: the tokeniser.
      texts: the texts, tokenised together but for the long ones.
      most: ids to keep of a long text.
    """
    short = [text for text in texts if len(text) <= LONG]
    together = iter(vocabulary.encode_batch(short))
    found = []
    for text in texts:
        if len(text) > LONG:
            found.append(_head(vocabulary, text, most))
        else:
            ids = next(together)
            found.append(Head(ids, len(ids)))
    return found


def _head(vocabulary: Vocabulary, text: str, most: int) -> Head:
    kept: list[int] = []
    count = 0
    for part in vocabulary.parts(text):
        ids = vocabulary.encode(part)
        kept += ids[: most - len(kept)]
        count += len(ids)
    return Head(kept, count)
