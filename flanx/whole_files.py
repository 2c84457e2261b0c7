"""Files that a reader finds old or new, never in part, whatever stops the writer."""

import os
import uuid

from etils import epath

TEMPORARY = ".tmp-"  # how a file that is not finished begins; a killed writer leaves it


def write(path: os.PathLike[str] | str, content: str | bytes) -> None:
    """Writes beside `path` and renames; folders that are missing are made, a failure leaves nothing behind."""
    final = epath.Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f"{TEMPORARY}{uuid.uuid4().hex[:8]}-{final.name}"
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
