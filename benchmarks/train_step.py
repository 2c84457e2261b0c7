"""Tokens a second, MFU, memory and compile time of a training step; prints one JSON line for each model.

    python benchmarks/train_step.py                     # on a CPU: T5.1.1 small, float32, against transformers
    python benchmarks/train_step.py                     # on a GPU: T5.1.1 large and XL at 1024/256, bfloat16
    python benchmarks/train_step.py --compile_ratio     # 24 + 24 scanned layers against 2 + 2
    python benchmarks/train_step.py --model=base --batch_size=16 --inputs=256 --targets=64 --devices=4 \
        --mesh=data=2,model=2 --microbatches=2 --remat=full --rounds=2 --peer=none        # any model and mesh

The step is the trainer's own (`flanx.training.program`): donated state, dropout, Adafactor, sums of metrics; its rows
are random and full, and packed unless `--packed=0`. The peer is transformers' T5 on PyTorch (train_step_peer.py) on
rows of the same size, which is all of the work that packing leaves; the two take turns, each in a process of its own,
after two steps of warming up. `ratio_to_peer` is the median over pairs, memory the peak of the whole process on a CPU
and of the device on a GPU.

MFU is the model's FLOPs (`flanx.models.t5.flops`: three forwards, nothing for what is computed again) a second, over
the peak of `flanx.hardware.chips`; on a CPU over the best rate of a 2048-square matrix product in the same run. A batch
that does not fit the device is halved until it does, unless `--batch_size` says how large it is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Width, heads, layers of each stack, and inner width of the published shapes (gin/models/t5_1_1).
SIZES = {
    "small": (512, 6, 8, 1024),
    "base": (768, 12, 12, 2048),
    "large": (1024, 16, 24, 2816),
    "xl": (2048, 32, 24, 5120),
    "xxl": (4096, 64, 24, 10240),
}
ON_CPU: dict[str, Any] = {
    "batch_size": 8,
    "inputs": 512,
    "targets": 128,
    "dtype": "float32",
    "remat": "none",
    "scan_layers": 0,
    "steps": 1,
    "peer": "torch",
}
# On a GPU every product of a layer is kept for the backward pass, and what lies between them is computed again.
ON_GPU: dict[str, Any] = {
    "inputs": 1024,
    "targets": 256,
    "dtype": "bfloat16",
    "remat": "names",
    "scan_layers": 1,
    "steps": 10,
    "peer": "none",
}
GPU_BATCHES = {"small": 256, "base": 128, "large": 64, "xl": 32, "xxl": 8}
CHOICES: dict[str, Any] = {
    "dtype": ("float32", "bfloat16"),
    "remat": ("none", "minimal", "names", "full"),
    "peer": ("torch", "none"),
    "attention": ("auto", "xla", "cudnn"),
}
HERE = Path(__file__).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=SIZES)
    for name in ("batch_size", "inputs", "targets", "steps", "scan_layers", "loss_chunks"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("dtype", "remat", "peer"):
        parser.add_argument(f"--{name}", choices=CHOICES[name])
    parser.add_argument("--attention", choices=CHOICES["attention"], default="auto")
    parser.add_argument("--mesh", default="", help="fields of MeshConfig: data=2,model=2")
    parser.add_argument("--devices", type=int, default=1, help="so many CPU devices")
    parser.add_argument("--microbatches", type=int, default=1)
    parser.add_argument("--packed", type=int, default=1)
    parser.add_argument("--dropout_rate", type=float, default=0.1)
    parser.add_argument("--prng", default="threefry2x32")
    parser.add_argument("--layers", type=int, help="layers of each stack, instead of the model's")
    parser.add_argument("--threads", type=int, default=2, help="threads of the peer")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--compile_ratio", action="store_true")
    parser.add_argument("--worker", choices=("steps", "compile"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    platform = find_platform()
    for name, value in (ON_GPU if platform == "gpu" else ON_CPU).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.compile_ratio:
        args.model = args.model or "small"
        args.batch_size = args.batch_size or 8
        print(json.dumps(compile_ratio(args)), flush=True)
        return
    fixed = args.batch_size
    for model in (
        [args.model] if args.model else ["large", "xl"] if platform == "gpu" else ["small"]
    ):
        args.model, args.batch_size = model, fixed or GPU_BATCHES[model]
        print(json.dumps(fitting_pairs(args, may_halve=fixed is None)), flush=True)


def find_platform() -> str:
    """What JAX runs on here, found in a process that ends, so that no device stays taken."""
    code = "import jax; print(jax.default_backend())"
    return subprocess.check_output([sys.executable, "-c", code], text=True).split()[-1]


def fitting_pairs(args: argparse.Namespace, may_halve: bool) -> dict[str, Any]:
    """`pairs`, with half the batch as often as the memory runs out."""
    while True:
        try:
            return pairs(args)
        except RuntimeError as error:
            if not may_halve or "RESOURCE_EXHAUSTED" not in str(error) or args.batch_size == 1:
                raise
            args.batch_size //= 2


def pairs(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one model, and of the peer in turns."""
    ours, theirs = Worker(own_command(args, "steps"), args), None
    if args.peer == "torch" and find_spec("torch") and find_spec("transformers"):
        theirs = Worker(peer_command(args), args)
    seconds: list[tuple[float, ...]] = []
    for number in range(args.rounds + 2):
        pair = tuple(worker.ask()["seconds"] for worker in (ours, theirs) if worker)
        if number > 1:
            seconds.append(pair)
    facts = ours.ready | ours.end()
    step = statistics.median(pair[0] for pair in seconds)
    tokens = args.batch_size * (args.inputs + args.targets)
    peak = facts.pop("peak_flops")
    figures: dict[str, Any] = {
        "benchmark": "train_step",
        "model": args.model,
        "batch": [args.batch_size, args.inputs, args.targets],
        "dtype": args.dtype,
        "remat": args.remat,
        "scan_layers": bool(args.scan_layers),
        "microbatches": args.microbatches,
        "mesh": args.mesh,
        "step_ms": round(step * 1e3, 2),
        "tokens_per_second": round(tokens / step),
        "tflops": round(facts["step_flops"] / step / 1e12, 3),
        "mfu": round(facts.pop("step_flops") / step / peak, 4) if peak else None,
        "measured_on": facts.pop("device"),
        **facts,
    }
    if theirs:
        end = theirs.end()
        figures |= {
            "peer": theirs.ready["ready"],
            "peer_step_ms": round(statistics.median(pair[1] for pair in seconds) * 1e3, 2),
            "ratio_to_peer": round(statistics.median(p[0] / p[1] for p in seconds), 3),
            "peer_peak_bytes": end["peak_bytes"],
            "memory_ratio_to_peer": round(figures["peak_bytes"] / end["peak_bytes"], 3),
        }
    return figures


