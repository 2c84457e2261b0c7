"""Mixtures: what patterns select, how parts weigh, and nested subsets of datasets."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flanx
from flanx import Part, registry
from flanx.registry.mixtures.selected import Group, Rule, Selected

Register = Callable[..., None]
ROW_TYPES = ("zs_opt", "zs_noopt", "fs_opt", "fs_noopt", "inv")


@pytest.fixture
def collections(register_tickets: Register) -> None:
    """Datasets a.0 ... a.3 and b.0 ... b.2, each of the five types."""
    for name in ("a.0", "a.1", "a.2", "a.3", "b.0", "b.1", "b.2"):
        register_tickets(name)


def rates_of(name: str, counts: dict[str, int] | int = 100, **choice: Any) -> dict[str, float]:
    selected = registry.resolve(name, **choice)
    if isinstance(counts, int):
        counts = {one.task: counts for one in selected}
    return registry.rates(selected, counts)


def of_dataset(rates: dict[str, float], prefix: str) -> float:
    return sum(rate for task, rate in rates.items() if task.startswith(prefix))


@pytest.mark.parametrize(
    ("pattern", "tasks"),
    [
        ("a.1", [f"a.1.{kind}" for kind in sorted(ROW_TYPES)]),
        ("a.1.zs_opt", ["a.1.zs_opt"]),
        ("*.[01].inv", ["a.0.inv", "a.1.inv", "b.0.inv", "b.1.inv"]),
        ("b.*", [f"b.{i}.{kind}" for i in range(3) for kind in sorted(ROW_TYPES)]),
    ],
)
def test_patterns(collections: None, pattern: str, tasks: list[str]):
    assert [one.task for one in registry.resolve(pattern)] == tasks


def test_examples_proportional_with_cap_and_inverted_share(collections: None):
    flanx.mixture("mix", ["a.0", Part("a.1", cap=30)], cap=50)
    rates = rates_of("mix", 100)
    assert of_dataset(rates, "a.0") == pytest.approx(50)
    assert of_dataset(rates, "a.1") == pytest.approx(30)
    assert rates["a.0.inv"] == pytest.approx(0.3 * rates["a.0.zs_opt"])
    assert of_dataset(rates_of("mix", 20), "a.0") == pytest.approx(20)


@given(
    st.lists(st.integers(1, 10**6), min_size=4, max_size=4),
    st.sampled_from([None, 1, 700]),
    st.sampled_from([1.0, 2.0, 3.5]),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20
)
def test_temperature_is_seqios(
    collections: None, sizes: list[int], cap: int | None, temperature: float
):
    with registry.isolated():
        for number in range(4):
            flanx.register(
                f"t.{number}",
                source=flanx.Generated(lambda split, index: {"text": "x"}, train=1),
                fields=lambda row: row,
                templates=[flanx.Template("{text}", "{text}")],
            )
        flanx.mixture("mix", ["t.*"], cap=cap, temperature=temperature)
        selected = registry.resolve("mix", template_types=("zs_noopt",))
        counts = dict(zip((one.task for one in selected), sizes, strict=True))
        rates = registry.rates(selected, counts)
    for task, size in counts.items():
        assert rates[task] == pytest.approx(min(size, cap or size) ** (1 / temperature))


def test_temperature_of_a_part_and_of_mixtures_inside(collections: None):
    flanx.mixture("inner", ["a.1", Part("a.2", temperature=3)])
    flanx.mixture("mix", ["a.0", Part("b.0", temperature=1), Part("inner", cap=64)], temperature=2)
    rates = rates_of("mix", 10_000)
    assert of_dataset(rates, "a.0") == pytest.approx(100)
    assert of_dataset(rates, "b.0") == pytest.approx(10_000)
    assert of_dataset(rates, "a.1") == pytest.approx(8)
    assert of_dataset(rates, "a.2") == pytest.approx(4)
    assert rates["a.0.inv"] == pytest.approx(0.3 * rates["a.0.zs_opt"])


def test_template_types_and_their_shares(collections: None):
    flanx.mixture("mix", [Part("a.*", rate=2.0)])
    two = rates_of("mix", template_types=("zs_opt", "fs_opt"))
    assert set(two.values()) == {1.0}
    assert len(two) == 8
    shares = rates_of("mix", template_types={"zs_opt": 3.0, "inv": 1.0})
    assert shares["a.0.zs_opt"] == pytest.approx(1.5)
    assert shares["a.0.inv"] == pytest.approx(0.5)


def test_shares_and_nesting(collections: None):
    flanx.mixture("as", [Part("a.*", cap=10)])
    flanx.mixture("bs", [Part("b.0", rate=1), Part("b.1", rate=3)])
    flanx.mixture("both", [Part("as", share=60), Part("bs", share=40)])
    rates = rates_of("both", 1000)
    assert of_dataset(rates, "a.") == pytest.approx(60)
    assert of_dataset(rates, "b.0") == pytest.approx(10)
    assert of_dataset(rates, "b.1") == pytest.approx(30)
    flanx.mixture("outer", [Part("both", share=1), Part("b.2", share=3)])
    outer = rates_of("outer", 1000)
    assert of_dataset(outer, "b.1") == pytest.approx(0.3)
    assert of_dataset(outer, "b.2") == pytest.approx(3)


def test_a_task_of_two_parts_weighs_both(collections: None):
    flanx.mixture("mix", [Part("a.0.zs_opt", rate=2), Part("a.0", rate=4.3)])
    rates = rates_of("mix")
    assert rates["a.0.zs_opt"] == pytest.approx(3)
    assert rates["a.0.fs_opt"] == pytest.approx(1)


def test_without_examples_a_task_weighs_nothing(collections: None):
    flanx.mixture("mix", [Part("a.0.zs_opt", rate=2), Part("b.0.zs_opt", rate=2)])
    assert rates_of("mix", {"a.0.zs_opt": 5}) == {"a.0.zs_opt": 2.0, "b.0.zs_opt": 0.0}


def test_exclude(collections: None):
    flanx.mixture("mix", [Part("a.*", exclude=("a.[12]", "*.inv"))])
    assert {one.dataset for one in registry.resolve("mix")} == {"a.0", "a.3"}
    assert not any(one.type == "inv" for one in registry.resolve("mix"))
    flanx.mixture("none", [Part("a.*", exclude="a.*")])
    with pytest.raises(flanx.UserError, match="leaves nothing of it"):
        registry.resolve("none")


def test_equal_to_the_slow_definition(collections: None):
    """Rates of a nested mixture as SeqIO defines them: rate of the part * rate inside / total inside."""
    flanx.mixture("in1", [Part("a.0.zs_opt", rate=1), Part("a.1.zs_opt", rate=3)])
    flanx.mixture("in2", [Part("in1", rate=2), Part("a.2.zs_opt", rate=6)])
    flanx.mixture("top", [Part("in2", rate=5), Part("in1", rate=7)])
    rates = rates_of("top")
    assert rates["a.0.zs_opt"] == pytest.approx(5 * (2 / 8) * (1 / 4) + 7 * (1 / 4))
    assert rates["a.1.zs_opt"] == pytest.approx(5 * (2 / 8) * (3 / 4) + 7 * (3 / 4))
    assert rates["a.2.zs_opt"] == pytest.approx(5 * (6 / 8))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(st.integers(0, 10_000), st.data())
def test_subsets_nest(collections: None, seed: int, data: st.DataObject):
    more = data.draw(st.integers(1, 7))
    fewer = data.draw(st.integers(1, more))
    small = {one.dataset for one in registry.resolve("*.*", num_tasks=fewer, seed=seed)}
    large = {one.dataset for one in registry.resolve("*.*", num_tasks=more, seed=seed)}
    assert small <= large
    assert (len(small), len(large)) == (fewer, more)


def test_subsets_differ_by_seed(collections: None):
    chosen = {
        frozenset(one.dataset for one in registry.resolve("*.*", num_tasks=3, seed=seed))
        for seed in range(20)
    }
    assert len(chosen) > 5


def test_rates_take_linear_work(monkeypatch: pytest.MonkeyPatch):
    """Each rule is weighed once, however many there are."""
    calls = 0
    weigh = Rule.weight

    def counted(rule: Any, examples: int) -> float:
        nonlocal calls
        calls += 1
        return weigh(rule, examples)

    monkeypatch.setattr(Rule, "weight", counted)
    selected = [
        Selected(
            f"t{i}", None, (Rule(None, 50, 1.0, (Group("all", 1.0), Group(f"g{i % 7}", 2.0))),)
        )
        for i in range(20_000)
    ]
    rates = registry.rates(selected, {one.task: 10 for one in selected})
    assert calls == 20_000
    assert sum(rates.values()) == pytest.approx(1.0)


def test_resolving_takes_linear_work():
    """Python function calls, for a mixture of mixtures that name every dataset, and one that takes a glob."""

    def calls(datasets: int) -> int:
        with registry.isolated():
            for number in range(datasets):
                flanx.register(
                    f"a.{number}",
                    source=flanx.Generated(lambda split, index: {"text": "x"}, train=1),
                    fields=lambda row: row,
                    templates=[flanx.Template("{text}", "{text}")],
                )
            flanx.mixture("named", [f"a.{number}" for number in range(datasets)])
            flanx.mixture("glob", [Part("a.*", exclude=("a.1", "a.2"))])
            flanx.mixture("all", [Part("named", share=1), Part("glob", share=2)])
            made = 0

            def count(frame: Any, event: str, argument: Any) -> None:
                nonlocal made
                made += event in ("call", "c_call")

            sys.setprofile(count)
            try:
                selected = registry.resolve("all")
                registry.rates(selected, {one.task: 10 for one in selected})
            finally:
                sys.setprofile(None)
        return made

    few, many = calls(60), calls(240)
    assert many < 4.2 * few


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (
            lambda: registry.resolve("aa.*"),
            "glob 'aa.*' matches no task or mixture; did you mean 'a.*'?",
        ),
        (
            lambda: registry.resolve("a.0.zs_op"),
            "name 'a.0.zs_op' matches no task or mixture; did you mean 'a.0.zs_opt'?",
        ),
        (lambda: registry.resolve("mix"), "glob 'z.*' of mixture 'mix' matches no task or mixture"),
        (
            lambda: registry.resolve("a.*", split="dev"),
            "no task has the split 'dev' (they have train, validation)",
        ),
        (
            lambda: registry.resolve("a.*", num_tasks=5),
            "num_tasks 5 is not between 1 and its 4 datasets",
        ),
        (lambda: registry.resolve("a.*", num_tasks=0), "num_tasks 0 is not between"),
        (
            lambda: registry.resolve("a.*", template_types=("zsopt",)),
            "unknown template type 'zsopt'; did you mean 'zs_opt'?",
        ),
        (lambda: registry.resolve("a.*", template_types={"inv": 0}), "share 0 is not above 0"),
        (
            lambda: registry.resolve("a.0.inv", template_types=["zs_opt"]),
            "no task of template type zs_opt (there are inv)",
        ),
        (lambda: registry.resolve("loop"), "mixture 'loop' contains itself: loop > loop"),
        (lambda: flanx.mixture("mix", ["a.*"]), "mixture 'mix' ("),
        (lambda: flanx.mixture("a.0", ["a.*"]), "the name is registered at"),
        (lambda: flanx.mixture("x y", ["a.*"]), "a name has letters"),
        (lambda: flanx.mixture("m", []), "no parts"),
        (lambda: flanx.mixture("m", [3]), "3 is no flanx.Part"),  # type: ignore[list-item]
        (
            lambda: flanx.mixture("m", [Part("a", share=1), Part("b")]),
            "part 'b' has no share, but 'a' has",
        ),
        (lambda: Part("a", rate=0), "part 'a': rate 0 is not above 0"),
        (lambda: Part("a", rate=1, cap=2), "rate and cap exclude each other"),
        (lambda: Part("a", rate=1, temperature=2), "rate and temperature exclude each other"),
        (lambda: Part("a", temperature=-1), "part 'a': temperature -1 is not above 0"),
        (lambda: flanx.mixture("m", ["a.*"], temperature=0), "temperature 0 is not above 0"),
        (lambda: flanx.mixture("m", ["a.*"], cap=0), "cap 0 is not above 0"),
        (lambda: registry.get_mixture("mx"), "no mixture named 'mx'; did you mean 'mix'?"),
    ],
)
def test_mistakes(collections: None, act: Callable[[], Any], said: str):
    flanx.mixture("mix", ["z.*"])
    flanx.mixture("loop", ["loop"])
    with pytest.raises(flanx.UserError) as caught:
        act()
    assert said in str(caught.value)
