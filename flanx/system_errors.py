"""What the operating system refused, and what its user can do about it: space, permissions, open files.

Libraries pass such an error on in their own types, with the system's words somewhere in the text or along the chain.
"""

import errno
import os
import resource
from collections.abc import Iterator

SPACE = (errno.ENOSPC, errno.EDQUOT)
PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
FILES = (errno.EMFILE, errno.ENFILE)
# The longest first: "Too many open files in system" begins as "Too many open files" does.
_WORDS = dict(
    sorted(
        ((os.strerror(n).lower(), n) for n in (*SPACE, *PERMISSION, *FILES)),
        key=lambda pair: -len(pair[0]),
    )
)


def number(error: BaseException) -> int | None:
    """The system's number for what went wrong (`errno`), among those that `fix` knows; None for anything else."""
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in _WORDS.values():
            return link.errno
        text = str(link).lower()
        for words, found in _WORDS.items():
            if words in text:
                return found
    return None


def fix(error: BaseException) -> str | None:
    """What helps, as the second half of a sentence; None where nothing is known."""
    found = number(error)
    if found in SPACE:
        return "make room there"
    if found in PERMISSION:
        return "allow this user to use it"
    if found == errno.EMFILE:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
        more = f"ulimit -n {wanted}" if wanted > soft else "the hard limit, ulimit -H -n"
        return f"this process may have {soft:,} files open: raise that limit ({more})"
    if found == errno.ENFILE:
        return "the machine has as many files open as it may: raise that limit (sysctl fs.file-max)"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
