"""Each thing that should stand out does, and a sound mixture has nothing to say."""

import re

import pytest

from flanx.data import vocabulary
from flanx.insight.findings import findings, reasons
from flanx.insight.planned import Exposure, Plan
from flanx.insight.sample import Density
from flanx.insight.survey import survey

FULL = Density(rows=100, examples=400, inputs_fill=0.97, targets_fill=0.9)


def sound(count=40, word="answer"):
    return [(f"question {word} {i}", f"{word} {i}") for i in range(count)]


def titles(made, plan=None, density=FULL):
    looked_at = survey(*made, vocabulary.load("bytes"))
    found = findings(looked_at, Exposure(plan or Plan(), density))
    return {
        finding.title: [looked_at.tasks[p].entry.task for p in finding.tasks] for finding in found
    }


def only(found, pattern):
    (title,) = [title for title in found if re.search(pattern, title)]
    return found[title]


def test_a_sound_mixture_has_nothing_to_say(make):
    made = make({"a.one.zs_opt": sound(), "a.two.zs_opt": sound(word="reply")})
    assert titles(made, Plan(steps=10, batch_size=4)) == {}


def test_epochs_follow_from_steps_density_share_and_size(make):
    tasks = {"a.large.zs_opt": sound(99), "a.small.zs_opt": sound(10)}
    made = make(tasks, rates={"a.large.zs_opt": 1, "a.small.zs_opt": 1})
    plan = Plan(steps=20, batch_size=2)
    exposure = Exposure(plan, FULL)
    large, small = survey(*made, None).tasks
    assert exposure.seen == 20 * 2 * 4
    assert exposure.epochs(small) == pytest.approx(80 / 10)
    assert exposure.epochs(large) == pytest.approx(80 / 99)
    assert only(titles(made, plan), "1 task seen over more than 4 epochs") == ["a.small.zs_opt"]
    assert titles(made) == {}  # no epochs without steps


def test_tasks_that_training_hardly_meets(make):
    tasks = {"a.often.zs_opt": sound(), "a.rare.zs_opt": sound(), "a.never.zs_opt": sound()}
    made = make(tasks, rates={"a.often.zs_opt": 1, "a.rare.zs_opt": 0.05, "a.never.zs_opt": 0})
    found = titles(made, Plan(steps=10, batch_size=2))
    assert only(found, "fewer than 10 examples") == ["a.rare.zs_opt"]


def test_cut_constant_repeated_lost_and_few(make):
    tasks = {
        "a.sound.zs_opt": sound(200),
        "a.cut.zs_opt": [(f"{i}" + "x" * 80, f"a{i}") for i in range(60)],
        "a.stop.zs_opt": [(f"q{i}", f"{i} " + "word " * 9) for i in range(20)],
        "a.constant.zs_opt": [(f"q{i}", "yes") for i in range(30)],
        "a.twice.zs_opt": [(f"q{i // 2}", f"a{i}") for i in range(30)],
        "a.few.zs_opt": sound(4),
    }
    made = make(tasks, dropped={"a.sound.zs_opt": {"filter:near_duplicate": 50, "empty target": 1}})
    found = titles(made)
    assert only(found, "% of the training examples have their inputs cut to 64") == []
    assert only(found, "1 task with more than 10% of the inputs cut") == ["a.cut.zs_opt"]
    assert only(found, "1 task with more than 2% of the targets cut") == ["a.stop.zs_opt"]
    assert only(found, "one and the same answer") == ["a.constant.zs_opt"]
    assert only(found, "inputs repeated") == ["a.twice.zs_opt"]
    assert only(found, "rows dropped") == ["a.sound.zs_opt"]
    assert only(found, "fewer than 10 examples") == ["a.few.zs_opt"]
    graves = [re.search("cut|answer", title) for title in list(found)[:3]]
    assert all(graves)  # what must be mended comes first


def test_padding_is_named_where_shorter_rows_would_do(make):
    half = Density(100, 400, 0.97, 0.4)
    roomy = {"limits": {"inputs": 64, "targets": 64}}
    tasks = {"a.one.zs_opt": sound(word="word")}  # targets of 8 bytes at most
    assert only(titles(make(tasks, **roomy), density=half), "Only 40% of the target cells") == []
    tight = {"limits": {"inputs": 64, "targets": 8}}
    assert titles(make({"b.one.zs_opt": sound(word="word")}, **tight), density=half) == {}
    alone = Density(100, 100, 0.3, 0.2)
    found = titles(make({"c.one.zs_opt": sound()}), Plan(packed=False), alone)
    assert only(found, "Only 30% of the input and 20% of the target cells") == []


def test_characters_that_the_vocabulary_cannot_write(make):
    names = ("a.code.zs_opt", "a.prose.zs_opt", "a.lines.zs_opt")
    lost = {names[0]: {"\n": 1204, "{": 88}, names[2]: {"\n": 2000}}
    looked_at = survey(*make(dict.fromkeys(names, sound()), unwritable=lost), None)
    (finding,) = [
        one for one in findings(looked_at, Exposure(Plan(), FULL)) if "cannot write" in one.title
    ]
    assert finding.title == "2 tasks with characters that the vocabulary cannot write: 3,292"
    assert [looked_at.tasks[place].entry.task for place in finding.tasks] == [names[2], names[0]]
    assert finding.figures == ('loses "\\n" (2,000)', 'loses "\\n" (1,204), "{" (88)')
    assert 'loses "\\n" (3,204), "{" (88)' in finding.text


def test_reasons_are_summed_over_tasks():
    dropped = [{"empty target": 2}, {"empty target": 1, "filter:length": 9}, {"no exemplar": 0}]
    assert reasons(dropped) == [("filter:length", 9, 1), ("empty target", 3, 2)]
