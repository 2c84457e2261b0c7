"""What an experienced eye would stop at: tasks seen too often or never, cut texts, constant answers, lost rows."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flanx.data.vocabulary.coverage import total
from flanx.insight.planned import Exposure
from flanx.insight.survey import Survey, TaskFacts

# Repeating data up to four times is nearly as good as new data (Muennighoff et al. 2023, arXiv 2305.16264).
MOST_EPOCHS = 4.0
FEW_SEEN = 10.0  # examples of a task over the whole run
FEW_EXAMPLES = 10
CLIPPED_INPUTS = 0.05
CLIPPED_TARGETS = 0.01  # a cut target teaches to stop in the middle
LOST = 0.10
SAME_ANSWER = 0.90
REPEATED = 0.10
UNKNOWN = 0.01
LOW_FILL = 0.80
STEP = 64  # of the shorter lengths that are thought of
LOSS_OVER_SHARE = 5.0
LARGE_LOSS = 0.01
LARGE_SHARE = 0.25
ENOUGH_LOOKED_AT = 20


@dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Attributes:
      title: what it is, with its number.
      text: why it matters, and what to do.
      tasks: places in the survey, the worst first.
      figures: what to print beside each of them.
      grave: it costs quality or time for certain, rather than perhaps.
    """

    title: str
    text: str
    tasks: tuple[int, ...] = ()
    figures: tuple[str, ...] = ()
    grave: bool = False


def findings(survey: Survey, exposure: Exposure) -> list[Finding]:
    """Everything that stands out, the grave first."""
    found = [
        *_lengths(survey),
        *_fill(survey, exposure),
        *_repetition(survey, exposure),
        *_contents(survey),
        *_unwritable(survey),
        *_lost(survey),
    ]
    return sorted(found, key=lambda finding: not finding.grave)


def _lengths(survey: Survey) -> Iterable[Finding]:
    limits = survey.manifest.feature_lengths
    for name, most, why in (
        ("inputs", CLIPPED_INPUTS, "what is cut off the end is often the question itself"),
        ("targets", CLIPPED_TARGETS, "the model learns to stop in the middle of an answer"),
    ):
        over: float = getattr(survey, name).clipped
        if over > most:
            yield Finding(
                f"{over:.1%} of the training examples have their {name} cut to {limits[name]:,} tokens",
                f"Above {most:.0%}: {why}. `flanx lengths` finds lengths that cut fewer.",
                grave=True,
            )
        yield from _tasks(
            survey,
            operator.attrgetter(f"clipped_{name}"),
            2 * most,
            "{:.0%}",
            "{n} with more than " + f"{2 * most:.0%} of the {name} cut",
            f"In these {why}. Longer TASK_FEATURE_LENGTHS, or a filter on length, mends it.",
        )


