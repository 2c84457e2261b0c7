"""A ready store of three small tasks over bytes, and configurations that train on it in seconds."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flanx.data import store, vocabulary
from flanx.data.manifest import Entry, Manifest
from flanx.evaluation.suites import EvalSuite
from flanx.models.t5.config import T5Config
from flanx.sharding.config import MeshConfig
from flanx.training.clock import TIMED
from flanx.training.config import CheckpointConfig, DataConfig, TrainConfig

LENGTHS = {"inputs": 24, "targets": 16}
MODEL = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=32,
    vocab_size=264,
    dropout_rate=0.1,
    dtype="float32",
)
SUITE = EvalSuite(name="held_in", mixture="toy", split="validation", batch_size=8)


def write_store(cache_dir: Path, request, names=("a", "b", "c"), examples=40) -> Manifest:
    """Stores of copied bytes and their manifest, as `flanx cache` leaves them for `request`."""
    bytes_ = vocabulary.load("bytes")
    entries = []
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        rows = []
        for index in range(examples):
            ids = [*rng.integers(100, 110, int(rng.integers(2, 9))).tolist(), 1]
            text = bytes_.decode(ids)
            rows.append(store.Example(ids, ids, index, 0, text, [text], [text, "no"]))
        folder = cache_dir / name / f"{request.split}-{'eval' if request.for_eval else 'train'}"
        meta = store.write(folder, rows, {}, vocabulary_size=bytes_.size, for_eval=request.for_eval)
        entries.append(
            Entry(
                task=f"toy.{name}",
                dataset=f"toy.{name}",
                type="zs_opt",
                category="",
                path=str(folder.relative_to(cache_dir)),
                examples=examples,
                rate=1.0 + number,
                tokens={"inputs": 0, "targets": 0},
                store_bytes=meta["bytes"],
                content=meta["content"],
                metrics=("flanx.evaluation.metrics:exact_match",),
            )
        )
    manifest = Manifest(
        mixture=request.mixture,
        split=request.split,
        request=request.to_json(),
        feature_lengths=dict(request.feature_lengths),
        vocabulary={"spec": "bytes", "fingerprint": bytes_.fingerprint, "size": bytes_.size},
        entries=tuple(entries),
        inputs=[],
    )
    manifest.save(request.manifest_path)
    return manifest


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory) -> Path:
    """A cache folder that holds the mixture `toy`, for training; compiled programs are kept here as well."""
    cache = tmp_path_factory.mktemp("cache")
    data = DataConfig(mixture="toy", feature_lengths=LENGTHS, cache_dir=str(cache))
    write_store(cache, data.request())
    write_store(cache, data.eval_request(SUITE), names=("a", "d"), examples=6)
    return cache


@pytest.fixture
def toy_config(toy_cache, tmp_path):
    """`toy_config(train_steps=9, ...)`: a run on one device in a folder of its own; `model_dir` names the folder."""

    def make(model_dir="run", **changes) -> TrainConfig:
        config = TrainConfig(
            model_dir=str(tmp_path / model_dir),
            model=MODEL,
            data=DataConfig(
                mixture="toy", feature_lengths=LENGTHS, cache_dir=str(toy_cache), block_size=24
            ),
            train_steps=9,
            batch_size=4,
            checkpoint=CheckpointConfig(period=4, keep=None),
            mesh=MeshConfig(),
            log_period=2,
        )
        return dataclasses.replace(config, **changes)

    return make


class Forks:
    """Starts training in processes of their own, forked from one that `fork_server.py` keeps ready."""

    def __init__(self):
        self._count = 0
        script = Path(__file__).with_name("fork_server.py")
        # One thread, so that forking is safe: the libraries' thread pools begin in the children.
        environment = os.environ | {
            "OPENBLAS_NUM_THREADS": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
        }
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def start(self, config, *faults, devices=1, hosts=None) -> "Child":
        """A process on `devices` CPU devices, one of several with `hosts` (address, count, index)."""
        self._count += 1
        name = f"{config.model_dir}-{self._count}"
        Path(f"{name}.pickle").write_bytes(pickle.dumps(config))
        request = {
            "run": f"{name}.pickle",
            "hosts": hosts,
            "devices": devices,
            "out": f"{name}.out",
            "err": f"{name}.err",
            "faults": faults,
        }
        return Child(self, self.ask(request)["pid"], name)

    def run(self, config, *faults, devices=1) -> "Child":
        """A process that has ended."""
        child = self.start(config, *faults, devices=devices)
        child.wait()
        return child

    def ask(self, request) -> dict:
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.communicate()


@dataclasses.dataclass
class Child:
    """A forked process: its exit status (negative for a signal), and what it has written."""

    forks: Forks
    pid: int
    name: str
    status: int | None = None

    def wait(self) -> int:
        if self.status is None:
            self.status = self.forks.ask({"wait": self.pid})["status"]
        return self.status

    @property
    def out(self) -> str:
        return Path(f"{self.name}.out").read_text()

    @property
    def err(self) -> str:
        return Path(f"{self.name}.err").read_text()


@pytest.fixture(scope="session")
def forks():
    server = Forks()
    yield server
    server.close()


@pytest.fixture
def toy_suite() -> EvalSuite:
    """Two tasks of `toy`: one that is trained on, one that is not."""
    return SUITE


@pytest.fixture
def read_metrics():
    """Lines of a run's metrics.jsonl without what the clock measured."""

    def read(model_dir) -> list[dict]:
        lines = (Path(model_dir) / "metrics.jsonl").read_text().splitlines()
        parsed = [json.loads(line) for line in lines]
        for line in parsed:
            for name in TIMED:
                line["values"].pop(name, None)
        return parsed

    return read
