"""Caching from JSONL files to manifest: what is made, what is made again, and how failures are named."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from flanx import registry
from flanx.data import manifest as manifests
from flanx.data import store
from flanx.data import vocabulary as vocabularies
from flanx.errors import UserError
from flanx.prep import jobs, prepared
from flanx.prep.cache import cache
from flanx.prep.progress import Progress

TOKENIZERS = Path(__file__).parents[1] / "data/fixtures/tokenizers"


class Record(Progress):
    """What a display was told."""

    def __init__(self):
        self.total = 0
        self.done = []
        self.made = 0
        self.warnings = []

    def start(self, total, work=0.0):
        self.total = total

    def advance(self, name, examples, work=0.0, made=True):
        self.done.append(name)
        self.made += made

    def warn(self, text):
        self.warnings.append(text)


def checksums(collection):
    """Checksum of every store's tokens, by folder."""
    found = {}
    for path in collection.stores():
        found[path] = json.loads((collection.cache_dir / path / "meta.json").read_text())["sha256"]
    return found


def test_rows_become_tokens(collection):
    shop = collection(one=5, two=3)
    (manifest,) = cache([shop.request()], workers=0, progress=Progress())
    assert [entry.task for entry in manifest.entries] == [
        f"{shop.name}.one.zs_noopt",
        f"{shop.name}.two.zs_noopt",
    ]
    assert [entry.examples for entry in manifest.entries] == [5, 3]
    assert [entry.rate for entry in manifest.entries] == [5.0, 3.0]
    entry = manifest.entries[0]
    assert (entry.dataset, entry.type) == (f"{shop.name}.one", "zs_noopt")
    assert manifest.vocabulary == {"spec": "bytes", "fingerprint": "bytes+0", "size": 259}
    read = entry.open(shop.cache_dir)
    assert read.example_ids.tolist() == [0, 1, 2, 3, 4]
    assert entry.tokens == {
        "inputs": int(read.input_lengths.sum()),
        "targets": int(read.target_lengths.sum()),
    }
    decode = vocabularies.load("bytes").decode
    for i in range(5):
        text = [f"Turn word{i} round.", f"word{i} backwards?"][read.templates[i]]
        assert decode(read.inputs(i).tolist()) == text
        assert decode(read.targets(i).tolist()) == f"word{i}"[::-1]
        assert read.inputs(i)[-1] == read.targets(i)[-1] == 1
    assert {0, 1} == set(read.templates.tolist())


def test_tokens_of_a_tokenizer_json_end_as_the_files_beside_it_say(collection, tmp_path):
    folder = Path(shutil.copytree(TOKENIZERS / "qwen", tmp_path / "qwen"))
    shop = collection(one=5)
    request = shop.request(vocabulary=str(folder))
    (manifest,) = cache([request], workers=0, progress=Progress())
    words = vocabularies.load(manifest.vocabulary["spec"])
    read = manifest.entries[0].open(shop.cache_dir)
    assert words.eos_id == 402
    for i in range(read.num_examples):
        assert read.inputs(i)[-1] == read.targets(i)[-1] == 402
        assert words.encode(words.decode(read.targets(i))) == read.targets(i)[:-1].tolist()
    assert prepared.ready(request) is not None
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**config, "eos_token": "<|endoftext|>"})
    )
    assert prepared.ready(request) is None  # stale
    (manifest,) = cache([request], workers=0, progress=Progress())
    assert manifest.entries[0].open(shop.cache_dir).targets(0)[-1] == 400


def test_manifest_is_written_and_read(collection):
    shop = collection(one=2)
    request = shop.request()
    (manifest,) = cache([request], workers=0, progress=Progress())
    assert manifests.load(request.manifest_path) == manifest
    assert prepared.ready(request) == manifest
    paths = {record["path"] for record in manifest.inputs}
    assert {str(shop.module), str(shop.data("one"))} <= paths


