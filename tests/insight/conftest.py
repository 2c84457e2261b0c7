"""Small mixtures written straight into a store, in a vocabulary of bytes so that texts come back as they were."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flanx.data import store, vocabulary
from flanx.data.manifest import Entry, Manifest
from flanx.data.vocabulary.coverage import Unwritable

LIMITS = {"inputs": 64, "targets": 16}


@pytest.fixture
def make(tmp_path) -> Callable[..., tuple[Manifest, Path]]:
    """Writes tasks of (inputs, targets) texts and gives their manifest, saved, and the cache folder."""

    def build(
        tasks: Mapping[str, Sequence[tuple[str, str]]],
        *,
        rates: Mapping[str, float] | None = None,
        dropped: Mapping[str, Mapping[str, int]] | None = None,
        unwritable: Mapping[str, Mapping[str, int]] | None = None,
        limits: Mapping[str, int] = LIMITS,
        **changes: Any,
    ) -> tuple[Manifest, Path]:
        words = vocabulary.load("bytes")
        entries = []
        for name, rows in tasks.items():
            tokens = [(words.encode(a), words.encode(b)) for a, b in rows]
            longest = {
                "inputs": 1 + max(len(a) for a, _ in tokens),
                "targets": 1 + max(len(b) for _, b in tokens),
            }
            examples = [
                store.Example(
                    [*a[: limits["inputs"] - 1], 1], [*b[: limits["targets"] - 1], 1], i, i % 2
                )
                for i, (a, b) in enumerate(tokens)
            ]
            clipped = {
                "inputs": sum(len(a) >= limits["inputs"] for a, _ in tokens),
                "targets": sum(len(b) >= limits["targets"] for _, b in tokens),
            }
            path = f"{name}/train-0123456789abcdef"
            facts: dict[str, Any] = {"task": name, "split": "train", "key": "0123456789abcdef"}
            if unwritable is not None:
                lost = Unwritable.of(Counter(unwritable.get(name, {})))
                facts["unwritable"] = lost.to_json()
            meta = store.write(
                tmp_path / path, examples, {**facts, "longest": longest}, vocabulary_size=words.size
            )
            dataset, _, kind = name.rpartition(".")
            entries.append(
                Entry(
                    task=name,
                    dataset=dataset,
                    type=kind,
                    category="games",
                    path=path,
                    examples=len(rows),
                    rate=(rates or {}).get(name, float(len(rows))),
                    tokens=meta["tokens"],
                    store_bytes=meta["bytes"],
                    content=meta["content"],
                    dropped=(dropped or {}).get(name, {}),
                    clipped=clipped,
                )
            )
        settings = {
            "mixture": "play",
            "split": "train",
            "request": {"mixture": "play", "data_dir": None},
            "feature_lengths": dict(limits),
            "vocabulary": {"spec": "bytes", "fingerprint": words.fingerprint, "size": words.size},
            "entries": tuple(entries),
            "inputs": (),
        }
        manifest = Manifest(**{**settings, **changes})
        manifest.save(tmp_path / "manifests" / "play-train-0123456789abcdef.json")
        return manifest, tmp_path

    return build
