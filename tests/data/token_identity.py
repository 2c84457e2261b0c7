"""Compares flanx's tokens with transformers' own, text by text, and prints one JSON line.

    python tests/data/token_identity.py FOLDER...          the tokenizers in these folders, on small texts
    python tests/data/token_identity.py --texts ../shared/data

    python tests/data/token_identity.py --record FOLDER    small tokenizers, and what transformers makes of some texts

Without folders a tokenizer of every family's kind is trained on the texts first. Every line of every file below --texts
is a text, and so is every string of a JSON file; each is compared once.
"""

import argparse
import contextlib
import gzip
import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizer_families

from flanx.data import vocabulary

_TRAINED_ON = 20_000  # characters of them, from everywhere
_BATCH = 1000
_LONGEST = 2_000  # characters of a text


def texts_below(folder: Path) -> Iterator[str]:
    """Every line of every file, and every string of its JSON."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            continue  # no text
        yield from text.split("\n")
        if ".json" in file.name:
            with contextlib.suppress(ValueError):
                yield from _strings(json.loads(text))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def differences(folder: str, texts: Iterable[str]) -> dict[str, Any]:
    """What differs between flanx's tokens and those of `AutoTokenizer` with `add_special_tokens=False`.

    Returns:
      Numbers of texts and tokens; texts whose ids differ, the first three of them; special tokens that differ.
    """
    from transformers import AutoTokenizer

    ours = vocabulary.load(folder)
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    found: dict[str, Any] = {"texts": 0, "tokens": 0, "differ": 0, "first": [], "special": {}}
    batch: list[str] = []

    def compare() -> None:
        expected = theirs(batch, add_special_tokens=False)["input_ids"]
        for text, ids, own in zip(batch, expected, ours.encode_batch(batch), strict=True):
            found["texts"] += 1
            found["tokens"] += len(own)
            if ids != own:
                found["differ"] += 1
                if len(found["first"]) < 3:
                    found["first"].append(text[:100])
        batch.clear()

    for text in texts:
        batch.append(text[:_LONGEST])
        if len(batch) == _BATCH:
            compare()
    compare()
    for name, expected in _special(theirs).items():
        if getattr(ours, name) != expected:
            found["special"][name] = [getattr(ours, name), expected]
    return found


def record(folder: Path) -> None:
    """Writes a small tokenizer of every family, and transformers' ids of some texts in expected.json."""
    from transformers import AutoTokenizer, __version__

    made = tokenizer_families.write_all(folder, tokenizer_families.TEXTS[:4], 400)
    texts = [*tokenizer_families.TEXTS, *tokenizer_families.ODD_TEXTS]
    expected: dict[str, Any] = {"transformers": __version__, "texts": texts}
    for family, path in made.items():
        theirs = AutoTokenizer.from_pretrained(path, local_files_only=True)
        ids = theirs(texts, add_special_tokens=False)["input_ids"]
        expected[family] = {"special": _special(theirs), "ids": ids}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def _special(theirs: Any) -> dict[str, Any]:
    return {
        "eos_id": theirs.eos_token_id,
        "bos_id": theirs.bos_token_id,
        "pad_id": theirs.pad_token_id,
        "adds_bos": theirs.bos_token_id is not None
        and theirs("a")["input_ids"][:1] == [theirs.bos_token_id],
        "size": len(theirs),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", help="Hugging Face folders with a tokenizer.json")
    parser.add_argument("--texts", type=Path, help="folder of texts")
    parser.add_argument("--families", nargs="*", help="train only these")
    parser.add_argument("--record", type=Path, help="write small tokenizers and expected ids here")
    args = parser.parse_args(argv)
    if args.record:
        record(args.record)
        return
    below = dict.fromkeys(texts_below(args.texts)) if args.texts else None
    texts = list(below or tokenizer_families.TEXTS)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders = args.folders
        if not folders:
            longest = [text for text in texts if 100 < len(text) < 2000]
            some = longest[:: max(1, len(longest) // _TRAINED_ON)]
            size = 8000 if args.texts else 600
            made = tokenizer_families.write_all(Path(scratch), some or texts, size)
            chosen = args.families or made
            folders = [str(folder) for family, folder in made.items() if family in chosen]
        result = {Path(folder).name: differences(folder, texts) for folder in folders}
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
