"""Which rows are duplicates: laws of the rule, and near duplicates against comparing every pair."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanx.data.filters import ExactDuplicates, NearDuplicates
from flanx.prep.filtering import duplicates, sketch, sketching
from flanx.prep.filtering.content import Content

EXACT, NEAR = "filter:exact_duplicate", "filter:near_duplicate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sketches")


def found(folder, datasets, filters, present=None):
    """Rows that go, by name, of datasets of (inputs, targets)."""
    sketches = []
    for number, texts in enumerate(datasets):
        rows = [(i, Content((asked,), (answered,))) for i, (asked, answered) in enumerate(texts)]
        sketching.write(folder / f"{number}.arrow", rows, filters)
        sketches.append(sketch.Sketch(folder / f"{number}.arrow"))
    present = present or [np.ones(len(texts), np.bool_) for texts in datasets]
    gone = duplicates.find(duplicates.MixtureRows(sketches, present), filters)
    return {name: rows.tolist() for name, rows in gone.items()}


def similar(one, a, b):
    """The two rows, compared by sets of n-grams spelt out."""

    def grams(text):
        words = text.split()
        n = min(one.words, len(words)) or 1
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} if words else set()

    for left, right in zip(map(grams, a), map(grams, b), strict=True):
        together = left | right
        if together and len(left & right) / len(together) < one.threshold:
            return False
    if any(sum(len(text.split()) for text in row) < one.shortest for row in (a, b)):
        return False
    short = [text.split() if len(text.split()) <= 5 else None for text in (a[1], b[1])]
    return short[0] == short[1]


def by_hand(one, rows):
    stays = []
    gone = []
    for i, row in enumerate(rows):
        if any(similar(one, row, rows[j]) for j in stays):
            gone.append(i)
        else:
            stays.append(i)
    return gone


def family(random, size, words=14):
    """A text and variants of it with a few words changed."""
    vocabulary = [f"w{i}" for i in range(200)]
    first = random.choices(vocabulary, k=words)
    for _ in range(size):
        changed = list(first)
        for _ in range(random.choice((0, 1, 1, 2, 4))):
            changed[random.randrange(words)] = random.choice(vocabulary)
        yield " ".join(changed), random.choice(("yes", "no", "yes it is because of all this"))


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_near_duplicates_are_those_of_every_pair_compared(folder, threshold):
    draw = random.Random(int(threshold * 10))
    rows = [row for _ in range(40) for row in family(draw, 8, draw.choice((4, 14, 40)))]
    draw.shuffle(rows)
    one = NearDuplicates(threshold=threshold, shortest=0)
    expected = set(by_hand(one, rows))
    gone = set(found(folder, [rows], [one])[NEAR])
    assert len(expected) > 40
    assert len(gone ^ expected) <= 0.01 * len(expected)


texts = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9).map(" ".join)
some_rows = st.lists(st.tuples(texts, st.sampled_from(["yes", "no", "a b c d a b c"])), max_size=30)
near = st.builds(
    NearDuplicates,
    threshold=st.sampled_from([0.3, 0.6, 0.8, 1.0]),
    words=st.sampled_from([1, 2]),
    shortest=st.sampled_from([0, 3]),
    permutations=st.just(32),
)


@settings(max_examples=25, deadline=None)
@given(some_rows, near)
def test_what_goes_has_a_double_that_stays(folder, rows, one):
    gone = found(folder, [rows], [one])[NEAR]
    stays = [i for i in range(len(rows)) if i not in gone]
    for i in gone:
        assert any(similar(one, rows[i], rows[j]) for j in stays if j < i)


@settings(max_examples=25, deadline=None)
@given(some_rows, near)
def test_filtering_what_was_filtered_removes_nothing(folder, rows, one):
    filters = [ExactDuplicates(), one]
    gone = found(folder, [rows], filters)
    left = [row for i, row in enumerate(rows) if i not in gone[EXACT] + gone[NEAR]]
    assert found(folder, [left], filters) == {EXACT: [], NEAR: []}


@settings(max_examples=15, deadline=None)
@given(some_rows, st.integers(0, 30), near)
def test_how_rows_are_spread_over_datasets_does_not_matter(folder, rows, cut, one):
    filters = [one, ExactDuplicates()]
    whole = found(folder, [rows], filters)
    assert found(folder, [rows[:cut], rows[cut:]], filters) == whole


@settings(max_examples=15, deadline=None)
@given(some_rows, st.integers(0, 30), near)
def test_datasets_apart_are_filtered_apart(folder, rows, cut, one):
    cut = min(cut, len(rows))
    filters = [
        ExactDuplicates(between_tasks=False),
        replace(one, between_tasks=False),
    ]
    first, second = found(folder, [rows[:cut]], filters), found(folder, [rows[cut:]], filters)
    expected = {name: first[name] + [i + cut for i in second[name]] for name in first}
    assert found(folder, [rows[:cut], rows[cut:]], filters) == expected


def test_the_first_of_equals_stays(folder):
    rows = [("a", "x"), ("b", "x"), ("a", "x"), (" a ", "x\n"), ("a", "y"), ("A", "x")]
    assert found(folder, [rows], [ExactDuplicates()]) == {EXACT: [2, 3]}


def test_rows_that_no_store_has_are_nobodys_first(folder):
    rows = [("a", "x"), ("a", "x"), ("a", "x")]
    present = [np.array([False, True, True])]
    for one, name in ((ExactDuplicates(), EXACT), (NearDuplicates(shortest=0), NEAR)):
        assert found(folder, [rows], [one], present) == {name: [2]}


def test_of_a_chain_the_ends_stay(folder):
    words = [f"w{i}" for i in range(40)]
    chain = [" ".join(words[start : start + 20]) for start in (0, 2, 4)]
    rows = [(text, "yes") for text in chain]
    assert found(folder, [rows], [NearDuplicates(0.75)]) == {NEAR: [1]}


def test_pairs_that_differ_in_a_short_answer_stay(folder):
    question = " ".join(f"w{i}" for i in range(30))
    rows = [
        (question, "positive"),
        (question + " indeed", "negative"),
        (question + " so", "Positive."),
    ]
    assert found(folder, [rows], [NearDuplicates()]) == {NEAR: [2]}


def test_one_word_is_much_of_a_short_row(folder):
    rows = [("Armenia", "AM"), ("armenia?", ".am"), ("Armenia", "AM")]
    assert found(folder, [rows], [NearDuplicates()]) == {NEAR: []}
    assert found(folder, [rows], [NearDuplicates(shortest=2)]) == {NEAR: [1, 2]}


def test_field_names_and_their_order_do_not_matter():
    one = Content(("a  question", "its passage"), ("x",))
    other = Content(("its passage", "a question"), ("x",))
    assert sketching.exact_hash(one) == sketching.exact_hash(other)
    assert sketching.exact_hash(one) != sketching.exact_hash(Content(one.inputs[:1], ("x",)))
    told = Content(("a question",), ("x",), instruction=("its passage",))
    assert sketching.exact_hash(one) == sketching.exact_hash(told)
    turned = Content(("x",), ("a  question", "its passage"))
    assert sketching.exact_hash(one) != sketching.exact_hash(turned)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("permutations", [16, 128, 256])
def test_bands_find_the_pairs_at_the_threshold(threshold, permutations):
    one = NearDuplicates(threshold, permutations=permutations)
    cut = sketching.bands(one)
    assert cut.count * cut.rows <= permutations
    wider = sketching.Bands(permutations // (cut.rows + 1) or 1, cut.rows + 1)
    assert cut.recall(threshold) >= 0.99 or cut.rows == 1
    assert cut.rows == permutations or wider.recall(threshold) < 0.99


def test_a_large_family_is_compared_with_the_likeliest(folder, monkeypatch):
    draw = random.Random(2)

    def changed(text, words):
        text = text.split()
        for place in draw.sample(range(len(text)), words):
            text[place] = f"x{draw.randrange(10_000)}"
        return " ".join(text)

    first = " ".join(f"w{i}" for i in range(30))
    rows = [(changed(first, 3), "yes") for _ in range(300)]
    copies = [(changed(rows[place][0], 1), "yes") for place in range(0, 300, 10)]
    one = NearDuplicates()
    apart = found(folder, [rows], [one])[NEAR]
    assert found(folder, [rows + copies], [one])[NEAR] == [*apart, *range(300, 330)]
    monkeypatch.setattr(duplicates, "_STAYING", 60)
    monkeypatch.setattr(duplicates, "_COMPARED", 20)
    compared = []
    similar = duplicates.Sets.similar
    monkeypatch.setattr(
        duplicates.Sets,
        "similar",
        lambda sets, place, others: compared.append(len(others)) or similar(sets, place, others),
    )
    warnings = []
    sketches = [sketch.Sketch(folder / "0.arrow")]
    everything = duplicates.MixtureRows(sketches, [np.ones(330, np.bool_)])
    gone = duplicates.find(everything, [one], warn=warnings.append)[NEAR]
    assert set(gone.tolist()) <= {*apart, *range(300, 330)}
    assert len(set(gone.tolist()) & set(range(300, 330))) >= 28
    assert max(compared) == 20
    assert "have more than 20 rows like them" in warnings[0]


@settings(max_examples=15, deadline=None)
@given(some_rows, near)
def test_bounded_search_too_leaves_nothing_to_find(folder, rows, one):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_STAYING", 3)
        patch.setattr(duplicates, "_COMPARED", 2)
        gone = found(folder, [rows], [one])[NEAR]
        left = [row for i, row in enumerate(rows) if i not in gone]
        assert found(folder, [left], [one]) == {NEAR: []}


def test_many_batches_read_as_one(folder, monkeypatch):
    draw = random.Random(0)
    rows = [row for _ in range(30) for row in family(draw, 4)]
    one = [NearDuplicates(), ExactDuplicates()]
    whole = found(folder, [rows], one)
    for module in (sketch, sketching):
        monkeypatch.setattr(module, "BATCH", 7)
    assert found(folder, [rows], one) == whole
    assert whole[NEAR]


@given(st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=8), st.data())
def test_similarity_of_sets(sets, data):
    one = data.draw(st.integers(0, len(sets) - 1))
    others = data.draw(st.lists(st.integers(0, len(sets) - 1)))
    values = np.array([value for each in sets for value in sorted(each)], np.uint32)
    packed = duplicates.Sets(values, np.array(list(map(len, sets)), np.int64))
    expected = [
        len(sets[one] & sets[i]) / len(sets[one] | sets[i]) if sets[one] | sets[i] else 1.0
        for i in others
    ]
    assert packed.similar(one, np.array(others, np.int64)).tolist() == expected
