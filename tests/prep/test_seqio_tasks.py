"""SeqIO tasks that other code registered: the same tokens as SeqIO's own pipeline gives."""

import functools
import sys
import warnings
from pathlib import Path

import pytest

from flanx.data import store
from flanx.data import vocabulary as vocabularies
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.prep.cache import cache
from flanx.prep.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore")

LENGTHS = {"inputs": 24, "targets": 10}
TOKENIZERS = Path(__file__).parents[1] / "data/fixtures/tokenizers"
ROWS = [
    ("short", "yes"),
    ("a much longer question than fits", "no"),
    ("empty answer", ""),
    ("long answer", "an answer that is too long"),
    ("café 東京", "ünï"),
]


@pytest.fixture(scope="module")
def seqio():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import seqio
    return seqio


def _dataset(split, shuffle_files=False, seed=None, rows=tuple(ROWS)):
    import tensorflow as tf

    inputs, targets = zip(*rows, strict=True)
    return tf.data.Dataset.from_tensor_slices({"inputs": list(inputs), "targets": list(targets)})


@pytest.fixture
def task(seqio):
    """Registers a SeqIO task of ROWS under a fresh name."""
    made = []

    def make(name, *, end=None, vocabulary=None, add_eos=True, **features):
        words = vocabulary or seqio.ByteVocabulary()
        feature = seqio.Feature(words, add_eos=add_eos)
        steps = [seqio.preprocessors.tokenize, *([end] if end else [])]
        seqio.TaskRegistry.add(
            name,
            source=seqio.FunctionDataSource(_dataset, splits=["train"]),
            preprocessors=steps,
            output_features=features or {"inputs": feature, "targets": feature},
        )
        made.append(name)
        return seqio.TaskRegistry.get(name)

    yield make
    for name in made:
        seqio.TaskRegistry.remove(name)


def request(tmp_path, name, **changes):
    settings = {"mixture": name, "feature_lengths": LENGTHS, "cache_dir": str(tmp_path / "cache")}
    return StoreRequest(**{**settings, **changes})


def test_tokens_are_seqios(seqio, task, tmp_path):
    theirs = task("foreign_trimmed", end=seqio.preprocessors.append_eos_after_trim)
    (manifest,) = cache([request(tmp_path, "foreign_trimmed")], workers=0, progress=Progress())
    entry = manifest.entries[0]
    read = entry.open(tmp_path / "cache")
    expected = [
        row
        for row in theirs.get_dataset(LENGTHS, "train", shuffle=False).as_numpy_iterator()
        if row["targets"].tolist() != [1]
    ]
    assert read.num_examples == len(expected) == 4
    for i, row in enumerate(expected):
        assert read.inputs(i).tolist() == row["inputs"].tolist()
        assert read.targets(i).tolist() == row["targets"].tolist()
    assert read.example_ids.tolist() == [0, 1, 3, 4]
    assert entry.dropped == {"empty target": 1}
    assert entry.clipped == {"inputs": 1, "targets": 1}
    assert (entry.dataset, entry.type, entry.metrics) == ("foreign_trimmed", "", ())


def test_tokens_of_a_tokenizer_json_are_seqios(seqio, task, tmp_path):
    from flanx.registry.seqio_huggingface import HuggingFaceVocabulary

    words = HuggingFaceVocabulary(TOKENIZERS / "t5")
    name = "foreign_tokenizer_json"
    theirs = task(name, end=seqio.preprocessors.append_eos_after_trim, vocabulary=words)
    (manifest,) = cache([request(tmp_path, name)], workers=0, progress=Progress())
    assert manifest.vocabulary["fingerprint"] == words.fingerprint
    entry = manifest.entries[0]
    read = entry.open(tmp_path / "cache")
    expected = [
        row
        for row in theirs.get_dataset(LENGTHS, "train", shuffle=False).as_numpy_iterator()
        if row["targets"].tolist() != [words.eos_id]
    ]
    assert read.num_examples == len(expected) == 4
    for i, row in enumerate(expected):
        assert read.inputs(i).tolist() == row["inputs"].tolist()
        assert read.targets(i).tolist() == row["targets"].tolist()
    lost = read.meta["unwritable"]
    assert (lost["characters"], lost["commonest"]) == (3, {"ü": 1, "京": 1, "東": 1})


