"""Where files are looked for: as written, in the data folder, or inside an installed package."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from flanx.errors import UserError
from flanx.terminal import command

PACKAGE_SCHEME = "pkg://"
FILE_SCHEME = "file://"


def data_dir(explicit: str | None = None) -> str | None:
    """The data folder: `explicit`, else the environment's FLANX_DATA_DIR, else None."""
    return explicit or os.environ.get("FLANX_DATA_DIR") or None


def absolute(path: str | os.PathLike[str]) -> Path:
    """A local path from the root on, `~` and `file://` settled, without `..`: TensorStore takes none.

    Links stay as they are written, except before a `..`, which the system reads behind them.
    """
    given = Path(str(path).removeprefix(FILE_SCHEME)).expanduser()
    return Path(os.path.realpath(given)) if ".." in given.parts else given.absolute()


def resolve(path: str, data_folder: str | None = None, mend: str | None = None) -> str:
    """Finds the file or folder that `path` names.

    `pkg://flanx.tasks/playground/vocabulary.model` ships inside a package; an absolute path or a URL
    (`gs://...`) is taken as it is (`file://` is a path); a relative path is tried under the working directory and then
    under the data folder (`data_folder`, else FLANX_DATA_DIR).

    Raises:
      UserError: nothing is there; the message names every place looked in, and ends in `mend`.
    """
    if path.startswith(PACKAGE_SCHEME):
        return _in_package(path)
    path = path.removeprefix(FILE_SCHEME)
    if "://" in path:
        return path
    folder = data_dir(data_folder)
    plain = _plain(path, folder)
    if plain is not None:
        return plain
    expanded = Path(path).expanduser()
    places = [expanded]
    remote = folder is not None and "://" in folder
    if folder and not remote and not expanded.is_absolute():
        places.append(Path(folder).expanduser() / path)
    for place in places:
        if place.exists():
            return str(absolute(place))
    looked = ", ".join(str(place.absolute()) for place in places)
    if mend is None:
        known = folder or expanded.is_absolute()
        mend = "" if known else "; set DATA_DIR or FLANX_DATA_DIR to its folder"
        if remote and not expanded.is_absolute():
            mend = f"; data is read from local folders alone: copy {folder} and set DATA_DIR to the copy"
    raise UserError(f"no such file or folder: '{path}' (looked in {looked}){mend}")


def _plain(path: str, folder: str | None) -> str | None:
    """A file by a path with nothing to settle, as `resolve` finds it; mixtures of thousands of files are of such."""
    for place in (path, os.path.join(folder, path) if folder else path):
        whole = os.path.join(os.getcwd(), place)
        if whole != os.path.normpath(whole) or "~" in place or "://" in place:
            return None
        if os.path.exists(whole):
            return whole
    return None


def resolve_checkpoint(path: str) -> str:
    """As `resolve`; what looks like a model's name on the Hugging Face hub is told how to get it."""
    hub = re.fullmatch(r"[\w-][\w.-]*/([\w-][\w.-]*)", path)
    mend = (
        "; if it is a model of the Hugging Face hub, fetch it first: "
        + command("hf", "download", path, "--local-dir", hub[1])
        if hub
        else ""
    )
    return resolve(path, mend=mend)


def gin_folder() -> Path:
    """The folder of gin files that ship with flanx: beside the code in a wheel, else in the checkout."""
    package = Path(__file__).parent
    installed = package / "gin"
    return installed if installed.is_dir() else package.parent / "gin"


def _in_package(path: str) -> str:
    package, _, inside = path.removeprefix(PACKAGE_SCHEME).partition("/")
    for location in _locations(package):
        found = Path(location) / inside
        if found.exists():
            return str(found)
    raise UserError(f"no such file in package '{package}': '{inside}' (from '{path}')")


def _locations(package: str) -> Sequence[str]:
    """The folders of a package, found without importing it or a package it lies in: a path may come from a file."""
    locations: Sequence[str] | None = None
    parts = package.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        found = (finder.find_spec(name, locations) for finder in finders)
        spec = next((one for one in found if one is not None), None) if name else None
        if spec is None or spec.submodule_search_locations is None:
            return ()
        locations = list(spec.submodule_search_locations)
    return locations or ()
