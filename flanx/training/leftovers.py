"""What a killed process leaves behind in a MODEL_DIR: files that it had not finished, which nothing ever reads."""

from pathlib import Path

from flanx import temporary

FOLDERS = (".", "eval")  # orbax cleans up under `checkpoints` itself


def remove(model_dir: str) -> None:
    """Deletes them, and nothing that a living process, an evaluation of the same run say, is still writing."""
    for folder in FOLDERS:
        temporary.sweep(Path(model_dir) / folder)
