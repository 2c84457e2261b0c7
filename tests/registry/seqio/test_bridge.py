"""SeqIO sees what flanx registers, and gives the same tokens; flanx sees what others register with SeqIO.

Everything that imports TensorFlow runs in one child process a test: its import is slow, and leaves warnings and
registries behind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import json, os, sys
import flanx
from flanx import registry

def row(split, index):
    return {"text": f"{split} ticket {index}", "team": ["billing", "network"][index % 2]}

def register(name, **changes):
    flanx.register(name, **{**dict(
        source=flanx.Generated(row, train=40, validation=10),
        fields=lambda row: {
            "ticket": row["text"], "options": ["billing", "network"], "answer": [row["team"], "x"]
        },
        templates=[
            flanx.Template("{ticket} Which team?{options_}", "{answer}"),
            flanx.Template("Triage: {ticket}{options_}", "{answer}"),
        ],
        inverted=[flanx.Template("Write to {answer}", "{ticket}")],
        metrics=["accuracy", "rank_accuracy"], postprocessor="strip"), **changes})

def say(**found):
    print("FOUND " + json.dumps(found))
"""
LENGTHS = {"inputs": 400, "targets": 8}
TOKENIZERS = Path(__file__).parents[2] / "data/fixtures/tokenizers"


def run(tmp_path: Path, body: str, **environment: str) -> dict[str, Any]:
    """What `body` passes to `say`."""
    script = tmp_path / "script.py"
    script.write_text(PRELUDE + f"LENGTHS = {LENGTHS}\n" + body)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FLANX_")}
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**kept, **quiet, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return json.loads(line.removeprefix("FOUND "))


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SentencePiece model of a few pieces, trained here."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("vocabulary")
    text = "train validation ticket billing network Which team Triage Write to x options Answer"
    words = text.split()
    lines = [f"{one} {two} {i}: (A) b." for i, one in enumerate(words) for two in words]
    (folder / "text.txt").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "small"),
        vocab_size=120,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return str(folder / "small.model")


EQUAL = """
register("tickets.triage")
flanx.mixture("all", [flanx.Part("tickets.*", cap=30)])
import seqio
from flanx.data.vocabulary import load
vocabulary = load(os.environ["FLANX_VOCABULARY"])
names = [name for name in registry.task_names() if name in seqio.TaskRegistry.names()]
equal = {}
for name in names:
    for split in ("train", "validation"):
        dataset = seqio.get_mixture_or_task(name).get_dataset(LENGTHS, split, shuffle=False)
        theirs = [
            (e["inputs"].tolist(), e["targets"].tolist(), [r.decode() for r in e["references"]])
            for e in dataset.as_numpy_iterator()
        ]
        made = registry.get_task(name).render(split, feature_lengths=LENGTHS, vocabulary=vocabulary)
        ours = [
            (
                vocabulary.encode(one.inputs)[:399] + [vocabulary.eos_id],
                vocabulary.encode(one.targets)[:7] + [vocabulary.eos_id],
                list(one.references),
            )
            for one in made if isinstance(one, registry.Rendered)
        ]
        equal[f"{name} {split}"] = [theirs == ours, len(ours)]
mixture = seqio.get_mixture_or_task("all")
selected = registry.resolve("all")
rates = registry.rates(selected, {one.task: 40 for one in selected})
batch = list(mixture.get_dataset(LENGTHS, "train", shuffle=True, seed=1, num_epochs=1).take(20).as_numpy_iterator())
task = seqio.get_mixture_or_task("tickets.triage.zs_noopt")
example = next(iter(task.get_dataset(None, "validation", shuffle=False).as_numpy_iterator()))
packed = seqio.get_dataset("all", LENGTHS, seqio.EncDecFeatureConverter(pack=True))
targets = task.postprocess_fn(example["targets_pretokenized"], example=example, is_target=True)
say(
    equal=equal,
    rates={task.name: mixture.get_rate(task) for task in mixture.tasks} == rates,
    total=mixture.total_rate,
    batch=len(batch),
    dataset=[task.name for task in seqio.get_mixture_or_task("tickets.triage").tasks],
    metric=[metric([targets], [task.postprocess_fn(" x")]) for metric in task.metric_fns],
    targets=targets,
    packed=sorted(next(iter(packed.as_numpy_iterator()))),
)
"""


