"""A folder of a T5X checkpoint on this machine or in a `gs://` bucket, both through TensorStore's key-value stores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorstore as ts
from etils import epath

from flanx import resources
from flanx.errors import UserError


@dataclass(frozen=True)
class Place:
    """A folder.

    Attributes:
      url: an absolute path without `..`, or "gs://bucket/folder"; made so from any path.
    """

    url: str

    def __post_init__(self) -> None:
        if not self.remote:
            object.__setattr__(self, "url", str(resources.absolute(self.url)))

    @property
    def path(self) -> Any:
        """As a path: `pathlib.Path` where it is local."""
        return epath.Path(self.url) if self.remote else Path(self.url)

    @property
    def remote(self) -> bool:
        """Whether it lies in a bucket."""
        return self.url.startswith("gs://")

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Place":
        return Place(f"{self.url}/{name.strip('/')}")

    def kvstore(self) -> dict[str, str]:
        """TensorStore's spec of this folder as a key-value store."""
        if not self.remote:
            return {"driver": "file", "path": f"{self.url}/"}
        bucket, _, folder = self.url.removeprefix("gs://").partition("/")
        return {"driver": "gcs", "bucket": bucket, "path": f"{folder}/"}

    def read(self, name: str) -> bytes | None:
        """The contents of a file here, None where there is none.

        Raises:
          UserError: the bucket does not answer.
        """
        if not self.remote:
            path = Path(self.url) / name
            return path.read_bytes() if path.is_file() else None
        found = self._asked(lambda store: store.read(name).result())
        return found.value if found.state == "value" else None

    def children(self) -> list[str]:
        """Names of the files and folders here, sorted; empty where there is no such folder."""
        if not self.remote:
            folder = Path(self.url)
            return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        keys = self._asked(lambda store: store.list().result())
        return sorted({key.decode().partition("/")[0] for key in keys})

    def _asked(self, question: Any) -> Any:
        try:
            return question(ts.KvStore.open(self.kvstore()).result())
        except Exception as error:
            reason = " ".join(str(error).split()).split(" [tensorstore_spec")[0]
            raise UserError(
                f"{self.url} cannot be read ({reason[:200]}): check the address and your access to it, or copy it here"
            ) from error
