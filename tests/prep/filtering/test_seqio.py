"""Filters on SeqIO tasks that other code registered: their texts stand for the fields that they do not have."""

import warnings

import pytest

from flanx.data.request import StoreRequest
from flanx.prep.cache import cache
from flanx.prep.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore")

LONG = " ".join(f"word{i}" for i in range(20))
TRAIN = [("a", "x"), (LONG, "y"), ("a ", "x"), ("b", "x" * 9), ("c", "x")]
TEST = [(f"see {LONG}", "z"), ("none", "z")]


def _dataset(split, shuffle_files=False, seed=None):
    import tensorflow as tf

    inputs, targets = zip(*(TRAIN if split == "train" else TEST), strict=True)
    return tf.data.Dataset.from_tensor_slices({"inputs": list(inputs), "targets": list(targets)})


@pytest.fixture(scope="module")
def task():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import seqio
    feature = seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
    seqio.TaskRegistry.add(
        "foreign_filtered",
        source=seqio.FunctionDataSource(_dataset, splits=["train", "test"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"inputs": feature, "targets": feature},
    )
    yield "foreign_filtered"
    seqio.TaskRegistry.remove("foreign_filtered")


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        ("ExactDuplicates()", [0, 1, 3, 4]),
        ("NearDuplicates(shortest=1)", [0, 1, 3, 4]),
        ("Length('targets', max=1)", [0, 1, 2, 4]),
        ("Decontaminate('foreign_filtered')", [0, 2, 3, 4]),
    ],
)
def test_each(task, tmp_path, one, kept):
    lengths = {"inputs": 200, "targets": 20}
    request = StoreRequest(task, lengths, str(tmp_path), filters=(one,))
    (manifest,) = cache([request], workers=0, progress=Progress())
    (entry,) = manifest.entries
    assert entry.open(tmp_path).example_ids.tolist() == kept
    assert sum(entry.dropped.values()) == 5 - len(kept)