@pytest.mark.parametrize("spec", ["model", "bytes", "tokenizer"])
def test_same_tokens_as_seqio(tmp_path: Path, vocabulary: str, spec: str):
    specs = {"model": vocabulary, "bytes": "bytes", "tokenizer": str(TOKENIZERS / "llama3")}
    found = run(tmp_path, EQUAL, FLANX_VOCABULARY=specs[spec])
    assert all(same for same, _ in found["equal"].values()), found["equal"]
    assert len(found["equal"]) == 10
    assert found["equal"]["tickets.triage.zs_opt train"][1] == 40
    if spec == "model":
        assert found["equal"]["tickets.triage.fs_noopt train"][1] > 0
    assert found["rates"]
    assert found["total"] == pytest.approx(30)
    assert found["batch"] == 20
    assert len(found["dataset"]) == 5
    assert sorted(found["targets"]) in (["billing"], ["billing", "x"])
    assert len(found["metric"]) == 1  # rank_accuracy needs option scores, which SeqIO does not give
    assert "encoder_segment_ids" in found["packed"]


@pytest.mark.parametrize("first", ["flanx", "seqio"])
def test_both_import_orders(tmp_path: Path, first: str):
    body = """
before = {before}
register("a.b")
flanx.mixture("early", ["a.*", "c.*"])
import seqio
register("c.d", vocabulary="bytes")
tasks, mixtures = list(seqio.TaskRegistry.names()), list(seqio.MixtureRegistry.names())
task = seqio.get_mixture_or_task("c.d.zs_opt")
lengths = [len(list(task.get_dataset(None, split, shuffle=False))) for split in task.splits]
try:
    seqio.get_mixture_or_task("a.b.zs_opt").get_dataset(None, "train", shuffle=False)
except Exception as error:
    late = str(error)
try:
    register("a.b")
except flanx.UserError as error:
    twice = str(error)
say(tasks=tasks, mixtures=mixtures, lengths=lengths, late=late, twice=twice, before=before)
"""
    order = "'seqio' in sys.modules" if first == "flanx" else "bool(__import__('seqio'))"
    found = run(tmp_path, body.replace("{before}", order))
    assert found["before"] == (first == "seqio")
    kinds = ("zs_opt", "zs_noopt", "fs_opt", "fs_noopt", "inv")
    assert found["tasks"] == [f"{name}.{kind}" for name in ("a.b", "c.d") for kind in kinds]
    assert sorted(found["mixtures"]) == ["a.b", "c.d", "early"]
    assert found["lengths"] == [40, 10]
    assert "set FLANX_VOCABULARY to a SentencePiece model" in found["late"]
    assert "two tasks of one name" in found["twice"]


FOREIGN = """
import seqio
import tensorflow as tf
def numbers(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices(
        {"question": ["one", "two"], "answers": [["1", "i"], ["2", "ii"]], "n": [1, 2]}
    )
source = seqio.FunctionDataSource(numbers, splits=["train"], num_input_examples={"train": 2})
features = {name: seqio.Feature(seqio.ByteVocabulary()) for name in ("inputs", "targets")}
for name in ("bare_one", "bare_two"):
    seqio.TaskRegistry.add(name, source=source, output_features=features)
seqio.MixtureRegistry.add("inner", [("bare_one", 1.0), ("bare_two", lambda task: 3.0)])
seqio.MixtureRegistry.add("outer", [("inner", 8.0), ("bare_two", 2.0)])
flanx.register(
    "wrapped.numbers",
    source=source,
    fields=lambda row: {"question": row["question"], "answer": row["answers"], "n": row["n"] + 1},
    templates=[flanx.Template("{question} {n}", "{answer}")],
    template_types=["zs_noopt"],
)
flanx.mixture("both", [flanx.Part("outer", rate=5), flanx.Part("wrapped.*", rate=1)])
outer = registry.resolve("outer")
rates = registry.rates(outer, {"bare_one": 2, "bare_two": 2})
nested = seqio.get_mixture_or_task("outer")
slow = {task.name: nested.get_rate(task) for task in nested.tasks}
both = registry.resolve("both")
spec = registry.get_task("wrapped.numbers.zs_noopt")
rendered = [[one.inputs, sorted(one.references)] for one in spec.render("train")]
try:
    seqio.TaskRegistry.add("x.y.zs_opt", source=source, output_features=features)
    register("x.y")
except flanx.UserError as error:
    taken = str(error)
say(
    one=[[one.task, one.spec is None] for one in registry.resolve("bare_one")],
    rates=rates, slow=slow, rendered=rendered, taken=taken,
    both=registry.rates(both, {one.task: 2 for one in both}),
    printable=json.dumps(spec.fingerprint("train")), splits=spec.splits, count=spec.count("train"),
    held={split: list(flanx.HeldOut(source, 0.5, key="question").rows(split)) for split in ("train", "validation")},
)
"""


