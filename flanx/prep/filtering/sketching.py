"""How sketches are made: hashes of a row's texts, its n-grams, and the bands of their MinHash signature."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flanx import registry
from flanx.data import store, vocabulary
from flanx.data.filters import Filter, NearDuplicates
from flanx.data.request import safe_name
from flanx.prep.filtering import arrow_file, filter_keys, libraries, ngrams
from flanx.prep.filtering import content as contents
from flanx.prep.filtering.content import Content
from flanx.prep.filtering.ngrams import mixed, shingles, words
from flanx.prep.filtering.sketch import BATCH, FOLDER, whole

if TYPE_CHECKING:
    from flanx.prep.work_item import WorkItem, WorkResult

# In the key of every sketch. Raise it when the same rows give other hashes, sets or bands, or the file another layout.
# `sketch` belongs to it.
VERSION = 1
_RECALL = 0.99  # of the pairs whose similarity is the threshold
_LABEL_WORDS = 5  # an answer of no more words is right or wrong as a whole
_TARGETS = np.uint64(0x5851F42D4C957F2D)  # keeps n-grams of targets apart from those of inputs


def of_item(item: "WorkItem", result: "WorkResult") -> str:
    """Sketches the rows of the item's dataset, unless that is done, and says where, relative to the cache folder.

    Args:
      item: the first task of its dataset; its `sketch` names the filters.
      result: the store that it made, whose tokens stand for the fields of a SeqIO task that flanx did not register.
    """
    if item.bare:
        described: Any = [result.meta["key"], item.vocabulary]
        dataset = item.task
    else:
        spec = registry.get_task(item.task)
        described = filter_keys.described(spec, item.split, item.data_dir, item.max_examples)
        dataset = spec.dataset
    path = _relative_path(dataset, item.split, described, item.sketch)
    final = Path(item.cache_dir) / path
    if item.force or not whole(final):
        rows = _stored_rows(item, result) if item.bare else _source_rows(item)
        write(final, rows, item.sketch)
    return path


def _source_rows(item: "WorkItem") -> Iterator[tuple[int, Content]]:
    spec = registry.get_task(item.task)
    reader = contents.reader(spec, item.split, item.data_dir, item.max_examples)
    for index, fields in reader.rows(item.split, item.data_dir, item.max_examples):
        yield index, reader.content(fields)


def _stored_rows(item: "WorkItem", result: "WorkResult") -> Iterator[tuple[int, Content]]:
    words = vocabulary.load(item.vocabulary, item.data_dir)
    found = store.open(Path(item.cache_dir) / result.path)
    for i, index in enumerate(found.example_ids.tolist()):
        texts = (words.decode(found.inputs(i).tolist()), words.decode(found.targets(i).tolist()))
        yield index, Content((texts[0],), (texts[1],))


@dataclass(frozen=True)
class Bands:
    """How a signature is cut: two rows are compared where they agree in all values of one band.

    Attributes:
      count: bands.
      rows: values a band.
    """

    count: int
    rows: int

    def recall(self, similarity: float) -> float:
        """Probability that a pair of that similarity is compared (Leskovec et al., Mining of Massive Datasets, 3.4)."""
        return float(1 - (1 - similarity**self.rows) ** self.count)


def bands(one: NearDuplicates) -> Bands:
    """The widest bands, so the fewest comparisons, that find 99 % of the pairs at the threshold."""
    best = Bands(one.permutations, 1)
    for rows in range(2, one.permutations + 1):
        cut = Bands(one.permutations // rows, rows)
        if cut.recall(one.threshold) >= _RECALL:
            best = cut
    return best


def near(filters: Iterable[Filter]) -> NearDuplicates | None:
    """The NearDuplicates among the filters, of which there is at most one."""
    return next((one for one in filters if isinstance(one, NearDuplicates)), None)


def _relative_path(dataset: str, split: str, described: Any, filters: Sequence[Filter]) -> str:
    one = near(filters)
    parts = {
        "rows": described,
        "near": None if one is None else {"words": one.words, "permutations": one.permutations},
        "bands": None if one is None else vars(bands(one)),
        "library": None if one is None else libraries.version("datasketch"),
        "versions": [VERSION, contents.VERSION, ngrams.VERSION],
    }
    canonical = json.dumps(parts, sort_keys=True)
    key = hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
    return f"{FOLDER}/{safe_name(dataset)}/{safe_name(split)}-{key}.arrow"


def write(
    path: str | os.PathLike[str],
    rows: Iterable[tuple[int, Content]],
    filters: Sequence[Filter],
) -> None:
    """Writes the sketch of all rows, batch by batch; whole or not at all.

    Args:
      path: the file.
      rows: (place, content) of each row, places ascending.
      filters: the duplicate filters.

    Raises:
      UserError: datasketch is not installed and NearDuplicates is among the filters.
    """
    maker = _Maker(near(filters))
    with arrow_file.writing(path, maker.schema) as writer:
        for batch in _batches(rows):
            writer.write_batch(maker.batch(batch))


def exact_hash(content: Content) -> int:
    """64 bits over the row's texts, instruction included, whatever its fields are called and in whatever order."""
    asked = (*content.inputs, *content.instruction)
    # Evened-out texts hold no control characters.
    sides = ("\x1f".join(sorted(map(contents.even, side))) for side in (asked, content.targets))
    digest = hashlib.blake2b("\x1e".join(sides).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def label_hash(targets: Iterable[str]) -> int:
    """64 bits over the answers that are short, as words: "yes", "(A)", "1,200"."""
    short = sorted(found for text in targets if len(found := words(text)) <= _LABEL_WORDS)
    digest = hashlib.blake2b(json.dumps(short).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def text_shingles(texts: Iterable[str], n: int) -> np.ndarray:
    """The n-grams of several texts, none across two of them: sorted np.uint32."""
    found = [shingles(text, n) for text in texts]
    if len(found) == 1:
        return found[0]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint32)


class _Maker:
    """Rows to record batches."""

    def __init__(self, one: NearDuplicates | None):
        self._near = one
        fields = [("id", pa.int64()), ("exact", pa.uint64())]
        if one is not None:
            self._cut = bands(one)
            library = libraries.load("datasketch", "NearDuplicates")
            # One MinHash makes the permutations; the others are copies of it. Scheme and seed are written out, as rows
            # are compared with those of sketches that another process made on another day.
            self._empty = library.MinHash(
                num_perm=one.permutations, seed=1, scheme="affine32", hashfunc=int
            )
            sets = pa.large_list(pa.uint32())
            fields += [
                ("words", pa.int32()),
                ("same", pa.uint64()),
                ("bands", pa.list_(pa.uint64(), self._cut.count)),
                ("inputs", sets),
                ("targets", sets),
            ]
        self.schema = pa.schema(fields)

    def batch(self, rows: Sequence[tuple[int, Content]]) -> pa.RecordBatch:
        columns = [
            pa.array(np.array([index for index, _ in rows], np.int64)),
            pa.array(np.array([exact_hash(content) for _, content in rows], np.uint64)),
        ]
        if self._near is not None:
            n = self._near.words
            inputs = [text_shingles(content.inputs, n) for _, content in rows]
            targets = [text_shingles(content.targets, n) for _, content in rows]
            same = np.array(list(map(_set_hash, inputs, targets)), np.uint64)
            # Rows that differ in a short answer share no key.
            labels = np.array([label_hash(content.targets) for _, content in rows], np.uint64)
            keys = mixed(self._bands(inputs, targets) ^ labels[:, None])
            sizes = [
                sum(len(words(text)) for text in (*content.inputs, *content.targets))
                for _, content in rows
            ]
            columns += [
                pa.array(np.array(sizes, np.int32)),
                pa.array(mixed(same ^ labels)),
                pa.FixedSizeListArray.from_arrays(pa.array(keys.reshape(-1)), self._cut.count),
                _lists(inputs),
                _lists(targets),
            ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _bands(self, inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """np.uint64[rows, bands] of the signatures of each row's two sets together."""
        signatures = np.empty((len(inputs), len(self._empty)), np.uint64)
        for i, (asked, answered) in enumerate(zip(inputs, targets, strict=True)):
            tagged = mixed(answered.astype(np.uint64) ^ _TARGETS).astype(np.uint32)
            minhash = self._empty.copy()
            minhash.update_batch(np.concatenate([asked, tagged]).tolist())
            signatures[i] = minhash.hashvalues
        used = signatures[:, : self._cut.count * self._cut.rows]
        cut = used.reshape(len(inputs), self._cut.count, self._cut.rows)
        keys = np.zeros(cut.shape[:2], np.uint64)
        for place in range(self._cut.rows):
            keys = mixed(keys + cut[:, :, place] + np.uint64(1))
        return keys


def _batches(rows: Iterable[tuple[int, Content]]) -> Iterator[list[tuple[int, Content]]]:
    batch: list[tuple[int, Content]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _set_hash(inputs: np.ndarray, targets: np.ndarray) -> int:
    digest = hashlib.blake2b(len(inputs).to_bytes(8, "little"), digest_size=8)
    digest.update(inputs.data)
    digest.update(targets.data)
    return int.from_bytes(digest.digest(), "little")


def _lists(sets: Sequence[np.ndarray]) -> pa.Array:
    offsets = np.zeros(len(sets) + 1, np.int64)
    np.cumsum([len(one) for one in sets], out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(sets)))
