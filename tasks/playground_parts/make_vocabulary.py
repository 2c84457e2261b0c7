"""Makes vocabulary.model, the playground's SentencePiece vocabulary:

    python -m flanx.tasks.playground_parts.make_vocabulary [FILE]

Every word that the tasks, the option styles and the pre-training text use is one piece with the space before it;
letters, figures and marks are pieces, and whatever else a text holds falls back to bytes. Takes a few seconds; the
words come out the same wherever it is run.
"""

import io
import re
import string
import sys
from collections.abc import Iterator
from pathlib import Path

from flanx.registry.draws import Draws
from flanx.registry.rendering import options
from flanx.tasks.playground_parts import corpus, statements, words
from flanx.tasks.playground_parts.every import EXERCISES

OUT = Path(__file__).parent / "vocabulary.model"
MULTIPLE = 64  # of the number of pieces, the 100 sentinels included
SENTINELS = 100
_WORD = re.compile(r"[A-Za-z]+|\d+")


def texts() -> Iterator[str]:
    """Text with every word that a rendered example can hold."""
    for exercise in EXERCISES:
        rows = [exercise.row("train", i) for i in range(8)]
        for row in rows:
            yield from (prompt.format(**row) for prompt in exercise.prompts)
            for inputs, targets in exercise.inverted:
                yield f"{inputs.format(**row)} {targets.format(**row)}"
            yield f"{exercise.target.format(**row)} {' '.join(row.get('options', ()))}"
    for make in statements.STATEMENTS:
        yield from (make(Draws(0, "vocabulary", i, make.__name__)) for i in range(300))
    yield from (
        " ".join(corpus.described(Draws(0, "vocabulary", i, "described"))) for i in range(300)
    )
    yield from (*options.STARTS, *options.ENDS)
    for kind in words.KINDS:
        yield f"{kind} {words.plural_kind(kind)} {' '.join(words.KINDS[kind])}"
    for mapping in (words.PLURALS, words.OPPOSITES, words.PAST, words.YOUNG, words.SOUNDS):
        yield " ".join([*mapping, *mapping.values()])
    yield " ".join([*words.COUNTRIES, *(capital for capital, _ in words.COUNTRIES.values())])
    for group in (words.CONTINENTS, words.NAMES, words.ROOMS, words.DAYS, words.MONTHS):
        yield " ".join(group)
    for more in (words.NUMBER_WORDS, words.GOOD, words.BAD, words.REVIEWED, words.LETTERS):
        yield " ".join(more)
    yield " ".join(map(str, range(words.LARGEST_NUMBER + 1)))


def pieces() -> list[str]:
    """One piece a word, sorted, and the marks that open a line of options."""
    found = {word for text in texts() for word in _WORD.findall(text)} - {"extra", "id"}
    return ["▁" + word for word in [*sorted(found), "[", "•", ">", "*", "+", "--"]]


def main(path: Path) -> None:
    """Writes the model, its size with the sentinels a multiple of 64."""
    import sentencepiece

    symbols = pieces()
    marks = string.ascii_letters + string.digits + ".,:;?!'\"()[]{}<>-+*/=#&%$@_•"
    needed = 3 + 256 + len(symbols) + len(marks) + 1  # special ids, bytes, words, marks, the space
    size = -(-(needed + SENTINELS) // MULTIPLE) * MULTIPLE - SENTINELS
    # What room is left goes to the pairs of letters that these words have most, for words that are not pieces.
    lines = [*marks, *("Q" + symbol[1:] for symbol in symbols)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        user_defined_symbols=symbols,
        required_chars=marks,
        character_coverage=1.0,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    print(f"{path}: {len(symbols)} words, {size} pieces and {SENTINELS} sentinels")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
