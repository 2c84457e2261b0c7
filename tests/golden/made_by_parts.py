"""What each part of flanx makes that decides the bytes of stores, of small inputs that are written here.

    python tests/golden/made_by_parts.py        # records versions.json anew

Recording is refused where a part makes other bytes under the version it had.
"""

import dataclasses
import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from flanx import registry
from flanx.data import store, vocabulary
from flanx.data.filters import Decontaminate, ExactDuplicates, Function, Length, NearDuplicates
from flanx.prep import versions, worker
from flanx.prep.filtering import content, ngrams, overlap_index, row_filters, sketching
from flanx.prep.work_item import WorkItem
from flanx.registry.sources.held_out import HeldOut

RECORD = Path(__file__).with_name("versions.json")
WORDS = [
    "red",
    "plum",
    "fox",
    "naïve",
    "東京",
    "don't",
    "1,200",
    "spoon",
    "café",
    "Ωmega",
    "violet",
    "river",
    "stone",
]


def _row(index: int) -> dict[str, Any]:
    words = [WORDS[(index * step) % len(WORDS)] for step in (1, 3, 5, 7)]
    return {
        "text": " ".join(words) + ("  \n" if index % 4 == 0 else ""),
        "label": WORDS[index % 3],
        "others": [WORDS[index % 3], WORDS[3 + index % 2]],
        "number": index / 4,
        "empty": "" if index % 5 == 0 else None,
    }


ROWS = [_row(index) for index in range(40)]


def fields(row: dict[str, Any]) -> dict[str, Any] | None:
    if row["number"] == 2.5:
        return None
    return {
        "ticket": row["text"],
        "options": WORDS[:3],
        "answer": [row["label"], row["label"].upper()] if row["number"] > 8 else row["label"],
        "number": row["number"],
        "instruction": "Say which it is.",
    }


def stays(example: Any) -> bool | str:
    return "too many foxes" if example.inputs.count("fox") > 1 else True


def register(folder: Path) -> None:
    """The dataset `golden.words` over files of `folder`."""
    for split, rows in (("train", ROWS), ("validation", ROWS[:7])):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    import flanx

    flanx.register(
        "golden.words",
        source=flanx.Jsonl(train="train.jsonl", validation="validation.jsonl"),
        fields=fields,
        templates=[
            flanx.Template("{instruction} {ticket}{options_}", "{answer}"),
            flanx.Template("{number}: {ticket}\nWhich?{options_}\nSay:", "It is {answer}."),
            flanx.Template("{ticket} {{or}} not?", "{answer}"),
        ],
        inverted=[flanx.Template("Write of {answer}.", "{ticket}")],
    )


def draws(folder: Path) -> Any:
    from flanx.registry.draws import Draws, fraction, rank

    made = []
    for index in range(5):
        one = Draws(3, "golden.words", index, "train")
        made += [one.integer(10), one.choice(WORDS), one.integer(1 << 40)]
        made += [fraction(WORDS[index], "held out"), rank(7, WORDS[index])]
    return made


def sources(folder: Path) -> Any:
    (folder / "a.json").write_text(json.dumps(ROWS, indent=1))
    (folder / "a.tsv").write_text("text\tlabel\nred\\nplum\tfox\n\n café\t\n")
    columns = {"text": [row["text"] for row in ROWS], "number": [row["number"] for row in ROWS]}
    pyarrow.parquet.write_table(pa.table(columns), folder / "a.parquet")
    given = (
        registry.Jsonl(train="train.jsonl"),
        registry.Jsonl(train="a.json"),
        registry.Tsv(train="a.tsv"),
        registry.Parquet(train="a.parquet"),
        registry.Generated(lambda split, index: {"text": f"{split} {index}"}, train=3),
    )
    return [[dict(row) for row in one.rows("train", str(folder))] for one in given]


def natural_instructions(folder: Path) -> Any:
    (folder / "tasks").mkdir(exist_ok=True)
    instances = [
        {"id": f"task1-{i}", "input": f"in {i % 25}", "output": ["a", " b", "a"]} for i in range(30)
    ]
    task = {
        "Definition": ["Say it."],
        "Positive Examples": [{"input": "i", "output": "o", "explanation": "e"}],
        "Negative Examples": [],
        "Categories": ["Misc."],
        "Instances": instances,
    }
    (folder / "tasks/task1.json").write_text(json.dumps(task))
    given = (
        (registry.NaturalInstructions("task1", validation=0.3), ("train", "validation")),
        (registry.NaturalInstructions("task1", 7, validation=0.3), ("train",)),
        (registry.NaturalInstructions("task1", test=True), ("test",)),
    )
    return [list(one.rows(split, str(folder))) for one, splits in given for split in splits]


