"""What helps against what the system refused; sizes in the unit that shows them."""

import errno
import os
import resource

import pytest

from flanx.system_errors import fix, number


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EACCES, "allow this user to use it"),
        (errno.EROFS, "allow this user to use it"),
        (errno.EMFILE, "ulimit"),
        (errno.ENFILE, "sysctl"),
        (errno.ENOENT, None),
    ],
)
def test_the_fix_goes_with_the_error(code, told):
    error = OSError(code, os.strerror(code))
    wrapped = ValueError(f'INTERNAL: Error writing "/x": {os.strerror(code)} [OS error {code}]')
    chained = RuntimeError("save failed")
    chained.__cause__ = error
    for given in (error, wrapped, chained):
        found = fix(given)
        assert (found is None) == (told is None)
        assert told is None or told in found
        assert number(given) == (None if told is None else code)


def test_the_limit_of_open_files_is_told():
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert f"{soft:,} files" in fix(OSError(errno.EMFILE, "Too many open files"))
