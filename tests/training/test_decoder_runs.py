"""Runs of a decoder: learning, exact resume, several devices, packing that changes no loss."""

import dataclasses

import jax
import numpy as np
import pytest

from flanx import models
from flanx.data import manifest as manifests
from flanx.data.loader import Loader
from flanx.models.decoder.config import DecoderConfig
from flanx.sharding.config import MeshConfig
from flanx.training.config import LossConfig
from flanx.training.loop import train
from flanx.training.step import batch_metrics

ONE = jax.devices()[:1]
NETWORK = DecoderConfig(
    emb_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    num_layers=2,
    mlp_dim=48,
    vocab_size=384,
    dtype="float32",
)


@pytest.fixture
def decoder_config(toy_config):
    def make(model_dir="run", **changes):
        return toy_config(model_dir, model=NETWORK, evals=(), **changes)

    return make


def test_a_stopped_run_resumes_exactly(decoder_config, read_metrics):
    whole = decoder_config("whole")
    train(whole, devices=ONE)
    stopped = decoder_config("stopped")
    train(dataclasses.replace(stopped, train_steps=4), devices=ONE)
    train(stopped, devices=ONE)
    ours, theirs = read_metrics(stopped.model_dir), read_metrics(whole.model_dir)
    assert ours[-1] == theirs[-1]
    assert theirs[-1]["values"]["loss"] < theirs[0]["values"]["loss"]


@pytest.mark.parametrize("parameters", ["replicated", "fully_sharded"])
def test_eight_devices_are_one(decoder_config, read_metrics, parameters):
    one, eight = decoder_config("one", batch_size=16), decoder_config("eight", batch_size=16)
    mesh = MeshConfig(data=4, model=2, parameters=parameters)
    train(dataclasses.replace(one, train_steps=4), devices=ONE)
    train(dataclasses.replace(eight, train_steps=4, mesh=mesh))
    for ours, theirs in zip(
        read_metrics(eight.model_dir), read_metrics(one.model_dir), strict=True
    ):
        assert ours["values"]["loss"] == pytest.approx(theirs["values"]["loss"], rel=1e-5)


@pytest.mark.parametrize("prefix", [False, True])
def test_packed_rows_have_the_losses_of_their_examples_alone(decoder_config, prefix):
    config = decoder_config()
    request = config.data.request()
    manifest = manifests.load(request.manifest_path)
    model = models.build(NETWORK)
    params = models.init_params(model, jax.random.key(0))
    data = dataclasses.replace(config.data, prefix=prefix)
    made = NETWORK.batch_format(data.feature_lengths, data.rows())
    sums = []
    for pack, rows in ((True, 64), (False, 256)):
        loader = Loader(
            manifest,
            data.cache_dir,
            batch_size=rows,
            feature_lengths=data.feature_lengths,
            seed=0,
            pack=pack,
            epochs=1,
            batch_format=made,
        )
        batches = list(loader)
        assert sum(batch.num_examples for batch in batches) == sum(
            entry.examples for entry in manifest.entries
        )
        sums.append(
            sum(
                np.array(
                    [
                        metrics["loss"],
                        metrics["weights"],
                        metrics["examples"],
                        metrics["input_tokens"],
                    ]
                )
                for batch in batches
                for metrics in [
                    batch_metrics(
                        model, params, batch.arrays, LossConfig(), num_tasks=len(manifest.entries)
                    )[1]
                ]
            )
        )
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-5)


def test_a_row_length_of_its_own_is_what_a_step_costs(decoder_config):
    config = decoder_config()
    long = dataclasses.replace(config, data=dataclasses.replace(config.data, row_length=96))
    assert {shape for shape, _ in long.batch_format().shapes(4).values()} == {(4, 96)}
    assert dict(long.cells) == {"row": 96}
    flops = [NETWORK.flops_per_step(4, one.cells) for one in (config, long)]
    inputs, targets = config.data.feature_lengths.values()
    assert flops[1] > flops[0] * 96 / (inputs + targets)  # attention grows with the square
