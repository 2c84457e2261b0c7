"""What a Hugging Face config.json says of a T5, every setting followed or refused as transformers 5 reads it.

`t5` and `umt5` scale their output by d_model^-0.5 unless told otherwise; `mt5` never does, whatever
`tie_word_embeddings` says. `dense_act_fn` and `is_gated_act`, where they are there, go before `feed_forward_proj`, from
which they are made. The dtype that a model was saved with is the one that it runs in.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flanx.errors import UserError
from flanx.models.t5.config import T5Config

# flanx's activations <-> config.json's feed_forward_proj.
PROJECTIONS = {
    ("relu",): "relu",
    ("gelu", "linear"): "gated-gelu",
    ("silu", "linear"): "gated-silu",
    ("relu", "linear"): "gated-relu",
    ("silu",): "silu",
    ("gelu",): "gelu_new",
}
# transformers' names of activations that flanx has; its "gelu" is another function, by the error integral.
_ACTIVATIONS = {
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
}
_ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
# What flanx's T5 has one value of, and null or nothing means that value.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "layer_norm_epsilon": (1e-6,),
    "is_encoder_decoder": (True,),
    "is_decoder": (False,),
    "tie_encoder_decoder": (False,),
    "pad_token_id": (0,),
    "eos_token_id": (1, [1]),
    "decoder_start_token_id": (0,),
    "quantization_config": (),
    "pruned_heads": ({},),
}


def is_scaled(settings: Mapping[str, Any]) -> bool:
    """Whether the output is scaled by d_model^-0.5 before its projection."""
    if settings["model_type"] == "mt5":
        return False
    told_tied = settings.get("tie_word_embeddings") is not False
    return settings.get("scale_decoder_outputs", told_tied) is not False


def config_from(settings: Mapping[str, Any], *, tied: bool, dtype: Any, where: Path) -> T5Config:
    """The network of a config.json.

    Args:
      settings: its content.
      tied: whether logits share the embedding.
      dtype: of the activations.
      where: the file, for messages.

    Raises:
      UserError: a setting that flanx's T5 cannot follow, that is missing, or of another type.
    """
    settings = _with_own_names(settings, where)
    for name, allowed in _FIXED.items():
        value = settings.get(name)
        if value is not None and value not in allowed:
            has = f"has {allowed[0]}" if allowed else "has none"
            raise UserError(f"{where}: {name} is {str(value)[:80]}, flanx's T5 {has}")
    decoder_layers = settings.get("num_decoder_layers")
    try:
        return T5Config(
            emb_dim=settings["d_model"],
            num_heads=settings["num_heads"],
            num_encoder_layers=settings["num_layers"],
            num_decoder_layers=settings["num_layers"] if decoder_layers is None else decoder_layers,
            mlp_dim=settings["d_ff"],
            vocab_size=settings["vocab_size"],
            head_dim=settings["d_kv"],
            mlp_activations=_activations(settings, where),
            dropout_rate=settings.get("dropout_rate", 0.1),
            dtype=dtype,
            logits_via_embedding=tied,
            relpos_buckets=settings.get("relative_attention_num_buckets", 32),
            relpos_max_distance=settings.get("relative_attention_max_distance", 128),
            relpos_per_layer=settings["model_type"] == "umt5",
        )
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error
    except KeyError as error:
        raise UserError(f"{where} does not say {error}: it is no T5's, fetch it again") from error


def _with_own_names(settings: Mapping[str, Any], where: Path) -> dict[str, Any]:
    own = dict(settings)
    for alias, name in _ALIASES.items():
        if alias in settings and own.setdefault(name, settings[alias]) != settings[alias]:
            raise UserError(f"{where}: {alias} is {settings[alias]} and {name} {own[name]}")
    return own


def _activations(settings: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    default = "relu" if settings["model_type"] == "t5" else "gated-gelu"
    projection = settings.get("feed_forward_proj", default)
    if not isinstance(projection, str):
        raise UserError(
            f"{where}: feed_forward_proj '{str(projection)[:80]}' is not one of {', '.join(PROJECTIONS.values())}"
        )
    parts = projection.split("-")
    function = "gelu_new" if projection == "gated-gelu" else parts[-1]
    function = settings.get("dense_act_fn") or function
    gated = settings.get("is_gated_act")
    gated = parts[0] == "gated" if gated is None else gated
    if (len(parts) > 1 and parts[0] != "gated") or len(parts) > 2 or function not in _ACTIVATIONS:
        raise UserError(
            f"{where}: feed_forward_proj '{projection}' (dense_act_fn '{function}') is not one of "
            f"{', '.join(PROJECTIONS.values())}, which flanx has"
        )
    return (_ACTIVATIONS[function], "linear") if gated else (_ACTIVATIONS[function],)
