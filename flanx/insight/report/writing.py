"""From manifests to a file: what is read, in which order, and where the page goes."""

import datetime
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from flanx import atomic_files
from flanx.data import vocabulary as vocabularies
from flanx.data.manifest import Manifest
from flanx.data.request import safe_name
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.insight.findings import findings
from flanx.insight.planned import Exposure, Plan
from flanx.insight.report.page import Made, examples_per_task, render
from flanx.insight.sample import density, sample
from flanx.insight.survey import survey


def write(
    path: str | os.PathLike[str],
    manifests: Sequence[Manifest],
    cache_dir: str | os.PathLike[str],
    plan: Plan,
    *,
    made: datetime.datetime | None = None,
) -> list[str]:
    """Writes the report of the first manifest; the others (evaluation) stand in a table of their own.

    Args:
      path: the HTML file.
      manifests: at least one.
      cache_dir: where their stores lie.
      plan: what is to be trained; fields that are not known leave epochs out.
      made: when the first manifest was written.

    Returns:
      The titles of what it found, for the terminal.

    Raises:
      UserError: a damaged store, nothing to train on, or a file that cannot be written.
    """
    first, *others = manifests
    words, missing = _vocabulary(first)
    looked_at = survey(
        first,
        cache_dir,
        words,
        examples=examples_per_task(len(first.entries)),
        opened=_shown(first.entries, "report"),
    )
    lengths = first.feature_lengths
    blocks = sample(first, cache_dir, block_size=plan.block_size, seed=plan.seed)
    capacity = [lengths["inputs"], lengths["targets"]]
    exposure = Exposure(plan, density(blocks, capacity, plan.packed))
    found = findings(looked_at, exposure)
    page = render(looked_at, exposure, found, others, Made(os.fspath(cache_dir), made, missing))
    try:
        atomic_files.write(epath.Path(path), page)
    except OSError as error:
        raise UserError(
            f"--report {os.fspath(path)}: cannot write it ({error.strerror})"
        ) from error
    return [finding.title for finding in found]


def default_path(cache_dir: str | os.PathLike[str], name: str) -> Path:
    """`<cache_dir>/reports/<name>.html`; `name` is the manifest's file name without its ending."""
    return Path(cache_dir).expanduser() / "reports" / f"{safe_name(name)}.html"


def _vocabulary(manifest: Manifest) -> tuple[Vocabulary | None, str]:
    """The vocabulary the tokens were made with, or why there is none here."""
    spec = manifest.vocabulary["spec"]
    try:
        words = vocabularies.load(spec, manifest.request.get("data_dir"))
    except UserError as error:
        return None, str(error)
    if words.fingerprint != manifest.vocabulary["fingerprint"]:
        return None, f"vocabulary '{spec}' here is not the one that the tokens were made with"
    return words, ""


def _shown(entries: Sequence[Any], doing: str) -> Iterable[Any]:
    """The entries, with a bar on a terminal while they are gone through."""
    if not sys.stderr.isatty() or os.environ.get("FLANX_PROGRESS") == "off" or len(entries) < 100:
        return entries
    from rich.console import Console
    from rich.progress import track

    return track(entries, doing, console=Console(stderr=True), transient=True)
