"""Files that wait where the disk refuses them: an evaluation whose answers find no room ends no training."""

import os
from collections.abc import Callable

from flanx import atomic_files, system_errors


class PendingFiles:
    """Writes files whole. One that cannot be written is kept in memory, and tried again with the next one.

    Args:
      say: told once when writing begins to fail, and once when it works again.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._waiting: dict[str, str | bytes] = {}
        self._failing = False

    @property
    def waiting(self) -> list[str]:
        """Paths of files that are not written yet."""
        return list(self._waiting)

    def write(self, path: os.PathLike[str] | str, content: str | bytes) -> None:
        """Takes the place of `atomic_files.write`; the newest content of a path counts."""
        self._waiting[os.fspath(path)] = content
        self.flush()

    def flush(self) -> None:
        """Tries what waits, in the order in which it came."""
        for path in self.waiting:
            try:
                atomic_files.write(path, self._waiting[path])
            except OSError as error:
                if not self._failing:
                    fix = system_errors.fix(error)
                    self._say(
                        f"{path} cannot be written ({error.strerror}); training goes on, and tries again"
                        + (f": {fix}" if fix else "")
                    )
                self._failing = True
                return
            del self._waiting[path]
        if self._failing:
            self._say("the answers of evaluations are written: writing works again")
        self._failing = False
