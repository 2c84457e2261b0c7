"""Large tasks in pieces: the same bytes however they are cut, and what is there is not rendered again."""

import json
import shutil
from pathlib import Path

import pytest

from flanx import registry
from flanx.data import store
from flanx.errors import UserError
from flanx.prep import jobs, parts, work_item, worker
from flanx.prep.cache import cache
from flanx.prep.cache_plan import plan
from flanx.prep.jobs import Job
from flanx.prep.pool import run_all
from flanx.prep.progress import Progress


@pytest.fixture
def chunks_of(monkeypatch):
    """Sets how many rows a chunk has."""
    return lambda rows: monkeypatch.setattr(parts, "CHUNK", rows)


def plan_of(shop, **changes):
    """The one item of a collection with one task."""
    (one,) = plan(shop.request(**changes)).items
    return one


def whole_files(result):
    folder = Path(result.item.cache_dir) / result.path
    return [(folder / name).read_bytes() for name in ("tokens.arrow", "meta.json")]


def run_in_shards(one, count):
    job = Job((one,), 1.0, count)
    return worker.join(one, [worker.run(piece) for piece in job.pieces()])


@pytest.mark.parametrize("for_eval", [False, True])
@pytest.mark.parametrize(("rows", "chunk"), [(23, 5), (20, 5), (3, 5)])
def test_any_number_of_shards_makes_the_same_store(collection, chunks_of, rows, chunk, for_eval):
    chunks_of(chunk)
    shop = collection(one=rows)
    words = shop.words(rows)
    words[1] = {"word": "long" * 20, "answer": "x" * 30}  # cut
    words[2] = {"word": "w", "answer": " "}  # dropped
    shop.write_rows("one", words)
    one = plan_of(shop, for_eval=for_eval)
    expected = worker.run(one)
    files = whole_files(expected)
    for count in (1, 2, 3, 7):
        shutil.rmtree(shop.cache_dir)
        found = run_in_shards(one, count)
        assert found.failure is None
        assert found.written
        assert found.meta == expected.meta
        assert found.item == one
        assert whole_files(found) == files
        assert shop.stores() == [found.path]  # no part is left


def test_rows_that_a_function_makes_are_taken_by_place(tmp_path, chunks_of):
    chunks_of(4)
    asked = []

    def row(split, index):
        asked.append(index)
        return {"a": str(index), "b": str(index + 1)}

    with registry.isolated():
        registry.register(
            "here.sums",
            source=registry.Generated(row, train=30),
            fields=lambda row: row,
            templates=[registry.Template("{a} + 1 =", "{b}")],
            template_types=("zs_noopt",),
            vocabulary="bytes",
        )
        one = work_item.WorkItem(
            "here.sums.zs_noopt",
            "train",
            {"inputs": 16, "targets": 8},
            "bytes",
            str(tmp_path),
            max_examples=18,
        )
        worker.run(Job((one,), 1.0, 2).pieces()[1])
        assert asked == [*range(4, 8), *range(12, 16)]
        found = run_in_shards(one, 2)
    assert store.open(tmp_path / found.path).example_ids.tolist() == list(range(18))


def test_an_interrupted_task_goes_on_with_any_number_of_shards(collection, chunks_of, monkeypatch):
    chunks_of(4)
    shop = collection(one=18)
    one = plan_of(shop)
    worker.run(Job((one,), 1.0, 2).pieces()[0])  # chunks 0, 2 and 4 of 5
    rendered = []
    of_rows = parts.render.of_rows
    monkeypatch.setattr(
        parts.render,
        "of_rows",
        lambda rows, *rest: rendered.append([index for index, _ in rows]) or of_rows(rows, *rest),
    )
    found = run_in_shards(one, 3)
    assert sorted(rendered) == [[4, 5, 6, 7], [12, 13, 14, 15]]
    assert found.meta["examples"] == 18


def test_a_damaged_part_is_rendered_again(collection, chunks_of):
    chunks_of(4)
    shop = collection(one=9)
    one = plan_of(shop)
    first, second = Job((one,), 1.0, 2).pieces()
    worker.run(first)
    worker.run(second)
    (part,) = shop.cache_dir.glob("*/.parts-*/000001/tokens.arrow")
    part.write_bytes(part.read_bytes()[:-3])
    assert run_in_shards(one, 2).meta["examples"] == 9


