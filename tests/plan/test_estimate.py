"""Plans by arithmetic, of a network small enough to trace in a moment."""

from dataclasses import replace

import jax
import pytest

from flanx.errors import UserError
from flanx.models.decoder.config import DecoderConfig
from flanx.models.t5.config import T5Config
from flanx.plan import advice, search, settings, topology, traced
from flanx.plan.estimate import estimate
from flanx.sharding.config import MeshConfig
from flanx.training.config import DataConfig, LossConfig, TrainConfig

NETWORK = T5Config(
    emb_dim=32,
    num_heads=4,
    num_encoder_layers=3,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=64,
    vocab_size=128,
    scan_layers=True,
)
RUN = TrainConfig(
    model_dir="nowhere",
    model=NETWORK,
    data=DataConfig(mixture="none", feature_lengths={"inputs": 48, "targets": 24}, cache_dir="no"),
    train_steps=10,
    batch_size=16,
    mesh=MeshConfig(parameters="fully_sharded"),
)
SERVER = topology.parse("h100:8")


def test_flops_are_the_model_s_and_remat_s_on_top():
    plain = estimate(RUN, SERVER)
    assert plain.flops * 8 == pytest.approx(plain.model_flops, rel=0.01)
    again = estimate(settings.changed(RUN, remat="full"), SERVER)
    # The forward pass once more, less what the loss does.
    assert 1.2 < again.flops / plain.flops < 4 / 3
    assert again.memory.activations < plain.memory.activations
    assert estimate(settings.changed(RUN, microbatches=2), SERVER).flops == pytest.approx(
        plain.flops
    )


def test_parameters_are_counted_exactly_and_shared_by_those_who_share_them():
    sharded = estimate(RUN, SERVER).memory
    whole = estimate(settings.changed(RUN, parameters="replicated"), SERVER).memory
    assert whole.params == 4 * NETWORK.num_parameters()
    # Everything but norms and position biases lies over eight devices.
    assert whole.params / 8 < sharded.params < whole.params / 6
    split = estimate(settings.changed(RUN, model=4), SERVER).memory
    assert split.params == pytest.approx(sharded.params, rel=0.15)


def test_traffic_follows_the_mesh():
    weights, tables = NETWORK.num_parameters(), 2 * 128 * 32
    replicated = estimate(settings.changed(RUN, parameters="replicated"), SERVER).traffic
    assert set(replicated) == {"all-reduce"}
    gradients = 2 * weights + 2 * tables
    assert replicated["all-reduce"].link_bytes == pytest.approx(2 * gradients * 7 / 8)
    sharded = estimate(RUN, SERVER).traffic
    assert sharded["all-gather"].link_bytes == pytest.approx(2 * 2 * weights * 7 / 8)
    assert sharded["reduce-scatter"].link_bytes == pytest.approx(gradients * 7 / 8)


def test_servers_talk_over_the_network():
    two = topology.parse("h100:4x2")
    traffic = estimate(settings.changed(RUN, parameters="replicated"), two).traffic["all-reduce"]
    gradients = 2 * NETWORK.num_parameters() + 2 * 2 * 128 * 32
    assert traffic.link_bytes == pytest.approx(2 * gradients * 3 / 4)
    assert traffic.network_bytes == pytest.approx(2 * gradients / 2 / 4)


def test_fused_attention_keeps_no_weights():
    args = (NETWORK, LossConfig(), 48, 24)
    written, fused = traced.trace(*args), traced.trace(*args, True)
    assert fused.flops == written.flops
    # At least the bfloat16 weights of three encoder layers' four heads.
    assert written.kept - fused.kept >= 2 * 3 * 4 * 48 * 48
    assert fused.moved < written.moved


def test_products_of_a_loop_count_as_often_as_it_turns():
    def loop(x, w):
        return jax.lax.scan(lambda carry, _: (carry @ w, None), x, length=5)[0]

    shapes = jax.ShapeDtypeStruct((4, 8), "float32"), jax.ShapeDtypeStruct((8, 8), "float32")
    found = traced.products(jax.make_jaxpr(loop)(*shapes).jaxpr)
    assert (found.flops, found.bytes) == (5 * 2 * 4 * 8 * 8, 5 * 4 * (32 + 64 + 32))


def test_a_batch_that_does_not_split_gets_tensor_parallelism_and_a_word():
    config, note = settings.split_over(RUN, topology.parse("v5p-128"))
    assert (config.mesh.model, config.mesh.data) == (4, -1)
    assert "BATCH_SIZE = 16 does not split over replica x data = 64" in note
    assert settings.split_over(RUN, SERVER) == (RUN, "")
    with pytest.raises(UserError, match="BATCH_SIZE = 15"):
        estimate(replace(RUN, batch_size=15), SERVER)


