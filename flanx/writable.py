"""Whether a path can be written to, found out before any work is done for it.

Nothing is made or changed: a dry run may ask too.
"""

import errno
import os
import stat
from pathlib import Path

from flanx.errors import UserError

_EFFECTIVE = os.access in os.supports_effective_ids


def check_folder(path: str | os.PathLike[str], setting: str) -> None:
    """Refuses a folder that is none, cannot be made, or takes no new files.

    Args:
      path: the folder; one in a bucket (`gs://...`) is not looked at.
      setting: what gave the path, for the message: "MODEL_DIR", "--output".

    Raises:
      UserError: naming the setting, the path and what is in the way.
    """
    text = os.fspath(path)
    if "://" in text:
        return
    if not text:
        raise UserError(f"{setting} is empty: give the path of a folder")
    _check_place(Path(text).expanduser().absolute(), setting, text)


def check_file(path: str | os.PathLike[str], setting: str) -> None:
    """Refuses a file that is a folder, cannot be made, or cannot be replaced.

    Args:
      path: the file; one in a bucket (`gs://...`) is not looked at.
      setting: what gave the path, for the message.

    Raises:
      UserError: naming the setting, the path and what is in the way.
    """
    text = os.fspath(path)
    if "://" in text:
        return
    if not text:
        raise UserError(f"{setting} is empty: give the path of a file")
    file = Path(text).expanduser().absolute()
    try:
        mode = file.stat().st_mode if file.exists() else stat.S_IFREG
        if stat.S_ISDIR(mode):
            raise UserError(f"{setting} = {text} is a folder: give the path of a file")
        if file.exists():
            _check_access(file, os.W_OK)
        if not stat.S_ISREG(mode):
            return  # a pipe or a device is written to in place
    except OSError as error:
        raise UserError(_refused(setting, text, error)) from error
    _check_place(file.parent, setting, text)


def make_folder(path: str | os.PathLike[str], setting: str) -> None:
    """Checks a folder and makes it.

    Raises:
      UserError: see `check_folder`.
    """
    check_folder(path, setting)
    try:
        Path(path).expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(_refused(setting, os.fspath(path), error)) from error


def _check_place(folder: Path, setting: str, text: str) -> None:
    """Refuses a folder in which no file can be made; `text` is the path as it was given."""
    try:
        there = _nearest(folder)
        if not there.is_dir():
            kind = "a link to nowhere" if there.is_symlink() else "a file"
            raise UserError(
                f"{setting} = {text}: {there} is {kind}, not a folder: give another path"
            )
        _check_access(there, os.W_OK | os.X_OK)
    except OSError as error:
        raise UserError(_refused(setting, text, error)) from error


def _nearest(path: Path) -> Path:
    """The path itself where it is there, or the nearest folder above that is."""
    for place in (path, *path.parents):
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return path


def _check_access(path: Path, mode: int) -> None:
    if os.access(path, mode, effective_ids=_EFFECTIVE):
        return
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    number = errno.EROFS if read_only else errno.EACCES
    raise OSError(number, os.strerror(number), str(path))


def _refused(setting: str, text: str, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    at = f" at {error.filename}" if error.filename and str(error.filename) != text else ""
    return f"{setting} = {text} cannot be written to ({reason}{at}): give a path that can"
