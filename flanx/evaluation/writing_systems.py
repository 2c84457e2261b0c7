"""Words of any writing system, for metrics whose own tokenizer knows English alone.

rouge_score keeps the letters a to z and the digits, and drops the rest: of a Chinese or an Arabic answer nothing is
left, and a perfect one scores 0. sacrebleu's default takes a Chinese sentence for one word, with the same end. Here a
text is told from one that those tokenizers can read, and split by its own script.

Super-Natural-Instructions' multilingual track splits by the byte-level pieces of GPT-2. That vocabulary is a download,
and its pieces of a Chinese or Thai character are parts of its UTF-8 bytes; words and characters stand in for them.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

# Scripts that put no space between words: every character, with its marks, counts as a word.
UNSPACED = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
# sacrebleu's tokenizers: its default, characters of Chinese among other words, every character.
DEFAULT, CHINESE, CHARACTERS = "13a", "zh", "char"


def words(text: str) -> list[str]:
    """Lower-case words of a text: runs of letters, marks and digits; characters where the script has no spaces."""
    return _patterns()["word"].findall(text.lower())


def mostly_beyond_ascii(text: str) -> bool:
    """Whether most words of a text hold no letter a-z and no digit 0-9.

    A name in another script or a Greek letter leaves an English text English, and an accent a word of German.
    """
    if text.isascii():
        return False
    found = words(text)
    kept = sum(any(c.isascii() for c in word) for word in found)
    return 2 * kept < len(found)


def bleu_tokenizer(references: Iterable[str]) -> str:
    """The tokenizer of sacrebleu for a corpus, by the script that most of its references' letters are of."""
    patterns = _patterns()
    letters = unspaced = han = other = 0
    for text in references:
        letters += sum(c.isalnum() for c in text)
        unspaced += len(patterns["unspaced"].findall(text))
        han += len(patterns["han"].findall(text))
        other += len(patterns["kana"].findall(text))
    if 2 * unspaced <= letters:
        return DEFAULT
    # sacrebleu's own for Japanese wants MeCab and a dictionary; characters need neither.
    return CHINESE if 2 * han > unspaced and not other else CHARACTERS


@cache
def _patterns() -> dict[str, Any]:
    import regex  # knows scripts, which re does not

    unspaced = "".join(rf"\p{{{name}}}" for name in UNSPACED)
    return {
        # V1 allows the difference of two sets.
        "word": regex.compile(
            rf"[\p{{L}}\p{{N}}&&[{unspaced}]]\p{{M}}*|[\p{{L}}\p{{M}}\p{{N}}--[{unspaced}]]+",
            regex.V1,
        ),
        "unspaced": regex.compile(rf"[\p{{L}}\p{{N}}&&[{unspaced}]]", regex.V1),
        "han": regex.compile(r"\p{Han}"),
        "kana": regex.compile(r"[\p{Hiragana}\p{Katakana}]"),
    }