def test_what_others_register_with_seqio(tmp_path: Path):
    """Bare tasks and nested mixtures resolve, with SeqIO's own rates; a seqio.DataSource is a source."""
    found = run(tmp_path, FOREIGN)
    assert found["one"] == [["bare_one", True]]
    assert found["rates"] == pytest.approx(found["slow"])
    assert found["both"] == pytest.approx(
        {"bare_one": 1.0, "bare_two": 4.0, "wrapped.numbers.zs_noopt": 1.0}
    )
    assert found["rendered"] == [["one 2", ["1", "i"]], ["two 3", ["2", "ii"]]]
    assert "other code has registered this name with SeqIO" in found["taken"]
    assert found["splits"] == ["train"]
    assert found["count"] == 2
    held = [row["question"] for rows in found["held"].values() for row in rows]
    assert sorted(held) == ["one", "two"]


NOTHING = """
register("short.a", template_types=["zs_noopt"])
register(
    "long.b",
    templates=[flanx.Template("{ticket} " + "many words " * 90, "{answer}")],
    template_types=["zs_noopt", "fs_noopt"],
)
flanx.mixture("some", ["short.*", "long.*"])
flanx.mixture("none", ["long.b.fs_noopt"])
import logging as log
import seqio
from absl import logging
said = []
handler = log.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.get_absl_logger().addHandler(handler)
lengths = {"inputs": 64, "targets": 8}
converter = seqio.EncDecFeatureConverter(pack=True)
mixed = seqio.get_dataset("some", lengths, converter, shuffle=True, seed=0)
rows = list(mixed.take(12).as_numpy_iterator())
errors = []
for name, settings in (("none", {}), ("long.b.fs_noopt", {"num_epochs": None})):
    try:
        task = seqio.get_mixture_or_task(name)
        next(iter(task.get_dataset(lengths, "train", shuffle=True, seed=0, **settings)))
        errors.append(None)
    except Exception as error:
        errors.append(str(error))
say(
    rows=len(rows),
    keys=sorted(rows[0]),
    filled=[int((row["encoder_segment_ids"] > 0).sum()) for row in rows],
    warned=[text for text in said if "long.b.fs_noopt" in text],
    errors=errors,
)
"""


def test_tasks_that_give_nothing_do_not_stall_seqio(tmp_path: Path):
    """Few-shot rows of which none fits the lengths: a mixture goes on without them, a task alone says so."""
    found = run(tmp_path, NOTHING, FLANX_VOCABULARY="bytes")
    assert found["rows"] == 12
    assert min(found["filled"]) > 0
    assert "decoder_loss_weights" in found["keys"]
    assert found["warned"]
    assert "long.b.fs_noopt" in found["errors"][0] and "raise the lengths" in found["errors"][0]
    assert "gives no example" in found["errors"][1] and "long.b.fs_noopt" in found["errors"][1]


NATURAL_INSTRUCTIONS = """
import flanx.mixtures.niv2
import seqio
mixed = seqio.get_dataset(
    "niv2.test", {"inputs": 256, "targets": 64}, seqio.EncDecFeatureConverter(pack=True),
    dataset_split="test", shuffle=True, seed=0,
)
rows = list(mixed.take(50).as_numpy_iterator())
say(rows=len(rows), filled=min(int((row["encoder_segment_ids"] > 0).sum()) for row in rows))
"""


