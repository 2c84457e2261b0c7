"""`flanx cache`: every task of the requests rendered, tokenised and stored once; a manifest for each request."""

import contextlib
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flanx import registry, temporary
from flanx.data import manifest as manifests
from flanx.data.manifest import Entry, Manifest
from flanx.data.request import StoreRequest, safe_name
from flanx.errors import UserError
from flanx.prep import lock, registered, server
from flanx.prep import progress as displays
from flanx.prep.cache_plan import CachePlan, plan, vocabulary_files
from flanx.prep.filtering import mixture
from flanx.prep.inputs import Inputs
from flanx.prep.jobs import Job, jobs
from flanx.prep.pool import run_all, worker_count
from flanx.prep.progress import Progress
from flanx.prep.versions import versions
from flanx.prep.work_item import WorkResult
from flanx.prep.worker import DISK_FULL
from flanx.writable import make_folder

_NAMED_FAILURES = 10  # more than these are only counted
_NAMED_CHARACTERS = 400

Results = Mapping[tuple, WorkResult]
Run = Callable[[Sequence[Job], int], Generator[WorkResult, None, None]]


def cache(
    requests: Iterable[StoreRequest],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    verify: bool = False,
    force: bool = False,
    run: Run = run_all,
) -> list[Manifest]:
    """Makes what is missing of the requests' token stores, and their manifests.

    A task that fails does not stop the others; what was finished stays, also after a kill, and the next call resumes
    from there.

    Args:
      requests: what to cache.
      workers: processes; 0 for this one alone, None for one a core.
      progress: display; None for a bar on a terminal and lines elsewhere.
      verify: compare the checksum of every store that is there, and make damaged ones again.
      force: make every store again.
      run: what runs the jobs: this machine's processes, or `flanx.prep.beam_runner`.

    Returns:
      The requests' manifests, in their order.

    Raises:
      UserError: tasks that failed, by name; or no space is left; or nothing to train on remains; or fewer than no
        workers.
    """
    wanted = list(requests)
    check(wanted, workers)
    ready: list[Manifest | None] = []
    plans: dict[int, CachePlan] = {}
    for i, request in enumerate(wanted):
        there = None if verify or force else manifests.whole(request)
        if there is not None:
            registered.remember(there)
        planned = plan(request, force=force, verify=verify)
        if there is None or not _stands_for(there, planned):
            there, plans[i] = None, planned
        ready.append(there)
    inputs = _inputs(plans.values())
    todo = jobs(plans.values(), server.core_count() if workers is None else workers)
    with contextlib.ExitStack() as stack:
        for folder in sorted({item.cache_dir for job in todo for item in job.items}):
            _make_folder(Path(folder))
            if force:
                _forget_parts(Path(folder), todo)
            stack.enter_context(lock.filling(folder))
        shown = stack.enter_context(progress or displays.default())
        for note in dict.fromkeys(note for p in plans.values() for note in p.notes):
            shown.warn(note)
        for p in plans.values():
            with _space(p.request, "reading what to compare with"):
                mixture.index_overlaps(p, shown)
        results = _run(todo, worker_count(workers, todo), shown, run)
        found = []
        for i, request in enumerate(wanted):
            manifest = ready[i]
            if manifest is None:
                with _space(request, "leaving out duplicates"):
                    distinct = mixture.without_duplicates(plans[i], results, shown)
                manifest = _manifest(plans[i], distinct, inputs, shown)
                manifest = replace(
                    manifest,
                    unread=_unread(plans[i], results, manifest),
                    plan=registered.fingerprint_with(
                        plans[i], [results[item.identity].path for item in plans[i].items]
                    ),
                    tensorflow=registered.took_tensorflow(),
                    versions=versions(),
                )
                with _space(request, "writing the manifest"):
                    manifest.save(request.manifest_path)
            found.append(manifest)
    return found


