"""One real compilation for a TPU slice that is not there."""

import json
import os
import subprocess
import sys

import pytest

from flanx.plan import topology

CODE = """
import json, sys
from flanx.plan import topology
topology.prepare_environment()
from dataclasses import replace
from flanx.models.t5.config import T5Config
from flanx.plan.compiled import compile_step
from flanx.sharding.config import MeshConfig
from flanx.training.config import DataConfig, TrainConfig
network = T5Config(emb_dim=128, num_heads=2, num_encoder_layers=4, num_decoder_layers=4, head_dim=64, mlp_dim=256,
                   vocab_size=512, scan_layers=True, remat="full")
data = DataConfig(mixture="none", feature_lengths={"inputs": 128, "targets": 128}, cache_dir="no")
run = TrainConfig(model_dir="nowhere", model=network, data=data, train_steps=10, batch_size=8,
                  mesh=MeshConfig(model=2, parameters="fully_sharded"))
facts = compile_step(run, topology.parse("v5e:2x2"))
print(json.dumps({
    "mesh": facts.mesh,
    "params": facts.memory.params,
    "total": facts.memory.total,
    "fits": facts.memory.fits,
    "flops": facts.flops * 4 / facts.model_flops,
    "hbm": facts.hbm_bytes,
    "kinds": sorted(facts.traffic),
    "counts": [t.count for _, t in sorted(facts.traffic.items())],
    "notes": facts.notes,
    "parameters": network.num_parameters(),
}))
"""


@pytest.mark.skipif(not topology.has_compiler(), reason="libtpu is not installed")
def test_a_small_step_compiles_for_four_chips_that_are_not_there():
    # libtpu reads the environment once, so a process of its own.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["mesh"] == {"replica": 1, "data": 2, "model": 2}
    # Kernels and embeddings lie over all four.
    assert found["parameters"] < found["params"] < 1.2 * found["parameters"]
    assert found["fits"]
    assert found["total"] > found["params"]
    assert found["notes"] == []
    # Four layers of each stack, each computed once more: a loop's body counted once would give less than half.
    assert 1.1 < found["flops"] < 1.45
    assert found["hbm"] > 2 * found["params"]
    assert {"all-gather", "all-reduce"} <= set(found["kinds"])
    assert max(found["counts"]) >= 4
