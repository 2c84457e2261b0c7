"""Each metric against values worked by hand, and against the libraries they stand on."""

import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flanx
from flanx.errors import UserError
from flanx.evaluation import metrics


def test_exact_match_minds_case_and_inner_space_but_not_outer_space():
    references = [["Paris"], ["Paris"], ["a b"], ["x", "y"]]
    predictions = [" Paris\n", "paris", "a  b", "y"]
    assert metrics.exact_match(references, predictions) == {"exact_match": 50.0}


def test_accuracy_ignores_case_and_spacing():
    references = [["Not Entailment"], ["yes"], ["yes"]]
    predictions = ["not  entailment ", "YES", "yes."]
    assert metrics.accuracy(references, predictions)["accuracy"] == pytest.approx(200 / 3)


def test_rank_accuracy_takes_the_best_scored_option_and_the_first_of_equals():
    references = [["b"], ["b"], ["(C)"]]
    options = [["a", "b"], ["a", "b"], ["(A)", "(B)", "(C)"]]
    scores = [[-3.0, -1.0], [-2.0, -2.0], [-9.0, -8.5, -8.0]]
    assert metrics.rank_accuracy(references, options, scores)["rank_accuracy"] == pytest.approx(
        200 / 3
    )


def test_rouge_l_by_hand():
    # LCS "the cat on mat" of 4 words: precision 4/4, recall 4/6, F 0.8.
    got = metrics.rouge_l([["the cat sat on the mat"]], ["the cat on mat"])
    assert got["rouge_l"] == pytest.approx(80.0)


def test_rouge_l_stems_and_takes_the_best_reference():
    references = [["nothing alike", "running dogs"], ["zero"]]
    assert metrics.rouge_l(references, ["run dog", "one"])["rouge_l"] == pytest.approx(50.0)


WORDS = st.text(alphabet="abc ing.", max_size=25)


@given(st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=3), WORDS), min_size=1, max_size=4))
def test_rouge_l_is_the_natural_instructions_rule(pairs):
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    total = 0.0
    for answers, prediction in pairs:
        total += max(scorer.score(answer, prediction)["rougeL"].fmeasure for answer in answers)
    got = metrics.rouge_l([a for a, _ in pairs], [p for _, p in pairs])["rouge_l"]
    assert got == pytest.approx(100 * total / len(pairs), abs=1e-9)


@pytest.mark.parametrize(
    ("references", "prediction", "f1"),
    [
        (["the Eiffel Tower"], "Eiffel tower!", 100.0),
        (["a b c d"], "b c", 100 * 2 * 1.0 * (2 / 3) / (1.0 + 2 / 3)),  # the article "a" is dropped
        (["in June 1997", "1997"], "1997", 100.0),
        (["blue blue red"], "blue", 100 * 2 * 1.0 * (1 / 3) / (4 / 3)),
        (["yes"], "", 0.0),
        (["the"], "an", 100.0),  # both empty once articles are gone
        (["U.S.A."], "usa", 100.0),
    ],
)
def test_token_f1_by_hand(references, prediction, f1):
    assert metrics.token_f1([references], [prediction])["token_f1"] == pytest.approx(f1)


SQUAD_WORDS = st.lists(st.sampled_from(["the", "An", "cat.", "Dog", "'s", "mat-x"]), max_size=5)


@given(SQUAD_WORDS, SQUAD_WORDS)
def test_token_f1_is_the_official_squad_function(reference, prediction):
    got = metrics.token_f1([[" ".join(reference)]], [" ".join(prediction)])["token_f1"]
    assert got == pytest.approx(100 * _squad_f1(" ".join(prediction), " ".join(reference)))


