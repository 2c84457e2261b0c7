"""Where `flanx eval` keeps answers: its folder, or, should that take no more of them, a temporary one."""

import os
import tempfile
from pathlib import Path

from flanx import atomic_files


class AnswerFolder:
    """Writes files whole into a folder; one that is refused there goes where it can be fetched from.

    Args:
      folder: where the files belong.

    Attributes:
      refused: what the system said when a file was first refused; None where none was.
    """

    def __init__(self, folder: os.PathLike[str] | str):
        self._folder = folder
        self._instead: Path | None = None
        self._lost = 0
        self.refused: OSError | None = None

    def write(self, path: os.PathLike[str] | str, content: str | bytes) -> None:
        """Takes the place of `atomic_files.write`."""
        try:
            atomic_files.write(path, content)
        except OSError as error:
            self.refused = self.refused or error
            self._write_instead(os.path.basename(path), content)

    def report(self) -> list[str]:
        """Where the files are, in lines for the user."""
        if self.refused is None:
            return [f"answers and figures: {self._folder}"]
        why = f"{self._folder} cannot be written to any more ({self.refused.strerror})"
        lines = []
        if self._instead is not None:
            lines.append(f"{why}: what it did not take is in {self._instead}")
        if self._lost:
            files = "file of answers is" if self._lost == 1 else "files of answers are"
            lines.append(f"{why}: {self._lost:,} {files} lost; make room, and run the same command")
        return lines

    def _write_instead(self, name: str, content: str | bytes) -> None:
        try:
            if self._instead is None:
                self._instead = Path(tempfile.mkdtemp(prefix="flanx-eval-"))
            atomic_files.write(self._instead / name, content)
        except OSError:
            self._lost += 1
