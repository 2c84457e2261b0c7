"""Whether two vocabularies give a text the same ids."""

from flanx.data.vocabulary.protocol import Vocabulary


def includes(vocabulary: Vocabulary, other: Vocabulary) -> bool:
    """Whether ids made with `other` mean the same in `vocabulary`.

    True for equal vocabularies, and where they differ only in that `other` has no sentinels.
    """
    if vocabulary.fingerprint == other.fingerprint:
        return True
    return other.extra_ids == 0 and _model_part(vocabulary) == _model_part(other)


def _model_part(vocabulary: Vocabulary) -> str:
    return vocabulary.fingerprint.rpartition("+")[0]
