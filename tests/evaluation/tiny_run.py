"""A tiny random model and stores of made-up questions, for tests of evaluation."""

from functools import partial

import jax
import numpy as np

from flanx import models
from flanx.data import store
from flanx.data.manifest import Entry, Manifest
from flanx.data.vocabulary import load
from flanx.models.t5.config import T5Config

LENGTHS = {"inputs": 48, "targets": 12}
VOCABULARY = load("bytes")
CONFIG = T5Config(
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=32,
    vocab_size=VOCABULARY.size,
    head_dim=8,
    dropout_rate=0.0,
    dtype="float32",
)
METRICS = "flanx.evaluation.metrics:"


def model_and_params(seed=0):
    """Random parameters, spread wide enough that answers differ from question to question."""
    model = models.build(CONFIG)
    params = jax.jit(partial(models.init_params, model))(jax.random.key(seed))
    return model, jax.tree.map(lambda x: 1.5 * x, params)


def examples(count, *, seed, options=0, longest=40):
    """Questions of random letters; the first option or a letter is the reference."""
    rng = np.random.default_rng(seed)

    def text(most):
        return "".join(rng.choice(list("abcdefgh ")) for _ in range(rng.integers(1, most)))

    rows = []
    for i in range(count):
        question = text(longest)
        choices = [text(8) + str(k) for k in range(options + i % 2)] if options else None
        references = [choices[0]] if choices else [text(6), text(6)]
        rows.append(
            store.Example(
                inputs=[*VOCABULARY.encode(question), 1],
                targets=[*VOCABULARY.encode(references[0]), 1],
                example_id=100 + i,
                inputs_text=question,
                targets_text=references,
                options=choices,
            )
        )
    return rows


def manifest(cache_dir, tasks, name="mix"):
    """Writes a store for each task; tasks = {name: (rows, metric names, postprocessor)}."""
    entries = []
    for task, (rows, metrics, postprocessor) in tasks.items():
        path = f"{task}/validation-0"
        meta = {"task": task, "split": "validation", "key": "0"}
        meta = store.write(
            cache_dir / path, rows, meta, vocabulary_size=VOCABULARY.size, for_eval=True
        )
        entries.append(
            Entry(
                task=task,
                dataset=task,
                type="",
                category="",
                path=path,
                examples=len(rows),
                rate=1.0,
                tokens=meta["tokens"],
                store_bytes=meta["bytes"],
                content=meta["content"],
                metrics=tuple(metrics),
                postprocessor=postprocessor,
            )
        )
    spec = {"spec": "bytes", "fingerprint": VOCABULARY.fingerprint, "size": VOCABULARY.size}
    return Manifest(name, "validation", {}, LENGTHS, spec, tuple(entries), [])


@partial(jax.jit, static_argnums=0)
def _forward(model, params, inputs, previous):
    return model.apply({"params": params}, inputs, previous)[0]


def slow_logits(model, params, inputs, targets):
    """[Lt, V] logits of one example alone, at a width that the evaluator never uses."""
    given, previous = np.zeros((1, 61), np.int32), np.zeros((1, 17), np.int32)
    given[0, : len(inputs)] = inputs
    previous[0, 1 : len(targets)] = targets[:-1]
    return np.asarray(_forward(model, params, given, previous))[: len(targets)]


def slow_greedy(model, params, inputs, most):
    """Greedy ids by a full forward pass a token."""
    answer = []
    while len(answer) < most and (not answer or answer[-1] != 1):
        logits = slow_logits(model, params, inputs, [*answer, 0])
        answer.append(int(np.argmax(logits[-1])))
    return answer


def slow_log_probability(model, params, inputs, targets):
    """Summed log-probability of `targets`."""
    logits = slow_logits(model, params, inputs, targets)
    logp = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    return float(sum(logp[i, t] for i, t in enumerate(targets)))
