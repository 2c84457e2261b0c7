"""Metrics of predictions, in percent, and how a task names them.

A metric is a plain function `(references, predictions) -> {"name": percent}`, with `references` a
list of acceptable answers for each prediction. One that ranks given options instead of reading a
generated answer is marked `@needs("option_scores")` and takes `(references, options, scores)`. Any
importable function of either form will do: tasks store it as `"module:name"`.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

from flanx.errors import no_attribute
from flanx.evaluation import writing_systems
from flanx.user_code import import_by_name
from flanx.user_code.import_by_name import METRIC

References = Sequence[Sequence[str]]
Need = Literal["generation", "option_scores"]
Metric = Callable[..., dict[str, float]]


def needs(what: Need) -> Callable[[Metric], Metric]:
    """Marks what a metric is computed from; without the mark it is "generation"."""

    def mark(metric: Metric) -> Metric:
        metric.needs = what  # type: ignore[attr-defined]
        return metric

    return mark


def needs_of(metric: Metric) -> Need:
    """What `metric` is computed from: "generation" or "option_scores"."""
    return getattr(metric, "needs", "generation")


def exact_match(references: References, predictions: Sequence[str]) -> dict[str, float]:
    """Share of predictions equal to a reference, to the character (outer white space aside)."""
    hits = [
        prediction.strip() in {reference.strip() for reference in answers}
        for answers, prediction in _pairs(references, predictions)
    ]
    return {"exact_match": _percent(hits)}


def accuracy(references: References, predictions: Sequence[str]) -> dict[str, float]:
    """Share of predictions that are a reference, whatever their letter case, spacing and Unicode form.

    Vocabularies write NFKC: a model cannot give a reference's full-width letters or decomposed accents as they are.
    """
    hits = [
        _label(prediction) in {_label(reference) for reference in answers}
        for answers, prediction in _pairs(references, predictions)
    ]
    return {"accuracy": _percent(hits)}


@needs("option_scores")
def rank_accuracy(
    references: References,
    options: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
) -> dict[str, float]:
    """Share of examples whose best-scored option is a reference; ties go to the first option.

    Args:
      references: acceptable answers of each example.
      options: the options of each example.
      scores: log-probability of each option, summed over its tokens.
    """
    hits = []
    for answers, choices, values in zip(references, options, scores, strict=True):
        best = choices[max(range(len(choices)), key=lambda i: values[i])]
        hits.append(best.strip() in {reference.strip() for reference in answers})
    return {"rank_accuracy": _percent(hits)}


def rouge_l(references: References, predictions: Sequence[str]) -> dict[str, float]:
    """Mean ROUGE-L F-measure, the best over the references.

    Natural Instructions' rule: `rougeL` of its `compute_metrics.py`, with the words and stems of rouge_score. Where it
    knows nothing of most words of a reference (Chinese, Arabic, Hindi), they are compared by words of their own script,
    without stems; the multilingual track takes GPT-2's pieces there (`writing_systems`).
    """
    best = [
        max(_rouge_l(answer, prediction) for answer in answers)
        for answers, prediction in _pairs(references, predictions)
    ]
    return {"rouge_l": _percent(best)}


def token_f1(references: References, predictions: Sequence[str]) -> dict[str, float]:
    """Mean F1 of bags of words, the best over the references, normalised as SQuAD v1.1 does.

    In every language, as the official scripts of XQuAD and TyDiQA have it: English articles and ASCII punctuation go,
    words are what spaces part. A Chinese or Thai answer is therefore one word, right as a whole or not at all.
    """
    best = [
        max(_f1(_squad_words(answer), _squad_words(prediction)) for answer in answers)
        for answers, prediction in _pairs(references, predictions)
    ]
    return {"token_f1": _percent(best)}


def bleu(references: References, predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU of sacrebleu's defaults, with as many references as each example has.

    Where most letters of the references are of a script without spaces between words, its tokenizer is "zh" for Chinese
    and "char" for Japanese, Thai and others: the default takes a sentence for one word there.
    """
    import sacrebleu

    pairs = _pairs(references, predictions)
    if not pairs:
        return {"bleu": 0.0}
    most = max(len(answers) for answers, _ in pairs)
    # sacrebleu reads references by column; None stands for "this example has no further reference".
    columns = [
        [answers[i] if i < len(answers) else None for answers, _ in pairs] for i in range(most)
    ]
    result = sacrebleu.corpus_bleu(
        [prediction for _, prediction in pairs],
        columns,  # type: ignore[arg-type]
        tokenize=writing_systems.bleu_tokenizer(text for answers, _ in pairs for text in answers),
    )
    return {"bleu": float(result.score)}


def resolve(name: str) -> Metric:
    """The metric that `"module:name"` names; a bare name is one of this module's.

    Raises:
      UserError: there is no such module or function; the nearest name is offered.
    """
    return import_by_name.load(name, METRIC)


def name_of(metric: Any) -> str:
    """`"module:name"` of a metric given as a function or by name, checked to resolve.

    Raises:
      UserError: a lambda or a local function, which no name finds again, or an unknown name.
    """
    return import_by_name.name_of(metric, METRIC)


def __getattr__(name: str) -> Any:
    """`flanx.metrics.acuracy`: names the nearest metric."""
    raise no_attribute("flanx.metrics", name, NAMES)


NAMES = ("accuracy", "bleu", "exact_match", "rank_accuracy", "rouge_l", "token_f1")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _pairs(references: References, predictions: Sequence[str]) -> list[tuple[Sequence[str], str]]:
    pairs = list(zip(references, predictions, strict=True))
    for index, (answers, _) in enumerate(pairs):
        if isinstance(answers, str) or not answers:
            raise ValueError(
                f"references[{index}] must be a list of at least one string, got {answers!r}"
            )
    return pairs


def _percent(values: Sequence[float]) -> float:
    return 100.0 * sum(values) / len(values) if values else 0.0


def _label(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _f1(reference: list[str], prediction: list[str]) -> float:
    if not reference or not prediction:  # SQuAD v2's rule: nothing matches nothing
        return float(reference == prediction)
    shared = (Counter(reference) & Counter(prediction)).total()
    return 2 * shared / (len(reference) + len(prediction))


def _rouge_l(reference: str, prediction: str) -> float:
    scorer = _rouge_scorer(by_script=writing_systems.mostly_beyond_ascii(reference))
    return scorer.score(target=reference, prediction=prediction)["rougeL"].fmeasure


@cache
def _rouge_scorer(*, by_script: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    if by_script:
        return RougeScorer(["rougeL"], tokenizer=_WordsByScript())
    return RougeScorer(["rougeL"], use_stemmer=True)


class _WordsByScript:
    """The tokenizer that rouge_score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return writing_systems.words(text)