def _fill(survey: Survey, exposure: Exposure) -> Iterable[Finding]:
    """Padding that shorter rows would save; what lies in the data alone, short targets say, is no finding."""
    density, limits = exposure.density, survey.manifest.feature_lengths
    if not exposure.plan.packed:
        if max(density.inputs_fill, density.targets_fill) < LOW_FILL:
            yield Finding(
                f"Only {density.inputs_fill:.0%} of the input and {density.targets_fill:.0%} of the target cells hold "
                "tokens",
                "Packing is off: an example has a row of its own, and the rest of it is padding that is paid for.",
            )
        return
    for name, filled, most in (
        ("inputs", density.inputs_fill, CLIPPED_INPUTS),
        ("targets", density.targets_fill, CLIPPED_TARGETS),
    ):
        limit = limits[name]
        lengths = survey.inputs if name == "inputs" else survey.targets
        least = lengths.least(most, STEP if limit > STEP else STEP // 8)
        if filled < LOW_FILL and least is not None and least < limit:
            yield Finding(
                f"Only {filled:.0%} of the {name[:-1]} cells of a batch hold tokens",
                f"The rest is padding that is paid for like tokens. {name.capitalize()} of {least:,} rather than "
                f"{limit:,} would cut {lengths.over(least):.2%}. `flanx lengths` finds the pair of lengths that wastes "
                "least.",
                grave=True,
            )


def _repetition(survey: Survey, exposure: Exposure) -> Iterable[Finding]:
    if exposure.seen is not None:
        yield from _tasks(
            survey,
            lambda task: exposure.epochs(task) or 0.0,
            MOST_EPOCHS,
            "{:.1f} epochs",
            "{n} seen over more than " + f"{MOST_EPOCHS:g} epochs",
            "Beyond about four epochs repeated examples teach little, and small tasks are learnt by heart. "
            "Cap their rates, add examples, or train fewer steps.",
        )
        yield from _tasks(
            survey,
            lambda task: exposure.seen_of(task) or 0.0,
            FEW_SEEN,
            "{:.1f} examples",
            "{n} of which the whole run meets fewer than " + f"{FEW_SEEN:g} examples",
            "They hardly take part. Raise their rates, or the mixture's temperature, or leave them out.",
            largest=False,
        )
    yield from _tasks(
        survey,
        lambda task: float(task.entry.examples),
        FEW_EXAMPLES,
        "{:.0f} examples",
        "{n} with fewer than " + f"{FEW_EXAMPLES} examples",
        "Too few to learn a task from; and those few come back again and again.",
        largest=False,
    )


def _contents(survey: Survey) -> Iterable[Finding]:
    yield from _tasks(
        survey,
        lambda task: task.answer_share if task.looked_at >= ENOUGH_LOOKED_AT else 0.0,
        SAME_ANSWER,
        "{:.0%}",
        "{n} with one and the same answer over " + f"{SAME_ANSWER:.0%} of the time",
        "The answer can be learnt without reading the question.",
        grave=True,
    )
    yield from _tasks(
        survey,
        lambda task: task.repeated,
        REPEATED,
        "{:.0%}",
        "{n} with more than " + f"{REPEATED:.0%} of the inputs repeated",
        "The same input stands in several examples. A filter on duplicates takes them out.",
    )
    yield from _tasks(
        survey,
        lambda task: task.unknown or 0.0,
        UNKNOWN,
        "{:.1%}",
        "{n} with more than " + f"{UNKNOWN:.0%} of the input tokens unknown to the vocabulary",
        "The model cannot tell these characters apart. T5's vocabulary has no line break, tab, brace, backslash or "
        "tilde, which code and tables need.",
    )
    yield from _tasks(
        survey,
        lambda task: (
            task.loss_share / task.share if task.share and task.loss_share > LARGE_LOSS else 0.0
        ),
        LOSS_OVER_SHARE,
        "{:.1f} times",
        "{n} whose long targets weigh more than " + f"{LOSS_OVER_SHARE:g} times their share",
        "The loss is a mean over target tokens, so tasks of long answers count for more than their rate says.",
    )
    if len(survey.tasks) > 2 / LARGE_SHARE:
        yield from _tasks(
            survey,
            lambda task: task.share,
            LARGE_SHARE,
            "{:.0%}",
            "{n} with more than " + f"{LARGE_SHARE:.0%} of the mixture",
            "One task outweighs the others. A cap on its rate is usual.",
        )


def _unwritable(survey: Survey) -> Iterable[Finding]:
    """Characters that never reach the model, by task, those with the most of them first."""
    losses = {
        place: task.unwritable
        for place, task in enumerate(survey.tasks)
        if task.share > 0 and task.unwritable is not None and task.unwritable.characters
    }
    if not losses:
        return
    together = total(losses.values())
    worst = sorted(losses, key=lambda place: -losses[place].characters)
    count = f"{len(worst):,} task" + ("" if len(worst) == 1 else "s")
    yield Finding(
        f"{count} with characters that the vocabulary cannot write: {together.characters:,}",
        f"The vocabulary loses {together}: the model neither reads nor writes them. Texts that live by them (code, "
        "tables) need another vocabulary, or another spelling.",
        tuple(worst),
        tuple(f"loses {losses[place]}" for place in worst),
    )


def _lost(survey: Survey) -> Iterable[Finding]:
    yield from _tasks(
        survey,
        lambda task: task.lost,
        LOST,
        "{:.0%}",
        "{n} with more than " + f"{LOST:.0%} of the rows dropped",
        "They did not reach the store; the reasons stand under “Dropped and cut”.",
    )


def _tasks(
    survey: Survey,
    value: Callable[[TaskFacts], float],
    limit: float,
    figure: str,
    title: str,
    text: str,
    *,
    largest: bool = True,
    grave: bool = False,
) -> Iterable[Finding]:
    """One finding over all tasks that take part and whose value is beyond the limit: above it, or else below."""
    values = [value(task) for task in survey.tasks]
    chosen = [
        place
        for place, task in enumerate(survey.tasks)
        if task.share > 0 and (values[place] > limit if largest else values[place] < limit)
    ]
    if not chosen:
        return
    chosen.sort(key=lambda place: -values[place] if largest else values[place])
    count = f"{len(chosen):,} task" + ("" if len(chosen) == 1 else "s")
    yield Finding(
        title.format(n=count),
        text,
        tuple(chosen),
        tuple(figure.format(values[place]) for place in chosen),
        grave,
    )


def reasons(dropped: Iterable[Mapping[str, int]]) -> list[tuple[str, int, int]]:
    """Why rows were dropped: reason, rows, tasks; the most rows first.

    Args:
      dropped: of each task, rows by reason.
    """
    rows: dict[str, list[int]] = {}
    for one in dropped:
        for why, count in one.items():
            if count:
                rows.setdefault(why, []).append(count)
    listed = [(why, sum(counts), len(counts)) for why, counts in rows.items()]
    return sorted(listed, key=lambda item: (-item[1], item[0]))