@pytest.mark.nightly
def test_natural_instructions_with_tasks_that_give_nothing(tmp_path: Path, shared_data: Path):
    """Of niv2.test at 256/64, some few-shot tasks have no example that fits; rows are filled by the others."""
    model = shared_data / "vocab" / "t5_v1_1_cc_all_32000" / "spiece.model"
    made = run(
        tmp_path,
        NATURAL_INSTRUCTIONS,
        FLANX_VOCABULARY=str(model),
        FLANX_DATA_DIR=str(shared_data),
    )
    assert made["rows"] == 50
    assert made["filled"] > 0


MODEL_VOCABULARY = """
register("tickets.triage", vocabulary=os.environ["MODEL"])
import seqio
task = seqio.get_mixture_or_task("tickets.triage")
ours = [feature.vocabulary for feature in task.output_features.values()]
theirs = seqio.SentencePieceVocabulary(os.environ["MODEL"])
other = seqio.SentencePieceVocabulary(os.environ["MODEL"], extra_ids=7)
say(
    equal=[v == theirs and theirs == v for v in ours],  # SeqIO's own have no hash
    different=[v != other and other != v for v in ours],
)
"""


def test_the_vocabulary_of_a_model_and_of_its_tasks_are_equal(tmp_path: Path, vocabulary: str):
    """T5X's `verify_matching_vocabs` compares them with `==`, in both orders."""
    found = run(tmp_path, MODEL_VOCABULARY, MODEL=vocabulary)
    assert found["equal"] == [True, True]
    assert found["different"] == [True, True]


RATES_AND_CACHES = """
import functools
import seqio
import tensorflow as tf
def numbers(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({"inputs": ["one", "two", "three"], "targets": ["1", "2", "3"]})
source = seqio.FunctionDataSource(numbers, splits=["train"])  # of unknown size
features = {name: seqio.Feature(seqio.ByteVocabulary()) for name in ("inputs", "targets")}
steps = [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos]
seqio.TaskRegistry.add("plain", source=source, output_features=features, preprocessors=steps)
placeholder = seqio.CacheDatasetPlaceholder(required=True)
seqio.TaskRegistry.add(
    "must_cache", source=source, output_features=features, preprocessors=[placeholder, *steps]
)
by_size = functools.partial(seqio.mixing_rate_num_examples, maximum=2)
seqio.MixtureRegistry.add("sized", [("plain", by_size), ("must_cache", lambda task: 6.0)])
seqio.MixtureRegistry.add("broken", [("plain", lambda task: task.nothing)])
sized = registry.resolve("sized")
try:
    registry.resolve("broken")
except flanx.UserError as error:
    broken = str(error)
from flanx.registry.seqio import external_tasks
shown = [one.inputs for one in external_tasks.view("must_cache").render("train")]
say(
    rates=registry.rates(sized, {"plain": 3, "must_cache": 3}), broken=broken, shown=shown,
)
"""


def test_rates_by_size_and_tasks_that_must_be_cached(tmp_path: Path):
    found = run(tmp_path, RATES_AND_CACHES)
    assert found["rates"] == pytest.approx({"plain": 2.0, "must_cache": 6.0})
    assert "broken" in found["broken"] and "plain" in found["broken"]
    assert found["shown"] == ["one", "two", "three"]


