"""What a killed process leaves behind in a MODEL_DIR: files that it had not finished, which nothing ever reads."""

from pathlib import Path

from flanx.whole_files import TEMPORARY

FOLDERS = (".", "eval")  # orbax cleans up under `checkpoints` itself


def remove(model_dir: str) -> None:
    """Deletes them; to be called while no other process writes there."""
    for folder in FOLDERS:
        for path in (Path(model_dir) / folder).glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)