def check(requests: Iterable[StoreRequest], workers: int | None) -> None:
    """Refuses settings with which nothing can be cached.

    Raises:
      UserError: fewer than no workers, or a cache folder in a bucket.
    """
    if workers is not None and workers < 0:
        raise UserError(f"--workers (CACHE_WORKERS) is {workers}; give 0 or more")
    for request in requests:
        _refuse_address(request.cache_dir)


def _stands_for(there: Manifest, planned: CachePlan) -> bool:
    """Whether what is registered now is what the manifest was made of; a task without its data says so as it is run."""
    if not there.plan:
        return True
    try:
        return dict(there.versions) == versions() and there.plan == registered.fingerprint_of(
            planned
        )
    except UserError:
        return False


def _run(todo: Sequence[Job], workers: int, progress: Progress, run: Run) -> Results:
    """Runs all jobs; raises UserError naming the tasks that failed once the others are done."""
    costs = {item.identity: job.cost / len(job.items) for job in todo for item in job.items}
    progress.start(len(costs), sum(costs.values()))
    results: dict[tuple, WorkResult] = {}
    failed: list[WorkResult] = []
    parted: set[tuple] = set()
    with contextlib.closing(run(todo, workers)) as arriving:
        for result in arriving:
            item = result.item
            if result.disk_full:
                raise UserError(_no_space(item.cache_dir, f"caching '{item.task}'"))
            if item.shard is not None:
                parted.add(item.identity)
                progress.part(item.task, costs[item.identity] / item.shard[1])
                continue
            if result.failure is not None:
                failed.append(result)
            else:
                results[item.identity] = result
            if result.repaired:
                progress.warn(f"'{item.task}' was damaged and is made anew: {result.repaired}")
            cost = 0.0 if item.identity in parted else costs[item.identity]
            examples = int(result.meta.get("examples", 0))
            progress.advance(item.task, examples, cost, result.written)
    if failed:
        progress.stop()
        raise UserError(_failures(failed, len(costs)))
    return results