AS_T5X = """
import copy, itertools, os, pickle, shutil
import seqio
from flanx.registry.seqio_vocabulary import LateVocabulary

path = os.environ["FLANX_VOCABULARY"]
copied = shutil.copy(path, path + ".copy")
os.chdir(os.path.dirname(path))
register("tickets.triage")
task = seqio.get_mixture_or_task("tickets.triage").output_features
ours = (task["inputs"].vocabulary, task["targets"].vocabulary)

def both_ways(a, b):
    return [a == b, b == a, not a != b, (a, a) == (b, b)]

def theirs(file, **settings):
    return seqio.SentencePieceVocabulary(file, **settings)

late = LateVocabulary(path)
say(
    equal={
        "the model's": both_ways(ours[0], theirs(path)),
        "with T5's sentinels": both_ways(ours[1], theirs(path, extra_ids=100)),
        "relative": both_ways(late, theirs(os.path.basename(path))),
        "copied": both_ways(late, theirs(copied)),
        "late": both_ways(late, ours[0]),
        "said": both_ways(LateVocabulary(path + "?extra_ids=3"), theirs(path, extra_ids=3)),
        "bytes": both_ways(LateVocabulary("bytes"), seqio.ByteVocabulary()),
        "feature": both_ways(seqio.Feature(late), seqio.Feature(theirs(path))),
        "deep copy": both_ways(copy.deepcopy(late), theirs(path)),
        "pickle": both_ways(pickle.loads(pickle.dumps(late)), theirs(path)),
    },
    different={
        "sentinels": both_ways(late, theirs(path, extra_ids=7)),
        "none said": both_ways(LateVocabulary(path + "?extra_ids=3"), theirs(path)),
        "bytes": both_ways(late, seqio.ByteVocabulary()),
        "sentence pieces": both_ways(LateVocabulary("bytes"), theirs(path)),
        "missing": both_ways(late, theirs("/nowhere")),
    },
    hashes=len({hash(late), hash(ours[0]), hash(LateVocabulary(copied))}),
    instance=isinstance(late, seqio.SentencePieceVocabulary),
    sizes=[late.vocab_size, theirs(path, extra_ids=100).vocab_size],
)
"""


def test_a_tasks_vocabulary_is_seqios_of_the_same_file(tmp_path: Path, vocabulary: str):
    found = run(tmp_path, AS_T5X, FLANX_VOCABULARY=vocabulary)
    assert found["equal"] == dict.fromkeys(found["equal"], [True] * 4)
    assert found["different"] == dict.fromkeys(found["different"], [False] * 4)
    assert found["hashes"] == 1
    assert found["instance"]
    assert found["sizes"][0] == found["sizes"][1]


HUGGING_FACE = """
import copy, itertools, os, pickle, shutil
import numpy as np
import seqio
import tensorflow as tf
from flanx.data.vocabulary import load
from flanx.registry.seqio_huggingface import HuggingFaceVocabulary
from flanx.registry.seqio_vocabulary import LateVocabulary

folder = os.environ["FOLDER"]
copied = shutil.copytree(folder, "copied")
words, theirs = load(folder), HuggingFaceVocabulary(folder)
register("tickets.triage", vocabulary=folder)
late = seqio.get_mixture_or_task("tickets.triage").output_features["inputs"].vocabulary
texts = ["Which team? {x}", "", "東京 e\u0301\\n\\n"]
ids = [words.encode(text) for text in texts]
same = [
    theirs, late, LateVocabulary(copied), HuggingFaceVocabulary(copied + "/tokenizer.json"),
    copy.deepcopy(late), pickle.loads(pickle.dumps(theirs)), HuggingFaceVocabulary(theirs.spec),
]
other = [
    HuggingFaceVocabulary(folder + "?eos_id=401"), LateVocabulary("bytes"), seqio.ByteVocabulary(),
    LateVocabulary(folder + "?eos_id=401"),
]
ended = np.array([ids[0] + [words.eos_id, 7], [0] * len(ids[0]) + [7, 7]], np.int32)
say(
    encode=[theirs.encode(text) for text in texts] == ids == [late.encode(text) for text in texts],
    encode_tf=[theirs.encode_tf(tf.constant(text)).numpy().tolist() for text in texts] == ids,
    ragged=late.encode_tf(tf.constant(texts)).to_list() == ids,
    in_a_graph=[
        row.tolist()
        for row in tf.data.Dataset.from_tensor_slices(texts).map(late.encode_tf).as_numpy_iterator()
    ] == ids,
    shape=tf.data.Dataset.from_tensor_slices(texts).map(late.encode_tf).element_spec.shape.as_list(),
    decode=[theirs.decode(ended[0].tolist()), theirs.decode_tf(tf.constant(ended[0])).numpy().decode()],
    decode_rows=[text.decode() for text in theirs.decode_tf(tf.constant(ended)).numpy()],
    zeros=words.decode(ended[1].tolist()),
    special=[late.bos_id, late.eos_id, late.unk_id, late.vocab_size],
    theirs=[theirs.bos_id, theirs.eos_id, theirs.unk_id, theirs.vocab_size],
    equal=all(a == b and not a != b for a, b in itertools.product(same, same)),
    hashes=len({hash(one) for one in same}),
    different=any(a == b or b == a for a, b in itertools.product(same, other)),
    instance=isinstance(late, HuggingFaceVocabulary),
)
"""