def _squad_f1(prediction, truth):
    """The slow way: SQuAD's definition with explicit loops (v2's rule for empty answers)."""

    def words(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return [w for w in text.split() if w not in ("a", "an", "the")]

    left, right = words(prediction), words(truth)
    if not left or not right:
        return float(left == right)
    same, rest = 0, list(right)
    for word in left:
        if word in rest:
            rest.remove(word)
            same += 1
    if not same:
        return 0.0
    precision, recall = same / len(left), same / len(right)
    return 2 * precision * recall / (precision + recall)


def test_bleu_by_hand():
    # n-gram precisions 6/7, 5/6, 4/5, 3/4; no brevity penalty: (3/7) ** (1/4).
    got = metrics.bleu([["the cat sat on the mat"]], ["the cat sat on the mat today"])["bleu"]
    assert got == pytest.approx(100 * (3 / 7) ** 0.25, abs=1e-6)


def test_bleu_takes_unequal_numbers_of_references():
    import sacrebleu

    references = [["a b c d e", "a b c d x"], ["f g h i j"]]
    predictions = ["a b c d x", "f g h i k"]
    # A repeated reference changes nothing, so it can stand in for the missing one.
    columns = [["a b c d e", "f g h i j"], ["a b c d x", "f g h i j"]]
    expected = sacrebleu.corpus_bleu(predictions, columns).score
    assert metrics.bleu(references, predictions)["bleu"] == pytest.approx(expected)
    assert expected < 100


def test_no_examples_score_zero():
    for metric in (metrics.exact_match, metrics.accuracy, metrics.rouge_l, metrics.token_f1):
        assert list(metric([], []).values()) == [0.0]
    assert metrics.bleu([], []) == {"bleu": 0.0}


def test_references_must_be_lists():
    with pytest.raises(ValueError, match=r"references\[0\] must be a list"):
        metrics.accuracy(["yes"], ["yes"])


def test_needs():
    assert metrics.needs_of(metrics.rank_accuracy) == "option_scores"
    assert metrics.needs_of(metrics.rouge_l) == "generation"
    assert metrics.needs_of(lambda references, predictions: {}) == "generation"


def test_names_go_there_and_back():
    for metric in (metrics.bleu, metrics.rank_accuracy, flanx.metrics.token_f1):
        assert metrics.resolve(metrics.name_of(metric)) is metric
    assert metrics.name_of("rouge_l") == "flanx.evaluation.metrics:rouge_l"
    assert metrics.resolve("rouge_l") is metrics.rouge_l
    assert metrics.name_of("os.path:join") == "os.path:join"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ("flanx.evaluation.metrics:rouge_L", "did you mean 'rouge_l'?"),
        ("os.path:jion", "module 'os.path' has no function 'jion'; did you mean 'join'?"),
        ("no_such_module_x:f", "no module named 'no_such_module_x'"),
        (lambda references, predictions: {}, "define it with def at the top of a module"),
        (3, "metric 3 is no function"),
    ],
)
def test_bad_metrics_are_refused(metric, message):
    with pytest.raises(UserError, match="metric") as caught:
        metrics.name_of(metric)
    assert message in str(caught.value)


def test_a_local_function_is_refused():
    def local(references, predictions):
        return {"local": 0.0}

    with pytest.raises(UserError, match="cannot be stored by name"):
        metrics.name_of(local)


def test_importing_metrics_loads_no_scoring_library():
    code = (
        "import sys, flanx.evaluation.metrics, flanx.evaluation.suites, flanx.evaluation.postprocess;"
        "print(sorted(set(sys.modules) & {'sacrebleu', 'rouge_score', 'jax', 'numpy', 'tensorflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SENTENCES = {
    "Chinese": "机器学习很有趣。",
    "Japanese": "これはとても面白い本です",
    "Thai": "นี่คือหนังสือ",
    "Korean": "이 책은 아주 재미있다",
    "Arabic": "هذا كتاب جديد جدا",
    "Hindi": "यह एक बहुत नई किताब है",
    "Russian": "это очень новая книга",
    "Greek": "αυτό είναι νέο βιβλίο",
    "German": "Über Äpfel spricht man gern",
}


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("metric", ["rouge_l", "bleu", "token_f1", "accuracy", "exact_match"])
def test_a_perfect_answer_is_perfect_in_every_script(language, metric):
    text = SENTENCES[language]
    wrong = "nothing of it in this answer"
    score = getattr(metrics, metric)
    assert score([[text]], [text])[metric] == pytest.approx(100.0)
    assert score([[text], [text]], [text, wrong])[metric] < 100
    assert score([[text]], [wrong])[metric] == 0.0


@pytest.mark.parametrize(
    ("reference", "prediction", "f"),
    [
        # Four of six characters, in order: precision 4/4, recall 4/6.
        ("我喜欢吃苹果", "我喜欢吃", 80.0),
        ("我喜欢吃苹果", "苹果喜欢我", 2 * (2 / 5) * (2 / 6) / (2 / 5 + 2 / 6) * 100),
        # Two of four words.
        ("هذا كتاب جديد جدا", "كتاب جديد", 100 * 2 / 3),
        ("используем модель GPT", "модель gpt", 80.0),
        ("我用 Python 写代码", "python", 2 * 1 * (1 / 6) / (1 + 1 / 6) * 100),
    ],
)
def test_rouge_l_by_script_by_hand(reference, prediction, f):
    assert metrics.rouge_l([[reference]], [prediction])["rouge_l"] == pytest.approx(f)


ENGLISH = st.text(alphabet="abc\u00e9 \u03b1-\u03b8\u5317 ing.\u00bd", max_size=25)


@given(ENGLISH, ENGLISH)
def test_rouge_l_of_english_with_borrowed_letters_is_rouge_scores_own(reference, prediction):
    from rouge_score import rouge_scorer

    reference = "the running dogs of the café were " + "in the zoo " * 9 + reference
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    expected = 100 * scorer.score(reference, prediction)["rougeL"].fmeasure
    assert metrics.rouge_l([[reference]], [prediction])["rouge_l"] == expected


def test_accuracy_knows_what_a_vocabulary_can_write():
    references = [["\uff08\uff21\uff09"], ["cafe\u0301"], ["ｶﾅ"]]
    predictions = ["(a)", "caf\u00e9", "カナ"]
    assert metrics.accuracy(references, predictions)["accuracy"] == 100.0
    assert metrics.exact_match(references, predictions)["exact_match"] == 0.0