@contextlib.contextmanager
def _space(request: StoreRequest, doing: str) -> Iterator[None]:
    """Says what was being done where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(_no_space(request.cache_dir, doing)) from error


def _no_space(folder: str, doing: str) -> str:
    return (
        f"no space left in {folder} while {doing}; free some, or set CACHE_DIR to another disk, and run "
        "again to resume"
    )


def _failures(failed: Sequence[WorkResult], total: int) -> str:
    """One line a failed task; a single one, or one reason for all, is one line altogether."""
    reasons = list(dict.fromkeys(_short(result.failure or "") for result in failed))
    first = failed[0].item
    if len(failed) == 1:
        named = (
            reasons[0] if f"'{first.task}'" in reasons[0] else f"task '{first.task}': {reasons[0]}"
        )
        kept = "; the other tasks are kept" if total > 1 else ""
        return f"{named}{kept}"
    if len(reasons) == 1:
        return f"{reasons[0]} ({len(failed)} of {total} tasks, '{first.task}' the first)"
    lines = [f"  {r.item.task} ({r.item.split}): {_short(r.failure or '')}" for r in failed]
    more = len(lines) - _NAMED_FAILURES
    shown = lines[:_NAMED_FAILURES] + ([f"  and {more} more"] if more > 0 else [])
    head = f"{len(failed)} of {total} tasks failed; the others are kept, run again to resume:"
    return "\n".join([head, *shown])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _NAMED_CHARACTERS else line[: _NAMED_CHARACTERS - 3] + "..."


def _refuse_address(cache_dir: str) -> None:
    if "://" in cache_dir:
        raise UserError(
            f"CACHE_DIR {cache_dir}: token stores are memory-mapped, so they lie in a folder: mount the bucket "
            "(gcsfuse, say), or cache to a local folder and copy it"
        )


def _forget_parts(folder: Path, todo: Sequence[Job]) -> None:
    """Parts that an interrupted run left are not taken up where everything has to be made again."""
    for job in todo:
        for item in job.items:
            for left in (folder / safe_name(item.task)).glob(f".parts-{safe_name(item.split)}-*"):
                shutil.rmtree(left, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    make_folder(folder, "CACHE_DIR")
    try:
        (folder / "manifests").mkdir(exist_ok=True)
        (folder / lock.NAME).touch()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}); set CACHE_DIR to another folder"
        ) from error
    temporary.sweep(folder / "manifests")


def _inputs(plans: Iterable[CachePlan]) -> Inputs:
    """The state of all code and data files, taken before anything is read from them."""
    earlier = []
    plans = list(plans)
    for p in plans:
        try:
            earlier += list(manifests.load(p.request.manifest_path).inputs)
        except (OSError, ValueError):
            continue
    inputs = Inputs(earlier)
    for p in plans:
        inputs.add(_input_files(p))
    return inputs


def _input_files(p: CachePlan) -> list[str]:
    data = (path for paths in p.data.values() for path in paths)
    return [*p.code, *vocabulary_files(p), *data, *p.watched]


def _manifest(p: CachePlan, results: Results, inputs: Inputs, progress: Progress) -> Manifest:
    """Puts the results of a request together; tasks without examples are left out with a warning."""
    request = p.request
    found = {
        one.task: results[item.identity] for one, item in zip(p.selected, p.items, strict=True)
    }
    empty = [name for name, result in found.items() if not result.meta["examples"]]
    if len(empty) == len(found):
        reasons = sorted({why for name in empty for why in found[name].meta["dropped"]})
        raise UserError(
            f"'{request.mixture}' ({request.split}) has no example left in any of its {len(empty)} tasks"
            + (f"; rows were dropped for: {', '.join(reasons)}" if reasons else "")
        )
    for name in empty:
        dropped = ", ".join(f"{why}: {n}" for why, n in found[name].meta["dropped"].items())
        progress.warn(
            f"'{name}' ({request.split}) has no example and is left out ({dropped or 'no rows'})"
        )
    selected = [one for one in p.selected if one.task not in empty]
    counts = {one.task: int(found[one.task].meta["examples"]) for one in selected}
    rates = registry.rates(selected, counts)
    if not any(rates.values()) and not request.for_eval:  # evaluation asks every task
        raise UserError(
            f"'{request.mixture}' ({request.split}): the rate of every task is 0, so there is nothing to draw; "
            "give one of its parts a rate above 0"
        )
    entries = tuple(
        _entry(one.task, one.spec, found[one.task], rates[one.task]) for one in selected
    )
    words = p.vocabulary
    return Manifest(
        mixture=request.mixture,
        split=request.split,
        request=request.to_json(),
        feature_lengths=dict(request.feature_lengths),
        vocabulary={"spec": words.spec, "fingerprint": words.fingerprint, "size": words.size},
        entries=entries,
        inputs=inputs.records(_input_files(p)),
        left_out={name: dict(found[name].meta["dropped"]) for name in empty},
    )


def _unread(p: CachePlan, results: Results, manifest: Manifest) -> list[str]:
    """What the plan has made that is no entry's: stores, and what its filters compare with."""
    entries = {entry.path for entry in manifest.entries}
    made = [results[item.identity] for item in p.items]
    compared = {overlap.path for overlap in p.overlaps}.union(r.sketch for r in made if r.sketch)
    return sorted({result.path for result in made} - entries | compared)


def _entry(task: str, spec: "registry.TaskSpec | None", result: WorkResult, rate: float) -> Entry:
    meta = result.meta
    entry = Entry(
        task=task,
        dataset=task,
        type="",
        category="",
        path=result.path,
        examples=int(meta["examples"]),
        rate=float(rate),
        tokens=meta["tokens"],
        store_bytes=int(meta["bytes"]),
        content=meta["content"],
        dropped=meta["dropped"],
        clipped=meta["clipped"],
    )
    if spec is None:
        return entry
    return replace(
        entry,
        dataset=spec.dataset,
        type=spec.type,
        category=spec.category or "",
        metrics=tuple(spec.metrics),
        postprocessor=spec.postprocessor,
    )
