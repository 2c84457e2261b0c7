"""Which code belongs to the user's project, and so counts in keys and is named in messages; the rest is installed."""

import functools
import os
import sys
import sysconfig


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    """Of Python itself, and of packages wherever they are installed: a `.pth` file may bring in another place's."""
    paths = sysconfig.get_paths()
    folders = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]}
    folders.update(p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages"))
    return tuple(os.path.realpath(folder) + os.sep for folder in sorted(folders))


@functools.cache
def is_installed(filename: str) -> bool:
    """Whether a file belongs to Python, an installed package or flanx's engine; flanx's tasks never do."""
    if filename.startswith("<frozen"):
        return True
    real = os.path.realpath(filename)
    engine = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
    if real.startswith(
        tuple(os.path.join(engine, part) + os.sep for part in ("tasks", "mixtures"))
    ):
        return False
    return real.startswith((*_installed_folders(), engine + os.sep))