def held_out(folder: Path) -> Any:
    one = HeldOut(registry.Jsonl(train="train.jsonl"), 0.3, key="text")
    return {split: [row["number"] for row in one.rows(split, str(folder))] for split in one.splits}


def _rendered(folder: Path, types: tuple[str, ...]) -> Any:
    settings = {"feature_lengths": {"inputs": 200, "targets": 20}, "seed": 5}
    words = vocabulary.load("bytes")
    return [
        [kind, split, index, repr(made)]
        for kind in types
        for split in ("train", "validation")
        for index, made in enumerate(
            registry.get_task(f"golden.words.{kind}").render(
                split, vocabulary=words, data_dir=str(folder), **settings
            )
        )
    ]


def rendering(folder: Path) -> Any:
    return _rendered(folder, ("zs_opt", "zs_noopt", "inv"))


def few_shot(folder: Path) -> Any:
    return _rendered(folder, ("fs_opt", "fs_noopt"))


def _item(folder: Path, **changes: Any) -> WorkItem:
    item = WorkItem(
        "golden.words.zs_opt",
        "train",
        {"inputs": 64, "targets": 8},
        "bytes",
        str(folder / "cache"),
        data_dir=str(folder),
        for_eval=True,
    )
    return dataclasses.replace(item, **changes)


def _stored(item: WorkItem) -> Any:
    """What a store holds, told without Arrow's own bytes, which go with its version."""
    result = worker.run(item)
    assert result.failure is None, result.failure
    table = pa.ipc.open_file(Path(item.cache_dir) / result.path / store.TOKENS).read_all()
    counts = {name: result.meta[name] for name in ("dropped", "clipped", "longest", "tokens")}
    return [table.to_pydict(), counts]


def tokens(folder: Path) -> Any:
    playground = "pkg://flanx.tasks/playground_parts/vocabulary.model"
    return [
        _stored(_item(folder)),
        _stored(_item(folder, lengths={"inputs": 30, "targets": 4})),
        _stored(_item(folder, vocabulary=playground)),
    ]


def store_layout(folder: Path) -> Any:
    result = worker.run(_item(folder))
    table = pa.ipc.open_file(folder / "cache" / result.path / store.TOKENS).read_all()
    types = {name: str(table.schema.field(name).type) for name in table.schema.names}
    return [types, sorted(result.meta), result.meta["lengths"]]


def ngrams_of_texts(folder: Path) -> Any:
    texts = [row["text"] for row in ROWS[:9]]
    return [
        [ngrams.words(text), ngrams.word_hashes(text).tolist(), ngrams.shingles(text, 2).tolist()]
        for text in texts
    ] + [ngrams.runs(ngrams.word_hashes(texts[0]), 3).tolist()]


def contents(folder: Path) -> Any:
    reader = content.reader(registry.get_task("golden.words.fs_opt"), "train", str(folder))
    return [
        [index, dataclasses.asdict(reader.content(own)), reader.all_texts(own)]
        for index, own in reader.rows("train", str(folder))
    ]


def _evidence() -> dict[int, np.ndarray]:
    settings = Decontaminate(("golden.words",), words=3, shortest=2)
    return overlap_index.evidence([(row["text"], row["label"]) for row in ROWS[:4]], settings)


def overlap(folder: Path) -> Any:
    path = folder / "index.arrow"
    found = _evidence()
    overlap_index.write(path, {length: [runs] for length, runs in found.items()})
    index = overlap_index.Index.read(path)
    runs = {length: runs.tolist() for length, runs in found.items()}
    return [runs, [index.meets(row["text"]) for row in ROWS]]


def judged(folder: Path) -> Any:
    (folder / "cache").mkdir(exist_ok=True)
    found = {length: [runs] for length, runs in _evidence().items()}
    overlap_index.write(folder / "cache/judged.arrow", found)
    filters = (
        Length("inputs", "characters", min=18),
        Length("targets", "words", max=1),
        Length("inputs", max=45),
        Function("made_by_parts:stays"),
        Decontaminate(("golden.words",), words=3, shortest=2),
    )
    item = _item(folder, filters=filters, overlaps=("judged.arrow",))
    judges = row_filters.RowFilters(item, registry.get_task(item.task))
    texts = [(row["text"], row["label"]) for row in ROWS]
    return [
        judges.reason(i, asked, answered, (len(asked), len(answered)), {})
        for i, (asked, answered) in enumerate(texts)
    ]