def test_evaluation_keeps_texts(collection):
    shop = collection(one=2)
    request = shop.request(split="validation", for_eval=True)
    (manifest,) = cache([request], workers=0, progress=Progress())
    read = manifest.entries[0].open(shop.cache_dir)
    assert read.num_examples == 3
    assert "word1000" in read.inputs_text(0)
    assert read.references(0) == ["0001drow"]
    assert read.options(0) is None


def test_several_requests_share_stores(collection):
    shop = collection(one=2, two=2)
    requests = [shop.request(), shop.request(mixture=f"{shop.name}.one")]
    display = Record()
    both = cache(requests, workers=0, progress=display)
    assert display.total == len(display.done) == 2
    assert both[1].entries[0].path == both[0].entries[0].path


def test_processes_write_the_same_bytes(collection):
    shop = collection(one=40, two=300, three=7)
    requests = [shop.request(), shop.request(split="validation", for_eval=True)]
    here = cache(requests, workers=0, progress=Progress())
    expected = checksums(shop)
    shutil.rmtree(shop.cache_dir)
    there = cache(requests, workers=2, progress=Progress())
    assert checksums(shop) == expected
    assert [m.entries for m in there] == [m.entries for m in here]
    assert [m.fingerprint for m in there] == [m.fingerprint for m in here]


def test_only_what_is_missing_is_made(collection):
    shop = collection(one=2, two=2, three=2)
    request = shop.request()
    (before,) = cache([request], workers=0, progress=Progress())
    made = {path: os.stat(shop.cache_dir / path).st_ino for path in shop.stores()}
    lost = before.entries[1].path
    shutil.rmtree(shop.cache_dir / lost)
    assert prepared.ready(request) is None
    (after,) = cache([request], workers=0, progress=Progress())
    assert after == before
    again = {path: os.stat(shop.cache_dir / path).st_ino for path in shop.stores()}
    assert [path for path in made if made[path] != again[path]] in ([lost], [])
    assert cache([request], workers=0, progress=(display := Record())) == [after]
    assert display.done == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mixture_that_grows_makes_only_what_is_new(collection, workers):
    shop = collection(one=4, two=20, three=20)
    (before,) = cache(
        [shop.request(mixture=f"{shop.name}.t*")], workers=workers, progress=Progress()
    )
    display = Record()
    (after,) = cache([shop.request()], workers=workers, progress=display)
    assert len(display.done) == 3
    assert display.made == 1
    assert after.entries[1:] == before.entries


def test_stores_are_kept_in_folders_alone(collection):
    shop = collection(one=2)
    with pytest.raises(UserError, match=r"CACHE_DIR gs://bucket/x: token stores are memory-mapped"):
        cache([shop.request(cache_dir="gs://bucket/x")], workers=0, progress=Progress())


def test_touching_a_file_changes_nothing(collection):
    shop = collection(one=2)
    request = shop.request()
    cache([request], workers=0, progress=Progress())
    for path in (shop.data("one"), shop.module):
        os.utime(path, (1, 1))
    assert prepared.ready(request) is not None


def test_changed_data_makes_the_manifest_stale_and_a_new_store(collection):
    shop = collection(one=2, two=2)
    request = shop.request()
    (before,) = cache([request], workers=0, progress=Progress())
    shop.write_rows("one", shop.words(4))
    assert prepared.ready(request) is None
    (after,) = cache([request], workers=0, progress=Progress())
    assert [entry.examples for entry in after.entries] == [4, 2]
    assert after.entries[0].path != before.entries[0].path
    assert after.entries[1].path == before.entries[1].path
    assert after.fingerprint != before.fingerprint


def test_changed_code_makes_the_manifest_stale(collection):
    shop = collection(one=2)
    request = shop.request()
    cache([request], workers=0, progress=Progress())
    shop.module.write_text(shop.module.read_text() + "\n# changed\n")
    assert prepared.ready(request) is None


