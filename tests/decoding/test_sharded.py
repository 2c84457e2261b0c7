"""Decoding on a mesh of eight devices, parameters sharded as in training, against one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import sample
from tiny_models import small_model

from flanx.decoding.beam import beam_search
from flanx.decoding.score import score_continuations
from flanx.sharding.axes import PRESETS
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import batch_sharding, make_mesh
from flanx.sharding.params import param_shardings

OPTIONS = np.asarray([[[4, 5, 1], [6, 1, 0]]] * 8, np.int32)


def sampled(model, params, inputs):
    """Of temperatures from 0, which is greedy, to 2."""
    rows = len(inputs)
    real = jnp.linspace(0.0, 2.0, rows)
    keys = jax.vmap(jax.random.key)(jnp.arange(rows))
    top_k = jnp.full((rows,), 6, jnp.int32)
    return sample(model, params, inputs, 6, real, top_k, 1.0 - real / 8, keys)


@pytest.mark.parametrize(
    "decode",
    [
        sampled,
        lambda model, params, inputs: beam_search(model, params, inputs, 6, 3),
        lambda model, params, inputs: (
            jnp.zeros(0),
            score_continuations(model, params, inputs, jnp.asarray(OPTIONS)),
        ),
    ],
    ids=["sample", "beam", "scores"],
)
def test_eight_devices_give_what_one_gives(decode):
    with jax.default_matmul_precision("highest"):
        model, params, inputs = small_model(layers=1)
        inputs = jnp.concatenate([inputs, inputs[:2, ::-1]])
        program = jax.jit(lambda params, inputs: decode(model, params, inputs))
        tokens, scores = program(params, inputs)
        mesh = make_mesh(MeshConfig(data=4, model=2))
        params = jax.device_put(
            params,
            param_shardings(
                params, mesh, model.config.parameters().logical_axes, PRESETS["fully_sharded"]
            ),
        )
        found_tokens, found_scores = program(params, jax.device_put(inputs, batch_sharding(mesh)))
    assert len(found_scores.sharding.device_set) == 8
    np.testing.assert_array_equal(found_tokens, tokens)
    np.testing.assert_allclose(found_scores, scores, atol=1e-4)
