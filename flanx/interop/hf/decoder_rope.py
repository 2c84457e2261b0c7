"""Rotary settings of a config.json, of transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flanx.errors import UserError
from flanx.models.decoder.config import DecoderConfig

_KINDS = {"default": "none", "linear": "linear", "llama3": "llama3", "yarn": "yarn"}
_LAYERS = ("full_attention", "sliding_attention")
_KNOWN = (
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "partial_rotary_factor",
)


def read(settings: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """`DecoderConfig`'s rotary settings of a model whose layers all rotate alike.

    Raises:
      UserError: a kind of scaling or a setting that flanx does not have.
    """
    told = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    if not isinstance(told, Mapping) or any(name in told for name in _LAYERS):
        raise UserError(
            f"{where}: rope_parameters {str(told)[:80]} are not those of a {settings['model_type']}"
        )
    theta = told.get("rope_theta", settings.get("rope_theta", 10_000.0))
    return {"rope_theta": theta, **_scaling(settings, told, where)}


def read_by_kind(settings: Mapping[str, Any], where: Path, *, windows: bool) -> dict[str, Any]:
    """The same of a Gemma 3, whose local layers have a theta of their own and no scaling.

    Args:
      settings: config.json's.
      where: that file.
      windows: whether there are local layers.
    """
    told = settings.get("rope_parameters") or {}
    if not isinstance(told, Mapping) or not all(name in _LAYERS for name in told):
        raise UserError(f"{where}: rope_parameters {str(told)[:80]} do not tell kinds of layers")
    full = {**(told.get("full_attention") or {}), **(settings.get("rope_scaling") or {})}
    sliding = told.get("sliding_attention") or {}
    if _scaling(settings, sliding, where)["rope_scaling"] != "none":
        raise UserError(f"{where}: rope_parameters scale sliding_attention, flanx the others alone")
    local = sliding.get("rope_theta", settings.get("rope_local_base_freq", 10_000.0))
    return {
        "rope_theta": full.get("rope_theta", settings.get("rope_theta", 1_000_000.0)),
        "rope_local_theta": local if windows else None,
        **_scaling(settings, full, where),
    }


def _scaling(settings: Mapping[str, Any], told: Mapping[str, Any], where: Path) -> dict[str, Any]:
    kind = told.get("rope_type", told.get("type", "default"))
    if kind not in _KINDS:
        raise UserError(
            f"{where}: rope_type '{str(kind)[:80]}' is not one of {', '.join(_KINDS)}, which flanx has"
        )
    unknown = [name for name in told if name not in _KNOWN]
    if unknown:
        raise UserError(f"{where}: rope_parameters say {unknown[0]}, which flanx does not follow")
    partial = told.get("partial_rotary_factor", settings.get("partial_rotary_factor"))
    if partial not in (None, 1, 1.0):
        raise UserError(f"{where}: partial_rotary_factor is {partial}, flanx rotates whole heads")
    if kind == "default":
        return {"rope_scaling": "none"}
    longest = settings.get("max_position_embeddings")
    before = settings.get("original_max_position_embeddings")
    before = told.get("original_max_position_embeddings", longest) if before is None else before
    factor = told.get("factor")
    if kind == "yarn" and factor is None and longest and before:
        factor = longest / before
    try:
        values = {"rope_scaling": kind, "rope_factor": factor}
        if kind == "llama3":
            values |= {
                "rope_original_length": before,
                "rope_low_factor": told["low_freq_factor"],
                "rope_high_factor": told["high_freq_factor"],
            }
    except KeyError as error:
        raise UserError(f"{where}: rope_parameters of '{kind}' do not say {error}") from error
    if kind == "yarn":
        values |= {
            "rope_original_length": before,
            "rope_beta_fast": told.get("beta_fast") or 32.0,
            "rope_beta_slow": told.get("beta_slow") or 1.0,
            "rope_truncate": told.get("truncate", True),
            "rope_attention_factor": _attention_factor(told, factor),
        }
    return values


def _attention_factor(told: Mapping[str, Any], factor: Any) -> Any:
    """transformers' `_compute_yarn_parameters`: told, or of two `mscale`s, or (None) of the factor alone."""
    given, one, two = (told.get(n) for n in ("attention_factor", "mscale", "mscale_all_dim"))
    if given is not None or not (one and two) or factor is None:
        return given
    grown = 0.1 * math.log(factor) if factor > 1 else 0.0
    return (grown * one + 1.0) / (grown * two + 1.0)


def settings(config: DecoderConfig) -> dict[str, Any]:
    """config.json's, in the form that transformers 4 and 5 read alike."""
    written: dict[str, Any] = {"rope_theta": config.rope_theta}
    if config.rope_local_theta is not None:
        written["rope_local_base_freq"] = config.rope_local_theta
    if config.rope_scaling == "none":
        return {**written, "rope_scaling": None}
    scaling: dict[str, Any] = {"rope_type": config.rope_scaling, "factor": config.rope_factor}
    if config.rope_scaling != "linear":
        scaling["original_max_position_embeddings"] = config.rope_original_length
    if config.rope_scaling == "llama3":
        scaling["low_freq_factor"] = config.rope_low_factor
        scaling["high_freq_factor"] = config.rope_high_factor
    if config.rope_scaling == "yarn":
        scaling["beta_fast"] = config.rope_beta_fast
        scaling["beta_slow"] = config.rope_beta_slow
        scaling["truncate"] = config.rope_truncate
        if config.rope_attention_factor is not None:
            scaling["attention_factor"] = config.rope_attention_factor
    return {**written, "rope_scaling": scaling}
