"""What a config.json says of a decoder, every setting that numbers depend on followed or refused; and back.

A config.json leaves out what its class has as a default, so the defaults of transformers' classes are here, by
`model_type`. They, and which class reads what, are those of transformers 5.24 (`configuration_*.py`, `modeling_*.py`).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flanx.errors import UserError
from flanx.interop.hf import decoder_rope
from flanx.models.decoder.config import DecoderConfig

# What each class is, in settings of flanx's that no config.json tells.
_SWITCHES: Mapping[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "head"},
    "gemma": {"norm_offset": True, "embed_scale": True},
    "gemma2": {"norm_offset": True, "embed_scale": True, "norm_places": "both"},
    "gemma3_text": {
        "norm_offset": True,
        "embed_scale": True,
        "norm_places": "both",
        "qk_norm": "head",
    },
    "olmo2": {"norm_places": "post", "qk_norm": "full"},
}
_OTHERWISE: Mapping[str, Any] = {
    "qkv_bias": False,
    "qk_norm": "none",
    "norm": "rms",
    "norm_offset": False,
    "norm_places": "pre",
    "parallel": False,
    "embed_scale": False,
    "logit_scale": 1.0,
}
_OF_ALL = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "hidden_act": "silu"}
_SIZES: tuple[str, ...] = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
_SIZES += ("num_attention_heads", "num_key_value_heads", "head_dim")


def _of_class(*sizes: int | None, **more: Any) -> dict[str, Any]:
    return {**_OF_ALL, **dict(zip(_SIZES, sizes, strict=True)), **more}


_GEMMA = {"tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh"}
_GEMMA2 = {"tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh"}
_GEMMA2 |= {"query_pre_attn_scalar": 256, "sliding_window": 4096}
_QWEN = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "llama": _of_class(32000, 4096, 11008, 32, 32, None, None),
    "mistral": _of_class(32000, 4096, 14336, 32, 32, 8, None, sliding_window=4096),
    "qwen2": _of_class(151936, 4096, 22016, 32, 32, 32, None, **_QWEN),
    "qwen3": _of_class(151936, 4096, 22016, 32, 32, 32, 128, **_QWEN),
    "gemma": _of_class(256000, 3072, 24576, 28, 16, 16, 256, **_GEMMA),
    "gemma2": _of_class(
        256000,
        2304,
        9216,
        26,
        8,
        4,
        256,
        **_GEMMA2,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    ),
    "gemma3_text": _of_class(262208, 2304, 9216, 26, 8, 4, 256, **_GEMMA2),
    "olmo2": _of_class(50304, 4096, 11008, 32, 32, None, None, rms_norm_eps=1e-5),
}
MODEL_TYPES = tuple(_DEFAULTS)
_ARCHITECTURES = dict(
    zip(
        MODEL_TYPES,
        ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Olmo2"),
        strict=True,
    )
)
# Settings of transformers' classes of which flanx has one value; null or nothing means that value.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_bidirectional_attention": (False,),
    "quantization_config": (),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
}
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
    "relu": "relu",
}
_WRITTEN = {"silu": "silu", "gelu": "gelu_pytorch_tanh", "relu": "relu"}
# No number depends on these, and a folder is written with them as it was read.
KEPT = ("bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")
_WINDOWED = ("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")


def config_from(
    settings: Mapping[str, Any], model_type: str, *, dtype: Any, where: Path
) -> DecoderConfig:
    """The network of a config.json.

    Args:
      settings: its content; of a Gemma 3 with images, the text's.
      model_type: one of `MODEL_TYPES`.
      dtype: of the activations.
      where: the file, for messages.

    Raises:
      UserError: a setting that flanx does not follow, or that is of another type.
    """
    for name, allowed in _FIXED.items():
        value = settings.get(name)
        if value is not None and value not in allowed:
            has = f"has {allowed[0]}" if allowed else "has none"
            raise UserError(f"{where}: {name} is {str(value)[:80]}, flanx's decoder {has}")
    told = {**_DEFAULTS[model_type], **settings, "model_type": model_type}
    heads = told["num_attention_heads"]
    kv_heads = heads if told["num_key_value_heads"] is None else told["num_key_value_heads"]
    try:
        head_dim = told["head_dim"]
        head_dim = told["hidden_size"] // heads if head_dim is None else head_dim
        values = {
            "emb_dim": told["hidden_size"],
            "num_heads": heads,
            "num_kv_heads": kv_heads,
            "num_layers": told["num_hidden_layers"],
            "head_dim": head_dim,
            "mlp_dim": told["intermediate_size"],
            "vocab_size": told["vocab_size"],
            "mlp_activations": (_activation(told, where), "linear"),
            "norm_epsilon": told["rms_norm_eps"],
            "logits_via_embedding": told["tie_word_embeddings"] is not False,
            "dtype": dtype,
            **_SWITCHES[model_type],
            **_softcaps(told, where),
            **_windows(told, where),
        }
        scalar: Any = told.get("query_pre_attn_scalar")
        if model_type in ("gemma2", "gemma3_text") and scalar != head_dim:
            values["query_scale"] = scalar**-0.5
        if model_type == "gemma3_text":
            windows = values["window"] is not None
            values |= decoder_rope.read_by_kind(told, where, windows=windows)
        else:
            values |= decoder_rope.read(told, where)
        return DecoderConfig(**values)
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error
    except (TypeError, ZeroDivisionError, OverflowError) as error:
        raise UserError(f"{where} is not a {model_type}'s ({error}): fetch it again") from error


def notes_on(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Lines for the user on settings that matter in training alone."""
    rate = settings.get("attention_dropout")
    if not rate:
        return ()
    return (
        f"config.json has attention_dropout {rate}: not taken over, dropout_rate drops as T5X does",
    )


