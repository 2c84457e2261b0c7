"""Numbers that a change of structure must not move: losses, parameters, stores and answers, as one JSON object.

Run it on two checkouts of one machine and compare what they print:

    python tests/golden/record.py --shared ../shared > after.json

Everything goes through the command line, so that the inside of flanx may change between the two. Hashes depend on the
processor and on the versions of JAX and XLA; `test_golden.py` keeps what does not.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

PLAYGROUND = ("--gin_file=quickstart.gin", "--gin.NUM_TASKS=8", "--gin.BATCH_SIZE=8")
QUIET = ("--gin.config.TrainConfig.evals=()", "--gin.config.TrainConfig.log_period=1")
PROMPTS = (
    "Find the animal that comes last: rabbit zebra shovel white",
    "Which of these is a fruit: plum, fox, red?",
    "Write the words backwards: fox plum red",
)


def train(folder: Path, flags: Sequence[str], *, steps: int, devices: int = 1) -> list[float]:
    """Trains `steps` steps in `folder`/run and returns the loss of each."""
    run = folder / "run"
    flanx(
        "train",
        *flags,
        *QUIET,
        f"--gin.TRAIN_STEPS={steps}",
        f"--gin.MODEL_DIR={run}",
        f"--gin.CACHE_DIR={folder / 'cache'}",
        devices=devices,
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["values"]["loss"] for line in lines if line["split"] == "train"]


def params_hash(folder: Path) -> str:
    """SHA-256 of a run's parameters, in Hugging Face's form."""
    flanx("convert", str(folder / "run"), str(folder / "hf"), "--to", "hf")
    return hashlib.sha256((folder / "hf/model.safetensors").read_bytes()).hexdigest()


def store_hashes(cache_dir: Path) -> dict[str, str]:
    """SHA-256 of every column of every task's tokens in a cache folder.

    The label that ties tokens.arrow to its meta.json is left out: it names the store's key, which says what made it.
    """
    files = sorted(cache_dir.glob("*/*/tokens.arrow"))
    return {
        f"{file.parent.parent.name}/{file.parent.name.partition('-')[0]}": _table_hash(file)
        for file in files
    }


def _table_hash(file: Path) -> str:
    table = pa.ipc.open_file(file).read_all().replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def answers(folder: Path, *flags: str) -> list[dict]:
    """What a run answers to PROMPTS, with log-probabilities."""
    questions, out = folder / "questions.jsonl", folder / "answers.jsonl"
    questions.write_text("".join(json.dumps({"inputs": p}) + "\n" for p in PROMPTS))
    out.unlink(missing_ok=True)
    flanx(
        "infer",
        str(folder / "run"),
        f"--input={questions}",
        f"--output={out}",
        "--scores",
        "--batch_size=2",
        *flags,
    )
    return [json.loads(line) for line in out.read_text().splitlines()]


def flanx(*argv: str, devices: int = 1) -> None:
    """Runs one command; its error ends this one."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flanx", *argv],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"flanx {' '.join(argv)}: {done.stderr}")


def record(scratch: Path, shared: Path | None) -> dict:
    """Everything."""
    found: dict = {}
    plays = [("playground", (), 1), ("playground_8_devices", (), 8)]
    cases = [(name, (*PLAYGROUND, *flags), devices) for name, flags, devices in plays]
    if shared is not None:
        natural = (
            "--gin_file=recipes/natural_instructions.gin",
            "--gin.BATCH_SIZE=8",
            "--gin.NUM_TASKS=16",
            '--gin.TASK_FEATURE_LENGTHS={"inputs": 256, "targets": 64}',
            f"--gin.DATA_DIR={shared / 'data/natural-instructions'}",
            f"--gin.VOCABULARY={shared / 'data/vocab/t5_v1_1_cc_all_32000/spiece.model'}",
        )
        cases += [
            ("natural_instructions", natural, 1),
            ("natural_instructions_8_devices", natural, 8),
            ("natural_instructions_scanned", (*natural, "--gin.T5Config.scan_layers=True"), 1),
        ]
    for name, flags, devices in cases:
        folder = scratch / name
        folder.mkdir(parents=True)
        found[name] = {
            "losses": train(folder, flags, steps=20, devices=devices),
            "params": params_hash(folder),
            "stores": store_hashes(folder / "cache"),
        }
    play = scratch / "playground"
    found["greedy"] = answers(play)
    found["beam"] = answers(play, "--beams=4")
    found["samples"] = answers(play, "--temperature=0.7", "--seed=3")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, help="folder of real data (data/ in it)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(record(Path(scratch), args.shared), indent=1))


if __name__ == "__main__":
    main()
