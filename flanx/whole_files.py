"""Files that a reader finds old or new, never in part, whatever stops the writer."""

import os

from etils import epath

from flanx import temporary as temporaries


def write(path: os.PathLike[str] | str, content: str | bytes) -> None:
    """Writes beside `path` and renames; folders that are missing are made, a failure leaves nothing behind.

    What a killed writer leaves, `flanx.temporary.sweep` removes.
    """
    final = epath.Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f"{temporaries.prefix()}{final.name}"
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