def _activation(told: Mapping[str, Any], where: Path) -> str:
    model_type = told["model_type"]
    key = "hidden_activation" if "hidden_activation" in _DEFAULTS[model_type] else "hidden_act"
    name = told[key]
    if model_type == "gemma" and name == "gelu":
        return "gelu"  # transformers takes it for the other, as Gemma was trained
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise UserError(
            f"{where}: {key} '{str(name)[:80]}' is not one of {', '.join(_ACTIVATIONS)}, which flanx has"
        )
    return _ACTIVATIONS[name]


def _softcaps(told: Mapping[str, Any], where: Path) -> dict[str, Any]:
    attention, final = told.get("attn_logit_softcapping"), told.get("final_logit_softcapping")
    if told["model_type"] == "gemma2":
        return {"attn_softcap": attention, "final_softcap": final}
    if told["model_type"] == "gemma3_text":
        if attention is not None:
            raise UserError(
                f"{where}: attn_logit_softcapping is {attention}, and transformers' Gemma 3 has none"
            )
        return {"final_softcap": final}
    return {}


def _windows(told: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """`window` and `window_pattern`."""
    model_type, window = told["model_type"], told.get("sliding_window")
    if model_type not in _WINDOWED:
        return {"window": None}
    if model_type == "mistral":
        return {"window": window}
    if model_type.startswith("qwen") and not told["use_sliding_window"]:
        window = None
    layers, count = told.get("layer_types"), told["num_hidden_layers"]
    if layers is None:
        layers = ["sliding_attention" if local else "full_attention" for local in _local(told)]
    kinds = {"sliding_attention": "local", "full_attention": "global"}
    if (
        not isinstance(layers, list)
        or not all(isinstance(n, str) and n in kinds for n in layers)
        or len(layers) != count
    ):
        raise UserError(
            f"{where}: layer_types are {str(layers)[:80]}, not one of {', '.join(kinds)} for each of {count} layers"
        )
    pattern = _shortest(tuple(kinds[name] for name in layers))
    if pattern == ("global",):
        return {"window": None}
    if window is None:
        raise UserError(f"{where}: layer_types have sliding_attention, and sliding_window is null")
    return {"window": window, "window_pattern": pattern}


def _local(told: Mapping[str, Any]) -> list[bool]:
    """Which layers have a window, where `layer_types` are not told."""
    layers = range(told["num_hidden_layers"])
    if told["model_type"] == "gemma2":
        return [i % 2 == 0 for i in layers]
    if told["model_type"] == "gemma3_text":
        every = told.get("sliding_window_pattern", told.get("_sliding_window_pattern", 6))
        return [(i + 1) % every != 0 for i in layers]
    return [bool(told["use_sliding_window"]) and i >= told["max_window_layers"] for i in layers]


def _shortest(layers: tuple[str, ...]) -> tuple[str, ...]:
    """The shortest pattern that gives these layers when it is repeated."""
    for length in range(1, len(layers) + 1):
        if all(kind == layers[i % length] for i, kind in enumerate(layers)):
            return layers[:length]
    return layers


def model_type(config: DecoderConfig, known: str | None) -> str:
    """The first `model_type`, `known` before all, whose class has these settings.

    Raises:
      UserError: none has.
    """
    known = "gemma3_text" if known == "gemma3" else known
    ordered = sorted(MODEL_TYPES, key=lambda name: name != known)
    obstacles = {name: _obstacles(config, name) for name in ordered}
    for name in ordered:
        if not obstacles[name]:
            return name
    nearest = min(ordered, key=lambda name: len(obstacles[name]))
    raise UserError(
        f"no model of transformers has these settings: {nearest} comes nearest and has another "
        f"{', '.join(obstacles[nearest])}"
    )


def _obstacles(config: DecoderConfig, name: str) -> list[str]:
    """Settings that the class does not have."""
    wanted = {**_OTHERWISE, **_SWITCHES[name]}
    odd = [setting for setting, value in wanted.items() if getattr(config, setting) != value]
    branches = config.mlp_activations
    if len(branches) != 2 or branches[1] != "linear" or branches[0] not in _WRITTEN:
        odd.append("mlp_activations")
    if config.attn_softcap is not None and name != "gemma2":
        odd.append("attn_softcap")
    if config.final_softcap is not None and name not in ("gemma2", "gemma3_text"):
        odd.append("final_softcap")
    if config.query_scale is not None and (
        name not in ("gemma2", "gemma3_text") or _query_scalar(config) is None
    ):
        odd.append("query_scale")
    if config.window is not None and name not in _WINDOWED:
        odd.append("window")
    if config.window is not None and name == "mistral" and not all(config.local_layers):
        odd.append("window_pattern")
    if (config.rope_local_theta is not None) != (
        name == "gemma3_text" and config.window is not None
    ):
        odd.append("rope_local_theta")
    return odd


def _query_scalar(config: DecoderConfig) -> int | None:
    """`query_pre_attn_scalar`, which transformers wants whole; None where it would not be."""
    if config.query_scale is None:
        return config.head_dim
    whole = round(config.query_scale**-2)
    return whole if math.isclose(whole**-0.5, config.query_scale, rel_tol=1e-12) else None


def settings(
    config: DecoderConfig, dtype: str, model_type: str, kept: Mapping[str, Any]
) -> dict[str, Any]:
    """config.json."""
    activation = (
        "hidden_activation" if model_type.startswith(("gemma2", "gemma3")) else "hidden_act"
    )
    written = {
        "architectures": [f"{_ARCHITECTURES[model_type]}ForCausalLM"],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.emb_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        activation: _WRITTEN[config.mlp_activations[0]],
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.logits_via_embedding,
        "attention_dropout": 0.0,
        "use_cache": True,
        **decoder_rope.settings(config),
        "torch_dtype": dtype,
    }
    if model_type != "mistral" and model_type in _WINDOWED:
        written["layer_types"] = [
            "sliding_attention" if local else "full_attention" for local in config.local_layers
        ]
    if model_type in _WINDOWED:
        written["sliding_window"] = config.window
    if model_type.startswith("qwen"):
        written["use_sliding_window"] = config.window is not None
    if model_type in ("gemma2", "gemma3_text"):
        written["query_pre_attn_scalar"] = _query_scalar(config)
        written["final_logit_softcapping"] = config.final_softcap
        written["attn_logit_softcapping"] = config.attn_softcap
    return {**written, **{name: kept[name] for name in KEPT if name in kept}}
