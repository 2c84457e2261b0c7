"""Filters on real data: overlaps and duplicates that are known to be there are found, and little else."""

import json

import pytest

from flanx import registry
from flanx.data.request import StoreRequest
from flanx.prep.cache import cache
from flanx.prep.filtering import content
from flanx.prep.progress import Progress

GSM8K = "gsm8k/grade_school_math/data"
LENGTHS = {"inputs": 512, "targets": 256}


@pytest.fixture
def gsm8k(shared_data):
    """GSM8K's train and test questions, and MGSM's English ones, which are GSM8K's first test questions."""
    with registry.isolated():
        template = registry.Template("Solve this.\n{question}", "{answer}")
        registry.register(
            "real.gsm8k",
            source=registry.Jsonl(
                train=f"{GSM8K}/train.jsonl",
                test=f"{GSM8K}/test.jsonl",
            ),
            fields={"question": "question", "answer": "answer"},
            templates=[template],
            template_types=("zs_noopt",),
            vocabulary="bytes",
        )
        registry.register(
            "real.mgsm",
            source=registry.Tsv(test="mgsm/mgsm_en.tsv", columns=("question", "answer")),
            fields={"question": "question", "answer": "answer"},
            templates=[registry.Template("{question}", "{answer}")],
        )
        yield shared_data


def request(folder, data, mixture, *filters, **changes):
    settings = {"vocabulary": "bytes", "data_dir": str(data), **changes}
    return StoreRequest(mixture, LENGTHS, str(folder), filters=filters, **settings)


def kept(folder, *given, **changes):
    (manifest,) = cache([request(folder, *given, **changes)], workers=0, progress=Progress())
    (entry,) = manifest.entries
    return set(entry.open(folder).example_ids.tolist())


def test_mgsm_in_gsm8k(gsm8k, tmp_path):
    """The test split as if one had trained on it: exactly the questions that MGSM has are found."""
    given = "Decontaminate('real.mgsm')"
    left = kept(tmp_path, gsm8k, "real.gsm8k", given, split="test", max_examples=400)
    reader = content.reader(registry.get_task("real.mgsm.zs_noopt"), "test", str(gsm8k))
    known = {" ".join(fields["question"].split()) for _, fields in reader.rows("test", str(gsm8k))}
    path = gsm8k / GSM8K / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()[:400]]
    asked = [" ".join(row["question"].split()) for row in rows]
    planted = {i for i, text in enumerate(asked) if text in known}
    assert len(planted) > 50
    found = set(range(400)) - left
    assert planted <= found
    assert len(found - planted) <= 3


def test_gsm8k_train_is_clean_of_its_test(gsm8k, tmp_path):
    given = ("real.gsm8k", "Decontaminate('real.gsm8k')")
    left = kept(tmp_path, gsm8k, *given, max_examples=1500)
    assert len(left) >= 1490


def test_natural_instructions_keep_what_only_shares_a_definition(shared_data, tmp_path):
    """A definition of a hundred words stands in every example: it makes no two rows near duplicates."""
    name = "niv2.task1425_country_iso_numeric"
    (manifest,) = cache(
        [request(tmp_path, shared_data, f"{name}*", "NearDuplicates()", "ExactDuplicates()")],
        workers=0,
        progress=Progress(),
    )
    for entry in manifest.entries:
        gone = sum(n for why, n in entry.dropped.items() if why.startswith("filter:"))
        assert gone <= 0.05 * (entry.examples + gone)
