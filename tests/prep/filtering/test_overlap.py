"""Decontamination: planted overlaps go, and what templates and instructions share is no overlap."""

import pytest

from flanx import registry
from flanx.data.filters import Decontaminate
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.prep import prepared
from flanx.prep.cache import cache
from flanx.prep.filtering import overlap_index
from flanx.prep.progress import Progress
from flanx.registry import loading

NAME = "filter:contaminated"
INSTRUCTION = (
    "decide with great care which of the many possible answers fits the following question best"
)


def sentence(seed, words=20):
    return " ".join(f"w{seed}x{i}" for i in range(words))


class Record(Progress):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def register(name, train=(), test=(), *, few_shot=False, template="{instruction} Q: {question}"):
    """A dataset of (question, answer) pairs under one instruction."""
    pairs = {"train": list(train), "test": list(test)}

    def row(split, i):
        question, answer = pairs[split][i]
        return {"instruction": INSTRUCTION, "question": question, "answer": answer}

    registry.register(
        name,
        source=registry.Generated(row, **{k: len(v) for k, v in pairs.items() if v}),
        fields=lambda row: row,
        templates=[registry.Template(template, "{answer}")],
        template_types=("fs_noopt",) if few_shot else ("zs_noopt",),
        vocabulary="bytes",
    )


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    # A name that is not found would import flanx's own tasks, and the registry forgets them after the test.
    monkeypatch.setattr(loading, "PACKAGES", ())
    with registry.isolated():
        yield lambda mixture, *given, **changes: StoreRequest(
            mixture,
            {"inputs": 4096, "targets": 512},
            str(tmp_path),
            filters=given,
            **changes,
        )


def kept(request, progress=None):
    (manifest,) = cache([request], workers=0, progress=progress or Progress())
    (entry,) = manifest.entries
    read = entry.open(request.cache_dir)
    return read.example_ids.tolist()


def questions(count, start=0):
    return [(sentence(i), "yes") for i in range(start, start + count)]


def test_planted_overlaps_go(request_of):
    inside = f"Before it. {sentence(500)[4:]}! And after it."
    train = [*questions(6), (sentence(501).upper(), "no"), (inside, "no"), ("short", sentence(502))]
    test = [
        (sentence(501), "yes"),
        (sentence(500), "yes"),
        (sentence(502), "no"),
        *questions(9, 600),
    ]
    register("a.train", train)
    register("a.eval", test=test, template="{question} So what? {instruction}")
    request = request_of("a.train", Decontaminate(against=("a.eval",)))
    assert kept(request) == [0, 1, 2, 3, 4, 5]
    manifest = prepared.ready(request)
    assert dict(manifest.entries[0].dropped) == {NAME: 3}
    assert manifest.request["filters"][0]["against"] == ["a.eval"]


def test_a_run_that_is_one_word_too_short_stays(request_of):
    words = sentence(500).split()
    register("a.train", [*questions(5), (" ".join([*words[:12], "else", *words[12:]]), "no")])
    register("a.eval", test=[(sentence(500), "yes"), *questions(9, 600)])
    given = Decontaminate(against=("a.eval",))
    assert kept(request_of("a.train", given)) == [0, 1, 2, 3, 4, 5]
    assert kept(request_of("a.train", Decontaminate(("a.eval",), words=12))) == [0, 1, 2, 3, 4]


def test_templates_and_instructions_are_no_overlap(request_of):
    """Both share a template and an instruction of more than 13 words; few rows, so that no run is common."""
    register("a.train", questions(5))
    register("a.eval", test=questions(5, 600))
    assert kept(request_of("a.train", Decontaminate(("a.eval",)))) == [0, 1, 2, 3, 4]


def test_wording_that_many_rows_share_is_no_overlap(request_of):
    wording = sentence("same", 15)
    register("a.train", [(f"{wording} {text}", answer) for text, answer in questions(5)])
    register("a.eval", test=[(f"{wording} {text}", answer) for text, answer in questions(12, 600)])
    assert kept(request_of("a.train", Decontaminate(("a.eval",)))) == [0, 1, 2, 3, 4]
    everything = Decontaminate(("a.eval",), common=1.0)
    with pytest.raises(UserError, match=NAME):
        kept(request_of("a.train", everything))


