"""Rendering: options, references, exemplars, and what is dropped."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flanx
from flanx import registry
from flanx.registry import Dropped, FewShot, Rendered, Template
from flanx.registry.draws import Draws
from flanx.registry.rendering.exemplars import PoolRow, draw_from_pool, draw_from_row

Register = Callable[..., None]


def examples(task: str, split: str = "train", **settings: Any) -> list[Rendered]:
    rows = list(registry.get_task(task).render(split, **settings))
    assert all(isinstance(row, Rendered) for row in rows)
    return rows  # type: ignore[return-value]


def source(*rows: dict[str, Any]) -> flanx.Generated:
    return flanx.Generated(lambda split, index: rows[index], train=len(rows))


def test_options_are_listed_and_labels_mean_them(tickets: None):
    teams = ["billing", "network", "hardware"]
    labels = 0
    for row in examples("tickets.triage.zs_opt"):
        assert all(team in row.inputs for team in teams)
        assert row.options is not None
        assert row.options.index(row.targets) == row.index % 3
        assert row.references == (row.targets,)
        if row.targets not in teams:
            assert row.targets in row.inputs
            labels += 1
    assert 10 < labels < 50


@pytest.mark.parametrize("kind", ["zs_noopt", "fs_noopt"])
def test_no_option_types_leak_neither_options_nor_labels(tickets: None, kind: str):
    for row in examples(f"tickets.triage.{kind}", "validation"):
        query = row.inputs[row.inputs.rindex(f"validation ticket {row.index}") :]
        assert not any(team in query for team in ("billing", "network", "hardware"))
        assert row.targets in ("billing", "network", "hardware")
        assert row.options == ("billing", "network", "hardware")
        if kind == "zs_noopt":
            assert row.inputs in (
                f"validation ticket {row.index}\n\nWhich team takes this?",
                f"Triage. validation ticket {row.index}",
            )


def test_few_shot_shares_one_option_style(tickets: None):
    for row in examples("tickets.triage.fs_opt"):
        shown = row.inputs.count("hardware")
        tickets_shown = row.inputs.count("ticket ")
        extra = 0 if row.targets not in ("billing", "network", "hardware") else tickets_shown - 1
        assert tickets_shown <= shown <= tickets_shown + extra


def test_inverted(tickets: None):
    row = examples("tickets.triage.inv")[1]
    assert row == Rendered(
        1, 0, "Write a ticket for network.", "train ticket 1", ("train ticket 1",), None
    )


def test_all_templates_are_drawn_and_the_seed_counts(tickets: None):
    first = [row.template for row in examples("tickets.triage.zs_opt")]
    assert set(first) == {0, 1}
    assert first != [row.template for row in examples("tickets.triage.zs_opt", seed=1)]


def test_rendering_a_row_does_not_depend_on_the_others(tickets: None):
    spec = registry.get_task("tickets.triage.fs_opt")
    rows = list(spec.source.rows("train"))
    render = spec.renderer("train")
    assert [render(i, rows[i]) for i in (40, 3)] == [examples(spec.name)[i] for i in (40, 3)]
    assert len(list(spec.render("train", max_examples=7))) == 7


def test_lists_are_alternatives(register_tickets: Register):
    register_tickets(
        source=source(*({"q": str(i), "a": ["one", "two", "one"]} for i in range(40))),
        fields={"question": "q", "answer": "a"},
        templates=[Template("{question}", "It is {answer}.")],
        inverted=[Template("Ask for {answer}.", "{question}")],
    )
    rows = examples("tickets.triage.zs_noopt")
    assert {row.targets for row in rows} == {"It is one.", "It is two."}
    for row in rows:
        assert row.references[0] == row.targets
        assert set(row.references) == {"It is one.", "It is two."}
    assert {row.inputs for row in examples("tickets.triage.inv")} == {
        "Ask for one.",
        "Ask for two.",
    }


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ({"text": "t", "team": "sales"}, "zs_opt", "answer not among the options"),
        ({"text": "t", "team": "billing", "none": True}, "zs_opt", "no options"),
        ({"text": "t", "team": " "}, "inv", None),
        ({"text": " ", "team": "billing"}, "inv", "empty target"),
        ({"text": None, "team": "billing"}, "zs_noopt", "no ticket"),
        ({"text": "t", "team": []}, "zs_noopt", "empty answer"),
        ({"text": "t", "team": ""}, "zs_noopt", "empty target"),
        ({"text": "t", "team": "billing"}, "fs_noopt", "no exemplar"),
    ],
)
def test_dropped(register_tickets: Register, row: dict[str, Any], kind: str, reason: str | None):
    register_tickets(
        source=source(row),
        fields=lambda row: {
            "ticket": row["text"],
            "answer": row["team"],
            "options": [] if "none" in row else ["billing", "network"],
        },
    )
    (made,) = registry.get_task(f"tickets.triage.{kind}").render("train")
    assert isinstance(made, Rendered) if reason is None else made == Dropped(0, reason)


def test_a_blank_part_of_a_target_is_dropped(register_tickets: Register):
    register_tickets(
        source=source({"q": "1", "a": "one"}, {"q": "2", "a": " "}, {"q": "3", "a": "three"}),
        fields={"question": "q", "answer": "a"},
        templates=[Template("{question}", "The answer is {answer}.")],
        inverted=[],
    )
    _, blank, _ = registry.get_task("tickets.triage.zs_noopt").render("train")
    assert blank == Dropped(1, "empty answer in the target")


def test_a_row_without_a_text_is_no_exemplar(register_tickets: Register):
    rows = [{"q": str(i), "a": ["", " "] if i % 2 else ["one"]} for i in range(20)]
    register_tickets(
        source=source(*rows),
        fields={"question": "q", "answer": "a"},
        templates=[Template("{question}", "{answer}")],
        inverted=[],
    )
    made = list(registry.get_task("tickets.triage.fs_noopt").render("train"))
    assert [isinstance(one, Rendered) for one in made] == [True, False] * 10


def test_row_without_a_needed_field(register_tickets: Register):
    register_tickets(source=source({"txt": "t", "team": "billing"}))
    with pytest.raises(flanx.UserError) as caught:
        list(registry.get_task("tickets.triage.zs_opt").render("train"))
    assert str(caught.value).startswith(
        "generated train row 0: the row has no field 'text', which task 'tickets.triage' needs; "
        "did you mean 'txt'? (it has txt, team; asked for at "
    )


def test_fields_that_fail(register_tickets: Register):
    register_tickets(
        source=source({"n": "x"}),
        fields=lambda row: {"ticket": int(row["n"]), "options": [], "answer": ""},
    )
    with pytest.raises(
        flanx.UserError, match=r"train row 0: `fields` of task .*\(ValueError: invalid"
    ):
        list(registry.get_task("tickets.triage.zs_opt").render("train"))


def test_unknown_split(tickets: None):
    with pytest.raises(flanx.UserError, match=r"no split 'test' \(it has train, validation\)"):
        list(registry.get_task("tickets.triage.zs_opt").render("test"))


def test_never_its_own_exemplar_nor_a_double(register_tickets: Register):
    """Every text stands five times in the train split; an example with it shows it once, as the query."""
    rows = [{"text": f"<{i % 12}>", "team": "billing"} for i in range(60)]
    register_tickets(source=source(*rows))
    for kind in ("fs_opt", "fs_noopt"):
        for row in examples(f"tickets.triage.{kind}"):
            shown = [part.split(">")[0] for part in row.inputs.split("<") if ">" in part]
            numbers = [number for number in shown if number.isdigit()]
            assert numbers.count(str(row.index % 12)) == 1
            assert len(set(numbers)) == len(numbers) in (3, 4, 6)


def test_exemplars_of_another_split_come_from_train(tickets: None):
    for row in examples("tickets.triage.fs_opt", "validation"):
        assert row.inputs.count("validation ticket") == 1
        assert row.inputs.count("train ticket") in (2, 3, 5)


@given(
    st.lists(st.integers(0, 8), max_size=20),
    st.integers(0, 8),
    st.integers(0, 19),
    st.integers(1, 6),
)
def test_draw_from_pool(identities: list[int], query: int, place: int, k: int):
    pool = [PoolRow(i, {"place": i}, (str(one),)) for i, one in enumerate(identities)]
    chosen = [
        one["place"] for one in draw_from_pool(pool, (str(query),), place, k, Draws(0, "t", 0, "p"))
    ]
    shown = [identities[i] for i in chosen]
    usable = {one for i, one in enumerate(identities) if one != query and i != place}
    assert len(shown) == len(set(shown)) == min(k, len(usable))
    assert query not in shown
    assert place not in chosen


def test_draw_from_row_passes_over_the_query():
    given_ = [{"input": "a ", "output": "1"}, {"input": "b", "output": "2"}]
    drawn = draw_from_row(
        given_, {"input": "a", "task": "t"}, ("input", "task"), 2, Draws(0, "t", 0, "p")
    )
    assert drawn == [{"input": "b", "task": "t", "output": "2"}]


def test_exemplars_are_pruned_to_the_inputs(tickets: None, words: Any):
    """Kept while their tokens fit beside query and reserve; all of them without a limit; dropped where none fits."""
    spec = registry.get_task("tickets.triage.fs_noopt")
    free = examples(spec.name)
    for length in (12, 16, 24, 64, 2048):
        rows = list(
            spec.render("train", feature_lengths={"inputs": length, "targets": 9}, vocabulary=words)
        )
        for row, whole in zip(rows, free, strict=True):
            if isinstance(row, Rendered):
                assert len(words.encode(row.inputs)) <= length - min(128, length // 4)
                assert row.inputs.count("ticket") <= whole.inputs.count("ticket")
                assert row.inputs.count("ticket") > 1
                assert row.targets == whole.targets
            else:
                assert row.reason == "no exemplar fits the inputs"
        kept = [row for row in rows if isinstance(row, Rendered)]
        assert (kept == free) == (length == 2048)
    tight = spec.render("train", feature_lengths={"inputs": 4, "targets": 9}, vocabulary=words)
    assert {row.reason for row in tight if isinstance(row, Dropped)} == {
        "no exemplar fits the inputs"
    }


def test_what_surely_fits_is_not_tokenised_and_nothing_changes(tickets: None):
    class Counting:
        """Letters as tokens; counts how often it is asked, and may say beforehand how many there are at most."""

        def __init__(self, slack: int | None):
            self.asked = 0
            if slack is not None:
                self.most_tokens = lambda text: len(text) + slack

        def encode(self, text: str) -> list[int]:
            self.asked += 1
            return list(range(len(text)))

    spec = registry.get_task("tickets.triage.fs_opt")
    for length in (300, 700, 1500):
        plain, near, far = Counting(None), Counting(3), Counting(10**9)
        rendered = [
            list(spec.render("train", feature_lengths={"inputs": length}, vocabulary=words))
            for words in (plain, near, far)
        ]
        assert rendered[0] == rendered[1] == rendered[2]
        assert near.asked < plain.asked == far.asked


def test_rationale_in_the_target_is_in_the_exemplars(register_tickets: Register):
    rows = [{"q": f"#{i}", "r": f"because{i}", "a": f"a{i}"} for i in range(30)]
    register_tickets(
        source=source(*rows),
        fields={"question": "q", "rationale": "r", "answer": "a"},
        templates=[
            Template("Why so? {question}", "{rationale} So {answer}."),
            Template("Short: {question}", "{answer}"),
        ],
        inverted=(),
    )
    for row in examples("tickets.triage.fs_noopt"):
        assert row.inputs.count("because") == (
            row.inputs.count("so? #") - 1 if row.template == 0 else 0
        )


def test_exemplars_of_the_row(register_tickets: Register):
    shots = [{"input": f"i{i}", "output": f"o{i}", "why": f"w{i}"} for i in range(3)]
    bare = [{"input": "i3", "output": "o3"}]
    register_tickets(
        source=source({"shots": shots}, {"shots": bare}, {"shots": []}),
        fields=lambda row: {
            "definition": "Do.",
            "input": "x",
            "output": ["y"],
            "shots": row["shots"],
        },
        templates=[Template("{definition}\n{exemplars_}Now: {input}", "{output}")],
        inverted=(),
        template_types=("zs_opt", "fs_opt"),
        few_shot=FewShot(
            exemplars="shots", counts=(2,), items=("{input}={output}", "{input}={output} {why}")
        ),
    )
    assert examples("tickets.triage.zs_opt")[0].inputs == "Do.\nNow: x"
    first, second, third = registry.get_task("tickets.triage.fs_opt").render("train")
    assert isinstance(first, Rendered)
    assert first.inputs.startswith("Do.\ni")
    assert first.inputs.endswith("\n\nNow: x")
    assert first.inputs.count("=o") == 2
    assert isinstance(second, Rendered)
    assert second.inputs == "Do.\ni3=o3\n\nNow: x"
    assert third == Dropped(2, "no exemplar")
