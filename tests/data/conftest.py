"""A corpus in memory, for tests of what is laid out rather than of what is on disk."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # for what the tests of this folder share

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("flanx", deadline=None)
settings.load_profile("flanx")


TEXT = "the quick brown fox jumps over the lazy dog and every letter of the alphabet: {x} <y>\n"
LAYOUTS = {
    # Llama 2 and Mistral; Gemma; a model that SentencePiece trains by default with padding last.
    "llama": {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1, "byte_fallback": True},
    "gemma": {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "byte_fallback": True},
    "last": {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3},
    "t5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "endless": {"unk_id": 0, "bos_id": -1, "eos_id": -1, "pad_id": -1},
}


@pytest.fixture(scope="session")
def sentencepiece_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Small models whose special tokens have the ids of several families."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("models")
    (folder / "text.txt").write_text(TEXT * 20)
    for name, layout in LAYOUTS.items():
        identity = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
        sentencepiece.SentencePieceTrainer.Train(
            input=str(folder / "text.txt"),
            model_prefix=str(folder / name),
            model_type="bpe",
            vocab_size=340 if layout.get("byte_fallback") else 80,
            hard_vocab_limit=False,
            minloglevel=2,
            **layout,
            **(identity if layout.get("byte_fallback") else {}),
        )
    return {name: str(folder / f"{name}.model") for name in LAYOUTS}


@dataclass(frozen=True)
class MemoryEntry:
    task: str
    examples: int
    rate: float

    @property
    def path(self) -> str:
        return self.task


class MemoryStore:
    """Has what the loader needs of a TaskStore."""

    def __init__(self, inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]):
        self.num_examples = len(inputs)
        self.example_ids = np.arange(len(inputs), dtype=np.int64) + 1000
        self._features = {"inputs": _flat(inputs), "targets": _flat(targets)}

    def feature(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self._features[name]

    def tokens(self, name: str, index: int) -> list[int]:
        values, offsets = self._features[name]
        return values[offsets[index] : offsets[index + 1]].tolist()


def _flat(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.concatenate(rows).astype(np.uint16), offsets


@dataclass(frozen=True)
class Corpus:
    """A manifest with its stores."""

    entries: tuple[MemoryEntry, ...]
    stores: dict[str, MemoryStore]
    fingerprint: str = "corpus"

    def open(self, folder: Path) -> MemoryStore:
        return self.stores[folder.name]


@pytest.fixture(scope="session")
def corpus() -> Callable[..., Corpus]:
    """Makes a corpus of tasks `t0`, `t1`, ... with the given numbers of examples, of random tokens and lengths."""

    def make(
        sizes: Sequence[int],
        rates: Sequence[float] | None = None,
        longest: tuple[int, int] = (24, 10),
        seed: int = 0,
    ) -> Corpus:
        draw = np.random.default_rng(seed)
        stores = {
            f"t{task}": MemoryStore(
                *(
                    [draw.integers(2, 9000, draw.integers(1, most + 1)) for _ in range(size)]
                    for most in longest
                )
            )
            for task, size in enumerate(sizes)
            if size
        }
        rates = rates or [float(size) for size in sizes]
        entries = [
            MemoryEntry(f"t{task}", size, rate)
            for task, (size, rate) in enumerate(zip(sizes, rates, strict=True))
        ]
        return Corpus(tuple(entries), stores)

    return make
