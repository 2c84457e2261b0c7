"""Which tasks of a mixture have their data here, for collections that few have whole."""

from collections.abc import Callable

from flanx.errors import UserError
from flanx.registry.spec import TaskSpec


class PresentData:
    """Tells whether a task's files are there, and counts.

    Args:
      split: the split that is wanted; None for any.
      data_dir: where relative files are looked up; None for FLANX_DATA_DIR.
    """

    def __init__(self, split: str | None, data_dir: str | None = None) -> None:
        self._split = split
        self._data_dir = data_dir
        self._found: dict[str, bool] = {}
        self._first_missing: UserError | None = None

    def __call__(self, spec: TaskSpec) -> bool:
        if spec.dataset not in self._found:
            try:
                spec.source.files(self._split or spec.splits[0], self._data_dir)
            except UserError as missing:
                self._first_missing = self._first_missing or missing
                self._found[spec.dataset] = False
            else:
                self._found[spec.dataset] = True
        return self._found[spec.dataset]

    def report(self, name: str, say: Callable[[str], None] | None = None) -> None:
        """Says in a line how many datasets are there.

        Raises:
          UserError: none of those asked for is.
        """
        there, asked = sum(self._found.values()), len(self._found)
        if asked and not there:
            what = (
                f"none of its {asked:,} datasets is there" if asked > 1 else "its data is not there"
            )
            raise UserError(f"'{name}': {what}: {self._first_missing}") from self._first_missing
        if say is not None and there < asked:
            say(f"{name}: {there:,} of {asked:,} datasets are there, the others are left out")
