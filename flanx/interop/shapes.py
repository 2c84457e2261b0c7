"""The arrays a configuration calls for, what a checkpoint's arrays say of theirs, and where the two differ."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from flanx.errors import UserError
from flanx.interop.source import ArrayInfo
from flanx.models.config import ModelConfig
from flanx.models.t5.config import T5Config

_BIAS = "relpos_bias/rel_embedding"


def check(arrays: Mapping[str, ArrayInfo], config: ModelConfig, where: str, told_by: str) -> None:
    """Every array of the configuration must be there with its shape, and nothing beside them.

    Args:
      arrays: by flanx's unrolled names.
      config: the network.
      where: the checkpoint, for the message.
      told_by: where the configuration comes from.

    Raises:
      UserError: in one line naming all that is missing, extra, or of another shape.
    """
    table = config.parameters()
    deepest = max(entry.layers or 0 for entry in table.entries)
    if deepest > len(arrays):  # a list of their arrays could be longer than memory
        raise UserError(
            f"the arrays of {where} are not those of {told_by}: that has {deepest:,} layers, and there are "
            f"{len(arrays):,} arrays"
        )
    wanted = table.shapes()
    missing = [n for n in wanted if n not in arrays]
    extra = [n for n in arrays if n not in wanted]
    other = [n for n in wanted if n in arrays and arrays[n].shape != wanted[n]]
    odd = [
        *(f"missing {told}{wanted[names[0]]}" for told, names in _grouped(missing, wanted)),
        *(
            f"unknown {told}{arrays[names[0]].shape}"
            for told, names in _grouped(extra, {n: arrays[n].shape for n in extra})
        ),
        *(
            f"{told}{arrays[names[0]].shape} where {wanted[names[0]]} belongs"
            for told, names in _grouped(other, {n: (arrays[n].shape, wanted[n]) for n in other})
        ),
    ]
    if odd:
        raise UserError(f"the arrays of {where} are not those of {told_by}: {'; '.join(odd)}")


def infer(arrays: Mapping[str, ArrayInfo], where: str) -> tuple[T5Config, tuple[str, ...]]:
    """The configuration that arrays with flanx's unrolled names imply, and which of its fields had to be assumed.

    Heads are rows of the position bias, everything else is a length of some array; activations leave no trace, and
    are taken to be T5's own: ReLU for one projection, GELU-gated for two.

    Raises:
      UserError: an array needed for it is missing or has another number of axes; names it.
    """
    layers = {
        stack: 1
        + max(
            (int(m.group(1)) for n in arrays if (m := re.match(rf"{stack}/layers_(\d+)/", n))),
            default=-1,
        )
        for stack in ("encoder", "decoder")
    }

    for stack, number in layers.items():
        if number > len(arrays):
            raise UserError(
                f"{where} has an array of {stack}/layers_{number - 1}, and {len(arrays):,} arrays in all: its layers "
                "are not whole"
            )

    def shape(name: str) -> tuple[int, int]:
        if name not in arrays or len(arrays[name].shape) != 2:
            there = f"is {arrays[name].shape}" if name in arrays else "is missing"
            raise UserError(
                f"array '{name}' {there} in {where}: this is no T5 encoder-decoder that flanx knows"
            )
        return arrays[name].shape[0], arrays[name].shape[1]

    vocab, embed = shape("token_embedder/embedding")
    per_layer = f"encoder/layers_0/{_BIAS}" in arrays
    bias = f"encoder/layers_0/{_BIAS}" if per_layer else f"encoder/{_BIAS}"
    heads, buckets = shape(bias)
    _, joined = shape("encoder/layers_0/attention/query/kernel")
    branches = [n for n in ("wi", "wi_0", "wi_1") if f"encoder/layers_0/mlp/{n}/kernel" in arrays]
    mlp, _ = shape("encoder/layers_0/mlp/wo/kernel")
    if joined % heads:
        raise UserError(
            f"array 'encoder/layers_0/attention/query/kernel' in {where} has {joined} columns, which {heads} heads "
            f"(rows of '{bias}') do not divide: this is no T5 that flanx knows"
        )
    activations = ("relu",) if branches == ["wi"] else ("gelu", "linear")
    config = T5Config(
        emb_dim=embed,
        num_heads=heads,
        num_encoder_layers=max(layers["encoder"], 1),
        num_decoder_layers=max(layers["decoder"], 1),
        mlp_dim=mlp,
        vocab_size=vocab,
        head_dim=joined // heads,
        mlp_activations=activations,
        logits_via_embedding="decoder/logits_dense/kernel" not in arrays,
        relpos_buckets=buckets,
        relpos_per_layer=per_layer,
    )
    assumed = ("mlp_activations", "relpos_max_distance")
    return config, assumed


def unrolled(config: ModelConfig) -> ModelConfig:
    """The same network with its layers one by one."""
    return replace(config, scan_layers=False)


def _grouped(names: Iterable[str], alike: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Names that differ in the layer's number alone, told together: "decoder/layers_{0,1,2}/mlp/wi/kernel"."""
    groups: dict[tuple[str, Any], list[str]] = {}
    for name in names:
        groups.setdefault((re.sub(r"/layers_\d+/", "/layers_{}/", name), alike[name]), []).append(
            name
        )
    told = []
    for (pattern, _), members in groups.items():
        numbers = [m.group(1) for n in members if (m := re.search(r"/layers_(\d+)/", n))]
        span = ",".join(numbers) if len(numbers) < 4 else f"{numbers[0]}..{numbers[-1]}"
        shown = span if len(numbers) == 1 else f"{{{span}}}"
        told.append(
            (
                f"'{pattern.replace('layers_{}', f'layers_{shown}') if numbers else pattern}' ",
                members,
            )
        )
    return told
