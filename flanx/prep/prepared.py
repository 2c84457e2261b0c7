"""Whether a request's tokens are there and stand for what is registered now; what is not, `flanx cache` makes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from flanx import child_process, named_modules
from flanx.data import manifest as manifests
from flanx.data.manifest import Manifest
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.prep import registered
from flanx.prep.versions import versions


def ready(request: StoreRequest) -> Manifest | None:
    """The request's manifest if nothing has to be cached, else None.

    Ready means: it is `whole`, flanx's parts have the versions that made it, and the registry makes the same of the
    request as then: the same tasks, store keys, rates and metrics. What registers with SeqIO is not asked in a process
    without TensorFlow; `ensure` has that done by its child.

    Raises:
      UserError: the user's modules cannot be imported, or no longer register what is asked for.
    """
    manifest = manifests.whole(request)
    if manifest is None or not manifest.plan:
        return manifest
    if dict(manifest.versions) != versions():
        return None
    if _beyond_this_process(manifest):
        return manifest
    registered.remember(manifest)
    return manifest if registered.fingerprint(request) == manifest.plan else None


def ensure(
    requests: Iterable[StoreRequest],
    *,
    workers: int | None = None,
    progress: bool = True,
    named_by: str | None = None,
) -> list[Manifest]:
    """Manifests of all requests; what is not ready is cached first, by `flanx cache` in a child process.

    The child has this process's output streams and import path, so that TensorFlow, where a task needs it, never
    enters this process. Of several training processes only one should call this.

    Args:
      requests: what is needed.
      workers: processes that fill the store; None for one a core.
      progress: False to keep the child quiet unless it fails.
      named_by: a file that named the modules to import, and which alone is no reason to run them; None where it was the
        user.

    Raises:
      UserError: a module has to be imported that the user has not named; with an empty message where the child has
        printed its own, else how the child ended.
    """
    wanted = list(requests)
    # To compare a manifest with what is registered is to import the modules, and so to run them.
    for request in wanted if named_by else ():
        named_modules.check(request.imports, f"to read '{request.mixture}', {named_by}")
    found = {request.manifest_path: ready(request) for request in wanted}
    missing = [request for request in wanted if _for_child(found[request.manifest_path])]
    if missing:
        _cache_in_child(missing, workers, progress)
        for request in missing:
            found[request.manifest_path] = manifests.load(request.manifest_path)
    ready_now = [found[request.manifest_path] for request in wanted]
    return [manifest for manifest in ready_now if manifest is not None]


def _for_child(manifest: Manifest | None) -> bool:
    """Whether `flanx cache` has something to do, or to compare."""
    return manifest is None or bool(manifest.plan and _beyond_this_process(manifest))


def _beyond_this_process(manifest: Manifest) -> bool:
    return manifest.tensorflow and "tensorflow" not in sys.modules


def _cache_in_child(requests: Sequence[StoreRequest], workers: int | None, progress: bool) -> None:
    # A killed child cannot remove its temporary files, so they lie in this folder too.
    with tempfile.TemporaryDirectory(prefix="flanx-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "requests.json"
        path.write_text(json.dumps([request.to_json() for request in requests]))
        command = child_process.command("cache", "--requests", str(path))
        if workers is not None:
            command += ["--workers", str(workers)]
        environment = {**child_process.environment(), "TMPDIR": folder}
        if not progress:
            environment["FLANX_PROGRESS"] = "off"
        status = subprocess.run(command, env=environment, check=False).returncode
    if status == 2:
        raise UserError("")  # the child has printed its line
    if status < 0:
        raise UserError(
            f"flanx cache was killed by signal {-status}"
            + (" (out of memory?); try fewer CACHE_WORKERS" if status == -9 else "")
            + "; what it finished is kept, run again to resume"
        )
    if status:
        raise RuntimeError(f"flanx cache ended with status {status}; its error is above")