def test_another_length_seed_or_limit_is_another_store(collection):
    shop = collection(one=4)
    changes = [
        {},
        {"seed": 1},
        {"max_examples": 2},
        {"feature_lengths": {"inputs": 41, "targets": 16}},
        {"vocabulary": "bytes?extra_ids=3"},
        {"for_eval": True},
    ]
    found = [cache([shop.request(**c)], workers=0, progress=Progress())[0] for c in changes]
    assert len({manifest.entries[0].path for manifest in found}) == len(changes)
    assert found[2].entries[0].examples == 2


def test_a_damaged_store_is_made_again(collection):
    shop = collection(one=2)
    request = shop.request()
    (manifest,) = cache([request], workers=0, progress=Progress())
    tokens = shop.cache_dir / manifest.entries[0].path / "tokens.arrow"
    tokens.write_bytes(tokens.read_bytes()[:-8])
    assert prepared.ready(request) is None
    display = Record()
    assert cache([request], workers=0, progress=display) == [manifest]
    assert "was damaged and is made anew" in display.warnings[0]
    store.verify(tokens.parent)


@pytest.mark.parametrize("name", ["dropped", "clipped", "longest"])
def test_a_meta_json_without_counts_is_made_again(collection, name):
    shop = collection(one=2)
    request = shop.request()
    (manifest,) = cache([request], workers=0, progress=Progress())
    meta = shop.cache_dir / manifest.entries[0].path / "meta.json"
    meta.write_text(meta.read_text().replace(f'"{name}"', f'"{name[:-1]}D"'))
    os.unlink(request.manifest_path)
    display = Record()
    assert cache([request], workers=0, progress=display) == [manifest]
    assert f"'{name}' is missing" in display.warnings[0]