def test_the_least_change_that_fits_is_named(monkeypatch):
    plain = estimate(RUN, SERVER)
    leaner = estimate(settings.changed(RUN, remat="minimal"), SERVER)
    limit = (plain.memory.total + leaner.memory.total) // 2
    monkeypatch.setattr(topology, "usable_bytes", lambda chip: limit)
    refused = estimate(RUN, SERVER)
    assert not refused.memory.fits
    assert refused.memory.largest[0].what == "activations kept for the backward pass"
    # An estimate that leaves little room has decided nothing.
    assert advice.mend(RUN, refused, estimate).startswith(
        'T5Config.remat = "minimal" may make it fit'
    )
    proved = advice.mend(RUN, refused, lambda *a: replace(estimate(*a), compiled=True))
    assert proved.startswith('T5Config.remat = "minimal" would make it fit')
    monkeypatch.setattr(topology, "usable_bytes", lambda chip: 1000)
    assert advice.mend(RUN, estimate(RUN, SERVER), estimate) == ""


def test_a_search_ranks_by_time_and_asks_the_compiler_about_the_best(monkeypatch):
    asked = []

    def compiler(config, where):
        asked.append(config)
        return estimate(config, where)

    monkeypatch.setattr(search, "compile_apart", compiler)
    monkeypatch.setattr(settings, "REMAT", ("none", "full"))
    said = []
    found = search.search(RUN, topology.parse("v5e:2x2"), compiled=2, say=said.append)
    assert [config for config, _ in found] == asked
    assert len(asked) == 2
    first, second = (search.roofline.roofline(facts).serial for _, facts in found)
    assert first <= second
    assert said[0].endswith("settings split the batch over 4 devices")
    assert said[-1].startswith("compiled 2 of 2")
    with pytest.raises(UserError, match="over 6 devices, of which at most 2 can .* multiple of 3"):
        search.search(
            replace(RUN, batch_size=7), topology.parse("h100:6"), compiled=0, say=said.append
        )


def test_a_search_goes_on_where_arithmetic_was_wrong(monkeypatch):
    """The compiler finds twice the memory: of what was promised to fit first, nothing does."""
    monkeypatch.setattr(settings, "REMAT", ("full",))
    guesses = [one for one, _ in search.search(RUN, SERVER, compiled=0, say=len)]
    totals = [estimate(one, SERVER).memory.total for one in guesses]
    monkeypatch.setattr(topology, "usable_bytes", lambda chip: 2 * min(totals) + 1)

    def compiler(config, where):
        facts = estimate(config, where)
        memory = replace(facts.memory, activations=facts.memory.activations + facts.memory.total)
        return replace(facts, memory=memory)

    monkeypatch.setattr(search, "compile_apart", compiler)
    said = []
    found = search.search(RUN, SERVER, compiled=2, say=said.append)
    assert [line.rpartition(": ")[2] for line in said[-3:-1]] == ["does not fit", "does not fit"]
    assert found[0][1].memory.total == 2 * min(totals)

    def broken(config, where):
        raise UserError("XLA could not compile the step")

    monkeypatch.setattr(search, "compile_apart", broken)
    with pytest.raises(UserError, match="XLA could not"):
        search.search(RUN, SERVER, compiled=2, say=said.append)


def test_tensor_parallelism_over_slices_is_refused_without_a_compiler_too():
    wide = settings.changed(replace(RUN, mesh=MeshConfig(replica=1)), model=8)
    two = topology.parse("v5e:2x2", 2)
    assert not settings.splits(wide, two)
    with pytest.raises(UserError, match="model=8 would reach over slices"):
        estimate(wide, two)


def test_the_kernel_s_conditions_decide_whether_attention_is_fused():
    def activations(**changes):
        return estimate(replace(RUN, model=replace(NETWORK, **changes)), SERVER).memory.activations

    assert activations() == activations(attention="cudnn") < activations(attention="xla")
    assert activations(head_dim=12) == activations(head_dim=12, attention="xla")
    with pytest.raises(UserError, match="a multiple of 8"):
        activations(head_dim=12, attention="cudnn")
    with pytest.raises(UserError, match="TPUs, not NVIDIA"):
        estimate(replace(RUN, model=replace(NETWORK, attention="cudnn")), topology.parse("v5e-4"))


def test_buffers_are_named_where_the_compiler_names_none():
    facts = estimate(RUN, SERVER)
    silent = replace(facts, memory=replace(facts.memory, largest=()), compiled=True)
    named = advice.with_largest(RUN, silent)
    assert named.memory.largest == facts.memory.largest
    assert named.notes == ("XLA names no buffers; those below are by arithmetic",)
    assert advice.with_largest(RUN, facts) is facts


def test_a_family_without_an_estimate_is_one_line():
    network = DecoderConfig(
        emb_dim=8, num_heads=2, num_kv_heads=1, head_dim=4, num_layers=1, mlp_dim=8, vocab_size=32
    )
    config = replace(RUN, model=network)
    with pytest.raises(UserError, match="family 'decoder' are planned by compiling"):
        estimate(config, SERVER)