def sketches(folder: Path) -> Any:
    path = folder / "sketch.arrow"
    rows = [
        (i, content.Content((row["text"],), (row["label"],), ("Say.",)))
        for i, row in enumerate(ROWS)
    ]
    sketching.write(path, rows, (ExactDuplicates(), NearDuplicates(permutations=16)))
    return pa.ipc.open_file(path).read_all().to_pydict()


def rates(folder: Path) -> Any:
    with registry.isolated():
        register(folder)
        parts = [registry.Part("golden.words.zs_*", cap=9), registry.Part("golden.*", rate=2.0)]
        registry.mixture("golden_mixture", parts, temperature=2.0)
        selected = registry.resolve("golden_mixture", data_dir=str(folder))
        return registry.rates(selected, {one.task: 40 for one in selected})


def _seqio_task(add_eos: bool = True) -> None:
    import seqio
    import tensorflow as tf

    def dataset(split: str, shuffle_files: bool = False, seed: int | None = None) -> Any:
        texts, labels = ([row[name] for row in ROWS] for name in ("text", "label"))
        return tf.data.Dataset.from_tensor_slices({"inputs": texts, "targets": labels})

    feature = seqio.Feature(seqio.ByteVocabulary(), add_eos=add_eos)
    seqio.TaskRegistry.add(
        "golden_seqio",
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"inputs": feature, "targets": feature},
    )


def seqio_tokens(folder: Path) -> Any:
    import seqio

    lengths = {"inputs": 14, "targets": 4}
    item = _item(folder, task="golden_seqio", bare=True, lengths=lengths)
    stored = []
    for add_eos in (True, False):
        _seqio_task(add_eos)
        try:
            stored.append(_stored(dataclasses.replace(item, cache_dir=str(folder / str(add_eos)))))
        finally:
            seqio.TaskRegistry.remove("golden_seqio")
    return stored


def seqio_rows(folder: Path) -> Any:
    import seqio

    from flanx.registry.sources.seqio_rows import SeqioRows

    _seqio_task()
    try:
        return list(SeqioRows(seqio.TaskRegistry.get("golden_seqio").source).rows("train"))
    finally:
        seqio.TaskRegistry.remove("golden_seqio")


# What is made, and the parts whose versions may explain that it is made otherwise.
_TEXTS = ("rendering", "draws", "sources")
MAKERS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "draws": (draws, ("draws",)),
    "sources": (sources, ("sources",)),
    "natural_instructions": (natural_instructions, ("natural_instructions", "draws")),
    "held_out": (held_out, ("held_out", "draws", "sources")),
    "rendering": (rendering, _TEXTS),
    "few_shot": (few_shot, ("few_shot", *_TEXTS)),
    "tokens": (tokens, ("tokens", "store", *_TEXTS)),
    "store": (store_layout, ("store", "tokens", *_TEXTS)),
    "ngrams": (ngrams_of_texts, ("ngrams",)),
    "content": (contents, ("content", *_TEXTS)),
    "overlap": (overlap, ("overlap", "ngrams")),
    "row_filters": (judged, ("row_filters", "overlap", "ngrams")),
    "sketches": (sketches, ("sketches", "ngrams", "content")),
    "rates": (rates, ("rates",)),
    "seqio_rows": (seqio_rows, ("seqio_rows",)),
    "seqio_tokens": (seqio_tokens, ("seqio_tokens", "store")),
}


def made(name: str, folder: Path) -> dict[str, Any]:
    """The hash of what a part makes, and the versions of the parts that have a hand in it."""
    make, parts = MAKERS[name]
    now = versions.versions()
    with registry.isolated():
        register(folder)
        canonical = json.dumps(make(folder), sort_keys=True, default=str)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return {"sha256": digest, "versions": {part: now[part] for part in parts}}


def main() -> None:
    warnings.simplefilter("ignore")
    then = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    found = {}
    for name in MAKERS:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = made(name, Path(folder))
        before = then.get(name, found[name])
        same = found[name]["versions"] == before["versions"]
        if same and found[name]["sha256"] != before["sha256"]:
            sys.exit(f"{name}: other bytes under the same version; raise its VERSION first")
    RECORD.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.modules["made_by_parts"] = sys.modules["__main__"]
    main()