def test_a_tokenizer_json_is_a_seqio_vocabulary(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(tmp_path, HUGGING_FACE, FOLDER=str(TOKENIZERS / "llama3"))
    assert all(found[name] for name in ("encode", "encode_tf", "ragged", "in_a_graph", "equal"))
    assert found["shape"] == [None]
    assert found["decode"] == ["Which team? {x}"] * 2
    assert found["decode_rows"] == ["Which team? {x}", found["zeros"]]
    assert found["zeros"].startswith("!!")  # id 0 is a token there
    assert found["special"] == found["theirs"] == [400, 402, None, 404]
    assert found["hashes"] == 1
    assert not found["different"]
    assert found["instance"]


CACHED = """
import pathlib
import seqio
import tensorflow as tf

def long(split, index):
    return {**row(split, index), "text": "many words " * 9 + str(index)}

kinds = dict(template_types=("zs_noopt", "fs_noopt"), inverted=(), vocabulary="bytes", metrics=())
templates = [flanx.Template("{ticket}", "{answer}")]
for name, rows in (("t.long", long), ("t.short", row)):
    register(name, source=flanx.Generated(rows, train=9, validation=4), templates=templates, **kinds)
flanx.mixture("t", ["t.*"])
converter = seqio.EncDecFeatureConverter(pack=True)

def batch(name, lengths, **settings):
    dataset = seqio.get_dataset(name, lengths, converter, num_epochs=None, **settings)
    return next(iter(dataset.batch(2).as_numpy_iterator()))

# What seqio_cache_tasks leaves of a task, and the same examples from there.
lengths = {"inputs": 400, "targets": 16}
for name in ("t.short.zs_noopt", "t.short.fs_noopt", "t.long.zs_noopt", "t.long.fs_noopt"):
    kept = seqio.TaskRegistry.get(name)
    folder = pathlib.Path("cached") / seqio.utils.get_task_dir_from_name(name)
    folder.mkdir(parents=True)
    rows = list(kept.preprocess_precache(kept.source.get_dataset("train", shuffle=False)))
    with tf.io.TFRecordWriter(seqio.get_cached_tfrecord_prefix(str(folder), "train") + "-00000-of-00001") as file:
        for one in rows:
            file.write(seqio.dict_to_tfexample(one).SerializeToString())
    features = {key: {"shape": [], "dtype": value.dtype.name} for key, value in rows[0].items()}
    info = {"num_shards": 1, "features": features, "seqio_version": seqio.__version__}
    pathlib.Path(seqio.get_cached_info_path(str(folder), "train")).write_text(json.dumps(info))
    pathlib.Path(seqio.get_cached_stats_path(str(folder), "train")).write_text(json.dumps({"examples": len(rows)}))
    (folder / "COMPLETED").touch()
seqio.add_global_cache_dirs(["cached"])

def tokens(name, cached):
    dataset = seqio.TaskRegistry.get(name).get_dataset(lengths, "train", shuffle=False, use_cached=cached)
    return [(e["inputs"].tolist(), e["targets"].tolist()) for e in dataset.as_numpy_iterator()]

names = ("t.short.zs_noopt", "t.short.fs_noopt")
cached = {name: [tokens(name, True) == tokens(name, False), len(tokens(name, True))] for name in names}
say(
    cached=cached,
    mixed_cached=list(batch("t", lengths, use_cached=True)["encoder_input_tokens"].shape),
)
"""


def test_seqios_caches_of_flanx_tasks_give_the_same_examples(tmp_path: Path, monkeypatch):
    """As `seqio_cache_tasks` leaves them; exemplars are chosen when the lengths are known, after the cache."""
    monkeypatch.chdir(tmp_path)
    found = run(tmp_path, CACHED)
    assert found["cached"] == {name: [True, 9] for name in found["cached"]}
    assert found["mixed_cached"] == [2, 400]
