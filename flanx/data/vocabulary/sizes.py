"""How many rows a model's embedding needs for a vocabulary."""

from flanx.data.vocabulary.protocol import Vocabulary


def padded_size(vocabulary: Vocabulary | int, multiple: int = 128) -> int:
    """The number of ids, raised to a multiple: rows beyond the vocabulary's own are never read.

    Matrix units work in tiles of 128, and a table divides among devices only where its rows do; T5's 32,100 ids make
    32,128 rows.

    Args:
      vocabulary: the vocabulary, or its number of ids.
      multiple: at least 1.

    Raises:
      ValueError: a multiple below 1.
    """
    if multiple < 1:
        raise ValueError(f"multiple is {multiple}, and must be at least 1")
    size = vocabulary if isinstance(vocabulary, int) else vocabulary.size
    return -(-size // multiple) * multiple
