"""Random checkpoints in memory, conversions in one call, and the network's logits of any checkpoint."""

import functools
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import unflatten_dict

from flanx import models
from flanx.interop import Source, convert, layouts, open_checkpoint
from flanx.interop.request import Request, prepare
from flanx.interop.source import ArrayInfo, StoredArray, View
from flanx.models.t5.config import T5Config

# Wide enough that Adafactor factors its matrices, square and not, either axis the larger.
FACTORED = T5Config(
    emb_dim=128,
    num_heads=2,
    head_dim=64,
    num_encoder_layers=2,
    num_decoder_layers=3,
    mlp_dim=192,
    vocab_size=160,
    dtype="float32",
)
NARROW = replace(FACTORED, emb_dim=160)  # heads side by side are narrower than the model
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def random_arrays(config: T5Config, dtype="float32", seed=0) -> dict[str, np.ndarray]:
    """Every parameter of a network, norm scales near one."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in config.parameters().shapes().items():
        spread = 0.1 if len(shape) == 1 else 0.3
        values = rng.normal(len(shape) == 1, spread, shape).astype(np.float32)
        arrays[name] = values.astype(dtype)
    return arrays


def random_slots(arrays: dict[str, np.ndarray], seed=1) -> dict[str, np.ndarray]:
    """Adafactor's second moments for them."""
    rng = np.random.default_rng(seed)
    slots = {}
    for name, array in arrays.items():
        if array.ndim == 2 and min(array.shape) >= 128:
            for kind in ("v_row", "v_col"):
                length = array.shape[layouts.kept_axis(array.shape, kind)]
                slots[f"{name}/{kind}"] = rng.random(length, np.float32)
        else:
            slots[f"{name}/v"] = rng.random(array.shape, np.float32)
    return slots


def in_memory(
    config: T5Config,
    arrays: dict[str, np.ndarray],
    slots: dict[str, np.ndarray] | None = None,
    step=7,
) -> Source:
    """A source that holds its arrays."""
    slots = slots or {}
    stored = {
        name: StoredArray(
            ArrayInfo(array.shape, array.dtype), "memory", functools.partial(_same, array)
        )
        for name, array in {**arrays, **slots}.items()
    }
    return Source(
        form="memory",
        path=Path("memory"),
        config=config,
        step=step,
        vocabulary_file=None,
        vocabulary={},
        params={name: stored[name].info for name in arrays},
        optimizer={name: stored[name].info for name in slots},
        assumed=(),
        notes=(),
        views={name: View(name) for name in stored},
        stored=stored,
    )


def _same(array: np.ndarray) -> np.ndarray:
    return array


def write(make_target, source: Source, destination: Path) -> Path:
    """Writes a source by `make_target(folder)`."""
    with convert.opened(destination, overwrite=False) as temporary:
        convert.convert(source, make_target(temporary), temporary, destination)
    return destination


def converted(source: Path, destination: Path, form: str, **more) -> Path:
    """`flanx convert source destination --to form`."""
    prepared = prepare(Request(str(source), destination, form, **more))
    return write(prepared.target, prepared.source, destination)


def same(path: Path, arrays: dict[str, np.ndarray], slots: dict[str, np.ndarray]) -> None:
    """Asserts that a checkpoint holds these arrays, bit for bit."""
    source = open_checkpoint(str(path))
    assert set(source.params) == set(arrays)
    assert set(source.optimizer) == set(slots)
    for name in source.params:
        equal(source.read(name), arrays[name], name)
    for name in source.optimizer:
        equal(source.read_optimizer(name), slots[name], name)


def equal(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    assert found.dtype == wanted.dtype, name
    assert found.shape == wanted.shape, name
    assert found.tobytes() == wanted.tobytes(), name


def params_of(source: Source) -> dict:
    """Float32 parameters as the network takes them."""
    return unflatten_dict({n: source.read(n).astype(np.float32) for n in source.params}, sep="/")


@functools.cache
def forward(config: T5Config):
    """Compiled logits of (params, inputs, targets, segments); targets are shifted inside their segments."""
    model = models.build(replace(config, dtype="float32", scan_layers=False))

    # Compiled once for a few tiny batches: the compiler's care would cost more than it saves.
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

    @functools.partial(jax.jit, compiler_options=options)
    def logits(params, inputs, shifted, targets, input_segments, target_segments):
        return model.apply(
            {"params": params},
            inputs,
            shifted,
            targets,
            encoder_segment_ids=input_segments,
            decoder_segment_ids=target_segments,
        )

    return logits


def logits_of(source: Source, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[B, Lt, V] of rows with one example each; what lies at padding is of no meaning."""
    run = forward(source.config)
    with jax.default_matmul_precision("highest"):
        out = run(params_of(source), inputs, _shifted(targets), targets, *_ones(inputs, targets))
    return np.asarray(out)


def packed_logits_of(source: Source, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The same logits [B, Lt, V], but from rows that hold two examples each (shorter rows stay empty)."""
    packed, placed = _packed(inputs, targets)
    run = forward(source.config)
    with jax.default_matmul_precision("highest"):
        out = np.asarray(run(params_of(source), *packed))
    result = np.zeros((*targets.shape, out.shape[-1]), np.float32)
    for example, (row, start, length) in enumerate(placed):
        result[example, :length] = out[row, start : start + length]
    return result


def _packed(inputs, targets):
    shape_in, shape_out = inputs.shape, targets.shape
    packed = [np.zeros(s, np.int32) for s in (shape_in, shape_out, shape_out, shape_in, shape_out)]
    placed = []
    for example in range(len(inputs)):
        row, segment = example // 2, example % 2 + 1
        question = inputs[example][inputs[example] > 0]
        answer = targets[example][targets[example] > 0]
        shifted = np.concatenate([[0], answer[:-1]])
        start_in = int((packed[3][row] > 0).sum())
        start_out = int((packed[4][row] > 0).sum())
        at_in = slice(start_in, start_in + len(question))
        at_out = slice(start_out, start_out + len(answer))
        values = ((0, at_in, question), (1, at_out, shifted), (2, at_out, answer))
        for array, at, content in (*values, (3, at_in, segment), (4, at_out, segment)):
            packed[array][row, at] = content
        placed.append((row, start_out, len(answer)))
    return packed, placed


def _shifted(targets: np.ndarray) -> np.ndarray:
    return np.pad(targets, ((0, 0), (1, 0)))[:, :-1]


def _ones(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (inputs > 0).astype(np.int32), (targets > 0).astype(np.int32)
