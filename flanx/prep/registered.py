"""What the registry makes of a request, in one hash: how a manifest is told whose files stand but whose tasks do not.

Weights, templates, labels and lists of files may come from anywhere, a JSON file or the environment, say, that no list
of input files knows. So what is registered is compared, not where it came from.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flanx.data.manifest import Manifest
from flanx.data.request import StoreRequest
from flanx.prep.cache_plan import CachePlan, plan
from flanx.prep.store_keys import store_path
from flanx.registry.sources.file_hashes import remember_file_hash

if TYPE_CHECKING:
    from flanx.registry import Selected


def fingerprint(request: StoreRequest) -> str:
    """The hash of what is registered in this process; no row is read, and no file whose checksum is known.

    Raises:
      UserError: the request cannot be planned.
    """
    return fingerprint_of(plan(request))


def fingerprint_of(planned: CachePlan) -> str:
    """The hash of a plan, with the stores that its items would make now.

    Raises:
      UserError: a task's data file is missing.
    """
    paths = [store_path(item, planned.vocabulary) for item in planned.items]
    return fingerprint_with(planned, paths)


def fingerprint_with(planned: CachePlan, paths: Sequence[str]) -> str:
    """16 hex digits over a plan's tasks, the paths of their stores, which hold the keys, their weights and metrics."""
    words = planned.vocabulary
    parts = [_parts(one, path) for one, path in zip(planned.selected, paths, strict=True)]
    canonical = json.dumps([parts, words.spec, words.fingerprint])
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def _parts(one: "Selected", path: str) -> list[object]:
    spec = one.spec
    used = [] if spec is None else [spec.category, list(spec.metrics), spec.postprocessor]
    return [one.task, one.dataset, one.type, path, repr(one.rules), *used]


def remember(manifest: Manifest) -> None:
    """Takes over the checksums of files that a manifest found unchanged, so that planning reads none of them again."""
    for record in manifest.inputs:
        if not os.path.isdir(record["path"]):
            remember_file_hash(record["path"], record["sha256"])


def took_tensorflow() -> bool:
    """Whether planning may have needed TensorFlow: it is in this process."""
    return "tensorflow" in sys.modules or "seqio" in sys.modules
