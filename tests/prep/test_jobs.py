"""How work is put together and cut."""

import pytest

from flanx import registry
from flanx.prep import jobs
from flanx.prep.cache_plan import plan


@pytest.fixture
def sized(collection, monkeypatch):
    """Plans of a collection whose files are taken for so many bytes."""

    def make(**sizes):
        shop = collection(**dict.fromkeys(sizes, 1))
        sizes = {str(shop.data(name)): size for name, size in sizes.items()}
        monkeypatch.setattr(jobs, "_size", lambda path, _: sizes[path])
        return shop, plan(shop.request())

    return make


def names(job):
    return [item.task.split(".")[1] for item in job.items]


def test_the_largest_come_first_and_the_small_go_together(sized):
    _, found = sized(a=10, b=900_000, c=20, d=30)
    made = jobs.jobs([found], workers=2)
    assert [names(job) for job in made] == [["b"], ["d", "c", "a"]]
    _, found = sized(**{f"t{i:02}": 100 for i in range(70)}, big=10_000)
    made = jobs.jobs([found], workers=1)
    assert [len(job.items) for job in made] == [1, 10, 10, 10, 10, 10, 10, 10]
    assert sum(job.cost for job in made) == 17_000


def test_a_task_that_is_most_of_the_work_is_cut(sized):
    _, found = sized(a=100 << 20, b=1 << 20)
    first, second = jobs.jobs([found], workers=4)
    assert (names(first), first.shards) == (["a"], 4)
    assert (names(second), second.shards) == (["b"], 1)
    assert [piece.shard for piece in first.pieces()] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [job.shards for job in jobs.jobs([found], workers=1)] == [1, 1]


def test_many_large_tasks_are_not_cut(sized):
    _, found = sized(**{f"t{i:02}": 50 << 20 for i in range(16)})
    assert [job.shards for job in jobs.jobs([found], workers=4)] == [1] * 16


def test_units_of_one_file_go_together_unless_they_are_much(collection, monkeypatch):
    shop = collection(one=3)
    registry.register(
        f"{shop.name}.twice",
        source=registry.Jsonl(train="one.train.jsonl"),
        fields=lambda row: row,
        templates=[registry.Template("{word}", "{answer}")],
        template_types=("zs_noopt", "fs_noopt"),
        vocabulary="bytes",
    )
    found = plan(shop.request())
    (job,) = jobs.jobs([found, found], workers=2)
    assert len(job.items) == 3
    size = shop.data("one").stat().st_size
    assert job.cost == 6 * size  # exemplars that are drawn make four of one
    monkeypatch.setattr(jobs, "_SPLIT", size)
    many = jobs.jobs([found], workers=2)
    assert [(len(job.items), job.shards) for job in many] == [(1, 2), (1, 1), (1, 1)]


def test_rows_without_a_file_are_reckoned(collection):
    shop = collection(one=1)
    registry.register(
        f"{shop.name}.made",
        source=registry.Generated(lambda split, i: {"a": str(i)}, train=50_000),
        fields=lambda row: row,
        templates=[registry.Template("{a}", "{a}")],
        template_types=("zs_noopt",),
        vocabulary="bytes",
    )
    first, _ = jobs.jobs([plan(shop.request())], workers=2)
    assert names(first) == ["made"]
    assert first.shards == 2