def test_short_fields_count_whole_down_to_the_shortest(request_of):
    train = [
        *questions(5),
        (f"so {sentence(500, 9)} then", "a"),
        (f"so {sentence(501, 7)} then", "b"),
    ]
    register("a.train", train)
    register("a.eval", test=[(sentence(500, 9), "x"), (sentence(501, 7), "y"), *questions(9, 600)])
    assert kept(request_of("a.train", Decontaminate(("a.eval",)))) == [0, 1, 2, 3, 4, 6]
    assert kept(request_of("a.train", Decontaminate(("a.eval",), shortest=7))) == [0, 1, 2, 3, 4]


def test_exemplars_are_looked_at(request_of):
    train = [*questions(3), (sentence(500), "no")]
    register("a.train", train, few_shot=True)
    register("a.eval", test=[(sentence(500), "yes"), *questions(9, 600)])
    request = request_of("a.train", Decontaminate(("a.eval",)), for_eval=True)
    plain = cache([request_of("a.train", for_eval=True)], workers=0, progress=Progress())[0]
    read = plain.entries[0].open(request.cache_dir)
    texts = {int(i): read.inputs_text(n) for n, i in enumerate(read.example_ids)}
    assert any(sentence(500) in texts[i] for i in (0, 1, 2))
    clean = [i for i, text in texts.items() if sentence(500) not in text]
    if clean:
        assert kept(request) == clean
    else:
        with pytest.raises(UserError, match=NAME):
            kept(request)


def test_options_are_evidence(request_of):
    option = sentence(500, 14)
    register("a.train", [*questions(5), (f"It is said that {option}.", "a")])
    registry.register(
        "a.eval",
        source=registry.Generated(
            lambda split, i: {"q": f"q{i}", "options": [option, "no"], "answer": "no"}, test=3
        ),
        fields=lambda row: row,
        templates=[registry.Template("{q}{options_}", "{answer}")],
    )
    assert kept(request_of("a.train", Decontaminate(("a.eval",)))) == [0, 1, 2, 3, 4]


def test_changed_evaluation_data_makes_new_stores(request_of, tmp_path):
    data = tmp_path / "data"
    data.mkdir()

    def write(*texts):
        lines = "".join(f"{text}\tyes\n" for text in texts)
        (data / "eval.tsv").write_text(lines)

    write(sentence(600))
    register("a.train", questions(5))
    registry.register(
        "a.eval",
        source=registry.Tsv(test="eval.tsv", columns=("question", "answer")),
        fields={"question": "question", "answer": "answer"},
        templates=[registry.Template("{question}", "{answer}")],
    )
    request = request_of("a.train", Decontaminate(("a.eval",)), data_dir=str(data))
    assert kept(request) == [0, 1, 2, 3, 4]
    assert prepared.ready(request) is not None
    write(sentence(600), sentence(3))
    assert prepared.ready(request) is None
    assert kept(request) == [0, 1, 2, 4]


def test_mistakes_are_named(request_of):
    register("a.train", questions(5))
    register("a.eval", test=questions(5))
    for given, message in [
        (("a.evil",), "filter Decontaminate: against name 'a.evil' matches no task .* 'a.eval'"),
        (("a.train",), "against 'a.train': no task has the split 'test'"),
    ]:
        with pytest.raises(UserError, match=message):
            kept(request_of("a.train", Decontaminate(given)))


def test_evaluation_tasks_without_the_split_or_without_text_are_said(request_of):
    register("a.train", questions(5))
    register("a.eval", test=[("short", "x"), ("too short", "y")])
    display = Record()
    assert kept(request_of("a.train", Decontaminate(("a.*",))), display) == [0, 1, 2, 3, 4]
    assert display.warnings == [
        "Decontaminate: no split 'test', so not compared with: a.train",
        "Decontaminate: a.* (test) has no text of 8 words or more, so nothing is compared; set "
        "`shortest` lower",
    ]


def test_evidence_is_counted_by_rows():
    settings = Decontaminate(("x",), words=2, shortest=1, common=0.1)
    rows = [["a b a b a b", "c"] for _ in range(10)] + [["d e"]]
    found = overlap_index.evidence(rows, settings)
    assert {n: len(runs) for n, runs in found.items()} == {1: 1, 2: 3}
    found = overlap_index.evidence([*rows, ["a b"]], settings)
    assert {n: len(runs) for n, runs in found.items()} == {1: 1, 2: 2}
