"""MODEL_DIR before anything is done in it: a folder that takes files, and holds nothing that stands in a run's way."""

from pathlib import Path

from flanx.errors import UserError
from flanx.writable import check_folder

FOLDERS = ("checkpoints", "eval", "damaged")  # what a run writes files into
FILES = (
    "run.json",
    "config.gin",
    "model-info.txt",
    "vocabulary.model",
    "metrics.jsonl",
    "lease.json",
    "summary.json",
    "curves.png",
    "eval/index.json",
)


def check(model_dir: str) -> None:
    """Refuses a MODEL_DIR that a run cannot write to; makes nothing.

    Raises:
      UserError: it is a file, cannot be made, is read-only, or a file stands where a folder belongs or the reverse.
    """
    check_folder(model_dir, "MODEL_DIR")
    there = Path(model_dir).expanduser()
    for name in FOLDERS:
        if (there / name).exists() or (there / name).is_symlink():
            check_folder(there / name, f"MODEL_DIR's folder '{name}'")
    for name in FILES:
        if (there / name).is_dir():
            raise UserError(
                f"MODEL_DIR = {model_dir}: {name} is a folder there, where a run keeps a file: remove it, or choose "
                "another MODEL_DIR"
            )
