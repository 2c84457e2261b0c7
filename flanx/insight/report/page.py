"""The page itself: what was found, put in the order of reading and handed to the template."""

import base64
import datetime
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flanx.data.manifest import Manifest
from flanx.insight.findings import Finding, reasons
from flanx.insight.planned import Exposure
from flanx.insight.report.groups import Group, grouped
from flanx.insight.report.histogram import HEIGHT, WIDTH, histogram
from flanx.insight.report.texts import middle_out, visible
from flanx.insight.survey import LOOKED_AT, Survey

TEXT_BYTES = 3_000_000  # of all examples together, so that the page stays below 10 MB
MOST_EXAMPLES = 4
LONGEST_TEXT = 6_000
NAMED_TASKS = 6


@dataclass(frozen=True)
class Made:
    """Where the store lies, when its manifest was written, and why no texts can be shown ("" where they can)."""

    cache_dir: str
    at: datetime.datetime | None = None
    no_texts: str = ""


def examples_per_task(tasks: int) -> int:
    """Examples of each task that the page has room for."""
    return max(min(MOST_EXAMPLES, 600 // max(tasks, 1)), 1)


def render(
    survey: Survey,
    exposure: Exposure,
    found: Sequence[Finding],
    others: Sequence[Manifest],
    made: Made,
) -> str:
    """The whole page as HTML.

    Args:
      survey: the mixture.
      exposure: how much of it training reads.
      found: what stands out.
      others: further manifests, of evaluation, to name beside it.
      made: where and when.
    """
    texts = sum(len(task.shown) for task in survey.tasks)
    most = min(max(TEXT_BYTES // max(texts, 1), 300), LONGEST_TEXT)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flanx.insight.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        share=share,
        number=number,
        visible=visible,
        coded=coded,
        cut=lambda text: middle_out(text, most),
    )
    script = _file("page.js")
    return environment.get_template("page.html").render(
        survey=survey,
        manifest=survey.manifest,
        exposure=exposure,
        plan=exposure.plan,
        findings=found,
        named=NAMED_TASKS,
        groupings=_groupings(survey, exposure),
        histograms=[histogram("inputs", survey.inputs), histogram("targets", survey.targets)],
        canvas=(WIDTH, HEIGHT),
        features=(("inputs", survey.inputs), ("targets", survey.targets)),
        reasons=reasons(
            [*(task.dropped for task in survey.tasks), *survey.manifest.left_out.values()]
        ),
        clipped={
            name: sum(e.clipped.get(name, 0) for e in survey.manifest.entries)
            for name in ("inputs", "targets")
        },
        left_out=survey.manifest.left_out,
        others=[_other(manifest) for manifest in others],
        unwritable=[
            task
            for task in survey.tasks
            if task.unwritable is not None and task.unwritable.characters
        ],
        made=made,
        request=json.dumps(dict(survey.manifest.request), indent=1, ensure_ascii=False),
        looked_at=LOOKED_AT,
        style=Markup(_file("page.css")),
        script=Markup(script),
        script_hash=_source_hash(script),
    )


def share(value: float | None, digits: int = 2) -> str:
    """A share in per cent, to two digits that count: `12%`, `1.2%`, `0.012%`, `0`."""
    if value is None:
        return "—"
    if not value:
        return "0"
    return f"{number(100 * value, digits)}%"


def number(value: float | None, digits: int = 2) -> str:
    """A number to `digits` digits that count, thousands apart; whole from a hundred on."""
    if value is None:
        return "—"
    if not value:
        return "0"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{min(decimals, 8)}f}"


def coded(text: str) -> Markup:
    """A sentence with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def _groupings(survey: Survey, exposure: Exposure) -> list[tuple[str, str, Sequence[Group], bool]]:
    """Heading, name of the first column, groups, and whether they are too many to stand open."""
    keys: list[tuple[str, str, Callable[[Any], str]]] = [
        ("Sources", "source", lambda task: task.source),
        ("Template types", "type", lambda task: task.entry.type or "—"),
        ("Categories", "category", lambda task: task.entry.category or "—"),
        ("Datasets", "dataset", lambda task: task.entry.dataset),
    ]
    made = [(title, word, grouped(survey.tasks, key, exposure)) for title, word, key in keys]
    return [
        (title, word, groups, len(groups) > 25)
        for title, word, groups in made
        if 1 < len(groups) < len(survey.tasks) or (len(groups) == 1 and word == "source")
    ]


def _other(manifest: Manifest) -> dict[str, Any]:
    entries = manifest.entries
    examples = max(manifest.num_examples, 1)

    def total(counts: Iterable[int]) -> int:
        return sum(counts)

    return {
        "name": f"{manifest.mixture} · {manifest.split}",
        "tasks": len(entries),
        "examples": manifest.num_examples,
        "lengths": " / ".join(f"{manifest.feature_lengths[n]:,}" for n in ("inputs", "targets")),
        "inputs_clipped": total(e.clipped.get("inputs", 0) for e in entries) / examples,
        "targets_clipped": total(e.clipped.get("targets", 0) for e in entries) / examples,
        "dropped": total(total(e.dropped.values()) for e in entries),
    }


def _file(name: str) -> str:
    return resources.files("flanx.insight.report").joinpath(name).read_text("utf-8")


def _source_hash(script: str) -> str:
    """What the page's content security policy names its one script by, so that no other runs."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
