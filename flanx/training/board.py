"""Where the processes of a run leave each other short words: the key-value store of `jax.distributed`.

It works beside the devices, so it can be read while they hang.
"""

from dataclasses import dataclass
from typing import Any, Self

FOLDER = "flanx/watchdog"


@dataclass(frozen=True)
class Board:
    """One process's view of the board.

    Attributes:
      index: this process.
      count: all processes; alone there is nothing to read and nobody to tell.
      client: of `jax.distributed`, None alone.
    """

    index: int = 0
    count: int = 1
    client: Any = None

    @classmethod
    def of_this_run(cls) -> Self:
        """The board of the processes that JAX has joined."""
        import jax
        from jax._src import (
            distributed,  # no public way leads to the client (orbax takes this one too)
        )

        return cls(jax.process_index(), jax.process_count(), distributed.global_state.client)

    def tell(self, text: str) -> None:
        """This process's newest word; the one before is forgotten."""
        self._set(f"beats/{self.index}", text)

    def told(self) -> dict[int, str]:
        """Every process's newest word."""
        return {int(key): text for key, text in self._all("beats")}

    def raise_alarm(self, text: str) -> None:
        """Calls all processes, once."""
        self._set("alarm/newest", text)

    def alarm(self) -> str | None:
        """The newest call, None where there was none."""
        found = self._all("alarm")
        return found[0][1] if found else None

    def sign(self) -> None:
        """This process has done what an alarm asks for."""
        self._set(f"signed/{self.index}", "1")

    def signed(self) -> set[int]:
        """Processes that have."""
        return {int(key) for key, _ in self._all("signed")}

    def _set(self, key: str, text: str) -> None:
        self.client.key_value_set(f"{FOLDER}/{key}", text, allow_overwrite=True)

    def _all(self, folder: str) -> list[tuple[str, str]]:
        found = self.client.key_value_dir_get(f"{FOLDER}/{folder}/")
        return [(key.rpartition("/")[2], text) for key, text in found]