def test_verify_finds_a_flipped_bit_that_cheap_checks_cannot(collection):
    shop = collection(one=2)
    request = shop.request()
    (manifest,) = cache([request], workers=0, progress=Progress())
    folder = shop.cache_dir / manifest.entries[0].path
    tokens = folder / "tokens.arrow"
    content = bytearray(tokens.read_bytes())
    content[content.index(store.open(folder).inputs(0).tobytes())] ^= 1
    times = tokens.stat()
    tokens.write_bytes(content)
    os.utime(tokens, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert prepared.ready(request) is not None
    display = Record()
    cache([request], workers=0, progress=display, verify=True)
    assert "checksum differs" in display.warnings[0]
    store.verify(folder)


def test_force_makes_every_store_again(collection):
    shop = collection(one=2)
    (manifest,) = cache([shop.request()], workers=0, progress=Progress())
    tokens = shop.cache_dir / manifest.entries[0].path / "tokens.arrow"
    os.utime(tokens, (1, 1))
    cache([shop.request()], workers=0, progress=Progress(), force=True)
    assert tokens.stat().st_mtime > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_task_is_named_and_the_others_go_on(collection, workers):
    shop = collection(one=2, two=2, three=2)
    with shop.data("two").open("a") as handle:
        handle.write("{not json\n")
    with pytest.raises(UserError) as raised:
        cache([shop.request()], workers=workers, progress=Progress())
    message = str(raised.value)
    assert "\n" not in message
    assert f"task '{shop.name}.two.zs_noopt'" in message
    assert f"{shop.data('two')}:3" in message
    assert message.endswith("the other tasks are kept")
    assert len(shop.stores()) == 2
    assert prepared.ready(shop.request()) is None
    shop.write_rows("two", shop.words(2))
    display = Record()
    cache([shop.request()], workers=workers, progress=display)
    assert len(shop.stores()) == 3


def test_a_killed_worker_is_told_once_for_a_task_in_shards(collection, monkeypatch):
    shop = collection(one=40)
    shop.write_module(
        head="import multiprocessing\nimport os",
        body="multiprocessing.parent_process() and os._exit(1)",
    )
    monkeypatch.setattr(jobs, "_SPLIT", 100)
    with pytest.raises(UserError) as raised:
        cache([shop.request()], workers=2, progress=Progress())
    assert str(raised.value).startswith(
        f"task '{shop.name}.one.zs_noopt': a cache process was killed"
    )


def test_fewer_than_no_workers_are_refused(collection):
    with pytest.raises(UserError, match="--workers"):
        cache([collection(one=1).request()], workers=-1, progress=Progress())


def test_two_failing_tasks_have_a_line_each(collection):
    shop = collection(one=2, two=2, three=2)
    for task in ("one", "three"):
        shop.write_rows(task, [{"word": "x"}])
    with pytest.raises(UserError) as raised:
        cache([shop.request()], workers=0, progress=Progress())
    head, *lines = str(raised.value).splitlines()
    assert head.startswith("2 of 3 tasks failed; the others are kept")
    assert [line.split()[0] for line in lines] == [
        f"{shop.name}.one.zs_noopt",
        f"{shop.name}.three.zs_noopt",
    ]


def test_a_missing_file_is_named(collection):
    shop = collection(one=2)
    shop.data("one").unlink()
    with pytest.raises(UserError, match=r"no such file or folder: 'one\.train\.jsonl'"):
        cache([shop.request()], workers=0, progress=Progress())


def test_a_missing_folder_is_one_line(collection):
    shop = collection(one=2, two=2)
    with pytest.raises(UserError, match="2 tasks without data, this the first") as raised:
        cache([shop.request(data_dir="/nowhere")], workers=0, progress=Progress())
    assert "\n" not in str(raised.value)
    assert "/nowhere/one.train.jsonl" in str(raised.value)


def test_a_bug_in_the_users_code_is_placed(collection):
    shop = collection(one=2)
    shop.write_module(body="raise RuntimeError('boom')")
    with pytest.raises(UserError, match="boom") as raised:
        cache([shop.request()], workers=0, progress=Progress())
    assert f"{shop.name}.one.zs_noopt" in str(raised.value)


def test_lengths_that_fit_no_target_are_refused(collection):
    shop = collection(one=2, two=2)
    shop.write_rows("one", [{"word": "a", "answer": "b" * 20}, {"word": "a", "answer": "b" * 30}])
    with pytest.raises(UserError) as raised:
        cache([shop.request()], workers=0, progress=Progress())
    assert str(raised.value).startswith(
        f"all 2 targets of '{shop.name}.one.zs_noopt' (train) are longer than the feature lengths "
        "inputs=40, targets=16 allow: the shortest has 21 tokens and the longest 31"
    )


def test_clipped_and_dropped_rows_are_counted(collection):
    shop = collection(one=2)
    rows = [
        {"word": "w" * 60, "answer": "x"},
        {"word": "w", "answer": ""},
        {"word": "w", "answer": "y" * 30},
    ]
    shop.write_rows("one", rows)
    (manifest,) = cache([shop.request()], workers=0, progress=Progress())
    entry = manifest.entries[0]
    assert entry.examples == 2
    assert sum(entry.dropped.values()) == 1
    assert entry.clipped == {"inputs": 1, "targets": 1}
    read = entry.open(shop.cache_dir)
    assert read.inputs(0).shape == (40,)
    assert read.inputs(0)[-1] == read.targets(1)[-1] == 1
    assert read.targets(1).tolist() == [ord("y") + 3] * 15 + [1]
    assert read.example_ids.tolist() == [0, 2]


def test_an_empty_task_is_left_out_with_a_warning(collection):
    shop = collection(one=2, two=1)
    shop.write_rows("two", [{"word": "w", "answer": " "}])
    display = Record()
    (manifest,) = cache([shop.request()], workers=0, progress=display)
    assert [entry.task for entry in manifest.entries] == [f"{shop.name}.one.zs_noopt"]
    assert "two.zs_noopt' (train) has no example and is left out" in display.warnings[0]
    assert prepared.ready(shop.request()) == manifest


def test_nothing_left_at_all_is_an_error(collection):
    shop = collection(one=1)
    shop.write_rows("one", [{"word": "w", "answer": ""}])
    with pytest.raises(UserError, match="has no example left in any of its 1 tasks"):
        cache([shop.request()], workers=0, progress=Progress())


def test_a_full_disk_is_said_and_leaves_nothing(collection, monkeypatch):
    shop = collection(one=2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "_write_arrow", full)
    with pytest.raises(UserError, match=f"no space left in {shop.cache_dir} while caching"):
        cache([shop.request()], workers=0, progress=Progress())
    assert shop.stores() == []


def test_a_disk_that_is_full_for_the_manifest_is_said(collection, monkeypatch):
    shop = collection(one=2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manifests, "_fields", full)
    with pytest.raises(UserError, match="no space left"):
        cache([shop.request()], workers=0, progress=Progress())
    assert not list((shop.cache_dir / "manifests").iterdir())


def test_an_unwritable_cache_folder_is_named(collection):
    shop = collection(one=2)
    (shop.folder / "file").touch()
    with pytest.raises(UserError, match=r"CACHE_DIR = .*file/cache"):
        cache([shop.request(cache_dir=str(shop.folder / "file/cache"))], progress=Progress())


def test_a_mixture_without_a_vocabulary_asks_for_one(collection):
    shop = collection(vocabulary=None, one=2)
    with pytest.raises(UserError, match="set VOCABULARY to a SentencePiece model"):
        cache([shop.request()], workers=0, progress=Progress())
    assert cache([shop.request(vocabulary="bytes")], workers=0, progress=Progress())


def test_disagreeing_vocabularies_name_both(collection):
    shop = collection(vocabulary="bytes?extra_ids=3", one=2)
    source = registry.Jsonl(train="one.train.jsonl")
    registry.register(
        f"{shop.name}.other",
        source=source,
        fields=lambda row: {"word": row["word"], "answer": row["answer"]},
        templates=[registry.Template("{word}", "{answer}")],
        template_types=("zs_noopt",),
        vocabulary="bytes?extra_ids=5",
    )
    with pytest.raises(UserError, match="vocabularies disagree") as raised:
        cache([shop.request(vocabulary=None, mixture=f"{shop.name}.o*")], workers=0)
    assert "'bytes?extra_ids=3'" in str(raised.value)
    assert "'bytes?extra_ids=5'" in str(raised.value)


def test_tasks_of_this_process_need_no_module(tmp_path):
    with registry.isolated():
        registry.register(
            "here.sums",
            source=registry.Generated(lambda split, i: {"a": str(i), "b": str(i + 1)}, train=6),
            fields=lambda row: row,
            templates=[registry.Template("{a} + 1 =", "{b}")],
            template_types=("zs_noopt",),
            vocabulary="bytes",
        )
        request = manifests.StoreRequest(
            mixture="here.sums",
            feature_lengths={"inputs": 16, "targets": 8},
            cache_dir=str(tmp_path),
        )
        (manifest,) = cache([request], workers=0, progress=Progress())
    assert manifest.num_examples == 6


@pytest.mark.parametrize("inner", ["", "train-{key}"])
def test_a_planted_link_in_the_cache_folder_is_refused(collection, tmp_path, inner):
    shop = collection(one=2)
    request = shop.request()
    cache([request], workers=0, progress=Progress())
    (made,) = shop.stores()
    link = shop.cache_dir / made if inner else (shop.cache_dir / made).parent
    elsewhere = tmp_path / "elsewhere"
    shutil.move(link, elsewhere)
    link.symlink_to(elsewhere, target_is_directory=True)
    before = sorted(map(str, elsewhere.rglob("*")))
    for settings in ({"force": True}, {"verify": True}):
        with pytest.raises(UserError, match=f"{link} is a symbolic link"):
            cache([request], workers=0, progress=Progress(), **settings)
    assert sorted(map(str, elsewhere.rglob("*"))) == before


def test_a_mixture_whose_rates_are_all_zero_says_so(collection, monkeypatch):
    shop = collection(one=2)
    monkeypatch.setattr(registry, "rates", lambda selected, counts: dict.fromkeys(counts, 0.0))
    with pytest.raises(UserError, match="the rate of every task is 0"):
        cache([shop.request()], workers=0, progress=Progress())
    (made,) = cache([shop.request(for_eval=True)], workers=0, progress=Progress())
    assert made.num_examples == 2