def compile_ratio(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to trace and compile many scanned layers over few, in turns, each time in a fresh process."""
    args.scan_layers = 1
    seconds: dict[int, list[float]] = {24: [], 2: []}
    for _ in range(min(args.rounds, 3)):
        for layers, found in seconds.items():
            args.layers = layers
            found.append(Worker(own_command(args, "compile"), args).ready["compile_s"])
    many, few = (statistics.median(found) for found in seconds.values())
    return {
        "benchmark": "train_step_compile",
        "model": args.model,
        "seconds_24_24": round(many, 2),
        "seconds_2_2": round(few, 2),
        "ratio": round(many / few, 3),
    }


class Worker:
    """A child process that answers lines of JSON."""

    def __init__(self, command: list[str], args: argparse.Namespace):
        environment = dict(os.environ, XLA_PYTHON_CLIENT_MEM_FRACTION="0.93")
        if args.devices > 1:
            many = f"--xla_force_host_platform_device_count={args.devices}"
            environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {many}".strip()
        self._process = subprocess.Popen(
            command,
            text=True,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.ready = self._answer()

    def ask(self) -> dict[str, Any]:
        """One more step."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> dict[str, Any]:
        """Its last answer."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        answer = self._answer()
        self._process.wait()
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer = json.loads(line)
                if "error" in answer:
                    self._process.wait()
                    raise RuntimeError(answer["error"])
                return answer
        raise SystemExit(f"a worker ended with status {self._process.wait()}")


def own_command(args: argparse.Namespace, kind: str) -> list[str]:
    """This script as a worker, with every setting."""
    given = {
        k: v
        for k, v in vars(args).items()
        if v is not None and k not in ("worker", "compile_ratio")
    }
    return [
        sys.executable,
        str(HERE),
        f"--worker={kind}",
        *(f"--{k}={v}" for k, v in given.items()),
    ]


def peer_command(args: argparse.Namespace) -> list[str]:
    """The peer with the same shapes."""
    emb, heads, layers, mlp = SIZES[args.model]
    given = {
        "emb_dim": emb,
        "num_heads": heads,
        "layers": args.layers or layers,
        "mlp_dim": mlp,
        **{k: getattr(args, k) for k in ("batch_size", "inputs", "targets", "threads", "dtype")},
        "dropout_rate": args.dropout_rate,
    }
    script = HERE.with_name("train_step_peer.py")
    return [sys.executable, str(script), *(f"--{k}={v}" for k, v in given.items())]


def work(args: argparse.Namespace) -> None:
    """The worker: compiles, says so, and takes steps as long as it is asked to."""
    from flanx.training import startup

    startup.prepare("")
    import jax

    try:
        facts, step = compiled_step(args)
        print(json.dumps(facts), flush=True)
        if args.worker == "compile":
            return
        for _ in sys.stdin:
            began = time.perf_counter()
            for _ in range(args.steps):
                tick = step()
            tick.block_until_ready()
            print(json.dumps({"seconds": (time.perf_counter() - began) / args.steps}), flush=True)
    except jax.errors.JaxRuntimeError as error:
        print(json.dumps({"error": str(error)[:2000]}), flush=True)
        raise SystemExit(1) from None
    print(json.dumps({"peak_bytes": peak_bytes(jax.local_devices()[0])}), flush=True)


def compiled_step(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """What is known before the first step, and a function without arguments that dispatches one."""
    import jax
    import numpy as np

    from flanx.hardware.chips import chip_of
    from flanx.sharding import mesh as meshes
    from flanx.training import program as programs

    config = configuration(args)
    mesh = meshes.make_mesh(config.mesh)
    program = programs.build(config, mesh, num_tasks=1)
    began = time.perf_counter()
    compiled = program.step.ahead_of_time()
    seconds = time.perf_counter() - began
    device = jax.local_devices()[0]
    chip = chip_of(device.device_kind)
    facts: dict[str, Any] = {
        "compile_s": round(seconds, 2),
        "step_flops": config.model.flops_per_step(args.batch_size, config.cells),
        "peak_flops": None,
        "device": f"{mesh.size} x {device.device_kind}, jax {jax.__version__}",
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }
    if args.worker == "compile":
        return facts, None
    facts["peak_flops"] = (chip.peak_flops if chip else matmul_rate()) * mesh.size
    if chip is None and mesh.size > 1:
        facts["peak_flops"] /= mesh.size  # CPU devices share the cores
    held: Any = [program.fresh_state(), program.zero_sums()]
    arrays = meshes.to_device(mesh, batch(args, np))

    def step() -> Any:
        held[0], held[1], tick = compiled(*held, arrays, program.rng)
        return tick

    return facts, step


def configuration(args: argparse.Namespace) -> Any:
    """The run's configuration; no data of it is ever opened."""
    from flanx.models.t5.config import CHECKPOINT_NAMES, T5Config
    from flanx.sharding.config import MeshConfig
    from flanx.training.config import DataConfig, LossConfig, TrainConfig

    emb, heads, layers, mlp = SIZES[args.model]
    fields = [field.split("=") for field in args.mesh.split(",") if field]
    sizes: dict[str, Any] = {k: v if k == "parameters" else int(v) for k, v in fields}
    return TrainConfig(
        model_dir="unused",
        model=T5Config(
            emb_dim=emb,
            num_heads=heads,
            num_encoder_layers=args.layers or layers,
            num_decoder_layers=args.layers or layers,
            mlp_dim=mlp,
            dropout_rate=args.dropout_rate,
            dtype=args.dtype,
            scan_layers=bool(args.scan_layers),
            remat=args.remat,
            remat_names=CHECKPOINT_NAMES,
            attention=args.attention,
        ),
        data=DataConfig(
            mixture="random",
            cache_dir="unused",
            feature_lengths={"inputs": args.inputs, "targets": args.targets},
        ),
        train_steps=1,
        batch_size=args.batch_size,
        loss=LossConfig(chunks=args.loss_chunks),
        microbatches=args.microbatches,
        mesh=MeshConfig(**sizes),
        prng=args.prng,
    )


def batch(args: argparse.Namespace, np: Any) -> dict[str, Any]:
    """Rows without padding, of four examples each where they are packed."""
    rng, rows = np.random.default_rng(0), args.batch_size
    parts = 4 if args.packed else 1
    arrays: dict[str, Any] = {}
    for side, length in (("encoder", args.inputs), ("decoder", args.targets)):
        place = np.arange(length)
        width = -(-length // parts)
        arrays[f"{side}_segment_ids"] = np.tile(place // width + 1, (rows, 1))
        arrays[f"{side}_positions"] = np.tile(place % width, (rows, 1))
    arrays["encoder_input_tokens"] = rng.integers(2, 32000, (rows, args.inputs))
    targets = rng.integers(2, 32000, (rows, args.targets))
    arrays["decoder_target_tokens"] = targets
    arrays["decoder_input_tokens"] = np.where(
        arrays["decoder_positions"] == 0, 0, np.roll(targets, 1, axis=1)
    )
    arrays["decoder_task_ids"] = np.zeros(targets.shape)
    whole = {name: array.astype(np.int32) for name, array in arrays.items()}
    return {**whole, "decoder_loss_weights": np.ones(targets.shape, np.float32)}


def matmul_rate() -> float:
    """FLOP/s of a 2048-square float32 matrix product, the best of ten."""
    import jax
    import jax.numpy as jnp

    x, product = jnp.ones((2048, 2048)), jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * 2048**3 / best


def peak_bytes(device: Any) -> int:
    """Most memory of the device where it has its own, else of the process."""
    stats = device.memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


if __name__ == "__main__":
    main()