def test_what_seqio_left_too_long_is_cut_and_counted(seqio, task, tmp_path):
    task("foreign_untrimmed", end=seqio.preprocessors.append_eos)
    (manifest,) = cache([request(tmp_path, "foreign_untrimmed")], workers=0, progress=Progress())
    read = manifest.entries[0].open(tmp_path / "cache")
    assert manifest.entries[0].clipped == {"inputs": 1, "targets": 1}
    assert read.inputs(1)[-1] == 1
    assert read.input_lengths.max() == LENGTHS["inputs"]


def test_lengths_that_fit_no_target_are_refused(seqio, task, tmp_path):
    rows = (("a", "seven c"), ("b", "an answer of 18 c."))
    seqio.TaskRegistry.add(
        "foreign_long",
        source=seqio.FunctionDataSource(functools.partial(_dataset, rows=rows), splits=["train"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim],
        output_features=dict.fromkeys(LENGTHS, seqio.Feature(seqio.ByteVocabulary())),
    )
    lengths = {"inputs": 8, "targets": 4}
    try:
        with pytest.raises(UserError, match="the shortest has 8 tokens and the longest 19, EOS"):
            cache([request(tmp_path, "foreign_long", feature_lengths=lengths)], workers=0)
    finally:
        seqio.TaskRegistry.remove("foreign_long")


def test_targets_that_are_no_beginning_of_their_text_are_not_cut(seqio, task, tmp_path):
    seqio.TaskRegistry.add(
        "foreign_spans",
        source=seqio.FunctionDataSource(_dataset, splits=["train"]),
        preprocessors=[seqio.preprocessors.tokenize, _last_four],
        output_features=dict.fromkeys(
            LENGTHS, seqio.Feature(seqio.ByteVocabulary(), add_eos=False)
        ),
    )
    lengths = {"inputs": 64, "targets": 4}
    try:
        asked = request(tmp_path, "foreign_spans", feature_lengths=lengths)
        (manifest,) = cache([asked], workers=0, progress=Progress())
    finally:
        seqio.TaskRegistry.remove("foreign_spans")
    assert manifest.entries[0].clipped == {"inputs": 0, "targets": 0}


def _last_four(dataset):
    import tensorflow as tf

    rows = dataset.filter(lambda row: tf.size(row["targets"]) > 4)
    return rows.map(lambda row: {**row, "targets": row["targets"][-4:]})


def test_features_without_eos_stay_without(seqio, task, tmp_path):
    task("foreign_no_eos", add_eos=False)
    (manifest,) = cache([request(tmp_path, "foreign_no_eos")], workers=0, progress=Progress())
    read = manifest.entries[0].open(tmp_path / "cache")
    assert all(1 not in read.inputs(i) for i in range(read.num_examples))


def test_a_task_of_targets_alone_has_empty_inputs(seqio, task, tmp_path):
    task("foreign_lm", targets=seqio.Feature(seqio.ByteVocabulary()))
    (manifest,) = cache([request(tmp_path, "foreign_lm")], workers=0, progress=Progress())
    read = manifest.entries[0].open(tmp_path / "cache")
    assert read.input_lengths.sum() == 0


def test_evaluation_keeps_the_texts_before_tokenising(seqio, task, tmp_path):
    task("foreign_eval", end=seqio.preprocessors.append_eos_after_trim)
    asked = request(tmp_path, "foreign_eval", for_eval=True)
    (manifest,) = cache([asked], workers=0, progress=Progress())
    read = manifest.entries[0].open(tmp_path / "cache")
    assert read.inputs_text(1) == ROWS[1][0]
    assert read.references(3) == [ROWS[4][1]]
    assert read.options(0) is None


def test_a_seqio_mixture_keeps_its_rates(seqio, task, tmp_path):
    task("foreign_a", end=seqio.preprocessors.append_eos_after_trim)
    task("foreign_b", end=seqio.preprocessors.append_eos_after_trim)
    seqio.MixtureRegistry.add("foreign_mix", [("foreign_a", 3.0), ("foreign_b", 1.0)])
    try:
        (manifest,) = cache([request(tmp_path, "foreign_mix")], workers=0, progress=Progress())
    finally:
        seqio.MixtureRegistry.remove("foreign_mix")
    rates = {entry.task: entry.rate for entry in manifest.entries}
    assert rates["foreign_a"] == pytest.approx(3 * rates["foreign_b"])


def test_its_own_vocabulary_counts(seqio, task, tmp_path, shared_data):
    path = str(shared_data / "vocab/t5_v1_1_cc_all_32000/spiece.model")
    task("foreign_t5", vocabulary=seqio.SentencePieceVocabulary(path, 100))
    (manifest,) = cache([request(tmp_path, "foreign_t5")], workers=0, progress=Progress())
    assert manifest.vocabulary["fingerprint"] == vocabularies.load(path).fingerprint
    with pytest.raises(UserError, match="vocabularies disagree: VOCABULARY has 'bytes'"):
        cache([request(tmp_path, "foreign_t5", vocabulary="bytes")], workers=0)


def test_another_preprocessor_is_another_store(seqio, task, tmp_path):
    paths = []
    for text in ("one", "two"):
        upper = functools.partial(_append, text=text)
        seqio.TaskRegistry.add(
            "foreign_steps",
            source=seqio.FunctionDataSource(_dataset, splits=["train"]),
            preprocessors=[upper, seqio.preprocessors.tokenize],
            output_features=dict.fromkeys(LENGTHS, seqio.Feature(seqio.ByteVocabulary())),
        )
        lengths = {"inputs": 64, "targets": 64}
        asked = request(tmp_path, "foreign_steps", feature_lengths=lengths)
        (manifest,) = cache([asked], workers=0, progress=Progress(), force=True)
        paths.append(manifest.entries[0].path)
        seqio.TaskRegistry.remove("foreign_steps")
    assert paths[0] != paths[1]


def _append(dataset, text):
    return dataset.map(lambda row: {**row, "inputs": row["inputs"] + text})


def test_workers_find_the_task_through_the_users_module(seqio, tmp_path, monkeypatch):
    (tmp_path / "foreign_module.py").write_text(
        "import seqio\n"
        "def dataset(split, shuffle_files=False, seed=None):\n"
        "    import tensorflow as tf\n"
        "    return tf.data.Dataset.from_tensor_slices({'inputs': ['a'], 'targets': ['b']})\n"
        "feature = seqio.Feature(seqio.ByteVocabulary())\n"
        "seqio.TaskRegistry.add('foreign_spawned',\n"
        "    source=seqio.FunctionDataSource(dataset, splits=['train']),\n"
        "    preprocessors=[seqio.preprocessors.tokenize],\n"
        "    output_features={'inputs': feature, 'targets': feature})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = request(tmp_path, "foreign_spawned", imports=("foreign_module",))
    try:
        (manifest,) = cache([asked], workers=1, progress=Progress())
    finally:
        sys.modules.pop("foreign_module", None)
        seqio.TaskRegistry.remove("foreign_spawned")
    folder = tmp_path / "cache" / manifest.entries[0].path
    store.verify(folder)
    assert store.open(folder).targets(0).tolist() == [ord("b") + 3]


def test_a_vocabulary_flanx_cannot_read_is_named(seqio, task, tmp_path):
    task("foreign_ids", vocabulary=seqio.PassThroughVocabulary(100))
    with pytest.raises(UserError, match="'foreign_ids': feature 'inputs' has a PassThrough"):
        cache([request(tmp_path, "foreign_ids")], workers=0)