def test_parts_that_somebody_else_has_just_joined_are_not_missed(collection, chunks_of):
    chunks_of(4)
    shop = collection(one=9)
    one = plan_of(shop)
    shards = [worker.run(piece) for piece in Job((one,), 1.0, 2).pieces()]
    shutil.rmtree(next(shop.cache_dir.glob("*/.parts-*")))
    found = worker.join(one, shards)
    assert found.failure is None
    assert found.meta["examples"] == 9
    done = [worker.run(piece) for piece in Job((one,), 1.0, 2).pieces()]
    assert [result.parts for result in done] == [None, None]
    assert worker.join(one, done).path == found.path


def test_a_task_may_be_finished_by_somebody_else_meanwhile(collection, chunks_of, monkeypatch):
    chunks_of(4)
    shop = collection(one=9)
    one = plan_of(shop)
    of_rows = parts.render.of_rows
    others = []

    def interrupted(*given):
        if not others:
            others.append(None)
            others[0] = worker.run(one)
        yield from of_rows(*given)

    monkeypatch.setattr(parts.render, "of_rows", interrupted)
    found = run_in_shards(one, 2)
    assert found.failure is None
    assert (found.path, found.written) == (others[0].path, False)
    assert shop.stores() == [found.path]


def test_a_store_that_somebody_else_finished_first_stays(collection, chunks_of):
    chunks_of(4)
    shop = collection(one=9)
    one = plan_of(shop)
    first, second = Job((one,), 1.0, 2).pieces()
    shards = [worker.run(first)]
    whole = worker.run(one)
    place = (shop.cache_dir / whole.path).stat().st_ino
    late = worker.run(first)
    assert late.parts is None
    for results in ([*shards, worker.run(second)], [late, worker.run(second)]):
        found = worker.join(one, results)
        assert (found.path, found.meta, found.written) == (whole.path, whole.meta, False)
        assert shop.stores() == [whole.path]
    assert (shop.cache_dir / whole.path).stat().st_ino == place


def test_a_failing_shard_is_its_tasks_failure(collection, chunks_of):
    chunks_of(2)
    shop = collection(one=4)
    with shop.data("one").open("a") as handle:
        handle.write('{"word": "x"}\n')
    found = run_in_shards(plan_of(shop), 2)
    assert f"{shop.data('one')}:5" in found.failure


def test_lengths_that_fit_no_target_are_told_from_the_parts(collection, chunks_of):
    chunks_of(2)
    shop = collection(one=3)
    shop.write_rows("one", [{"word": "a", "answer": "b" * n} for n in (30, 20, 40)])
    found = run_in_shards(plan_of(shop), 2)
    assert "the shortest has 21 tokens and the longest 41" in found.failure


@pytest.fixture
def cut_everything(monkeypatch):
    monkeypatch.setattr(jobs, "_SPLIT", 64)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_share_a_large_task(collection, cut_everything, workers):
    shop = collection(one=5000, two=40)
    display = Shards()
    (manifest,) = cache([shop.request()], workers=workers, progress=display)
    assert [entry.examples for entry in manifest.entries] == [5000, 40]
    assert display.parts == (0 if workers == 1 else workers)
    found = metas(shop)
    shutil.rmtree(shop.cache_dir)
    cache([shop.request()], workers=0, progress=Progress())
    assert metas(shop) == found


def test_force_takes_no_part_of_an_interrupted_run(collection, cut_everything, monkeypatch):
    shop = collection(one=40)
    worker.run(Job((plan_of(shop),), 1.0, 2).pieces()[0])
    assert list(shop.cache_dir.glob("*/.parts-*/000000"))
    seen = []

    def look(jobs_, workers):
        seen.extend(shop.stores())
        yield from run_all(jobs_, workers)

    cache([shop.request()], workers=0, progress=Progress(), force=True, run=look)
    assert seen == []


def test_a_failing_shard_is_named_once(collection, cut_everything):
    shop = collection(one=40, two=40)
    with shop.data("two").open("a") as handle:
        handle.write("{not json\n")
    with pytest.raises(UserError) as raised:
        cache([shop.request()], workers=2, progress=Progress())
    assert str(raised.value).count("not a line of JSON") == 1
    assert f"task '{shop.name}.two.zs_noopt'" in str(raised.value)


def metas(shop):
    """meta.json of every store, checksums included."""
    paths = shop.stores()
    return {path: json.loads((shop.cache_dir / path / "meta.json").read_text()) for path in paths}


class Shards(Progress):
    """Counts the pieces that a display is told of."""

    parts = 0

    def part(self, name, work):
        self.parts += 1
