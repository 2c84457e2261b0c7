"""Rotary positions (RoFormer, arXiv 2104.09864): queries and keys turn by angles that grow with the position.

Dimension i of a head is paired with i + head_dim / 2, as GPT-NeoX and Hugging Face pair them, not with its neighbour.
Longer rows than a model was trained on are served by slower turning: by position interpolation ("linear", arXiv
2306.15595), Llama 3.1's rule, or YaRN (arXiv 2309.00071).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flanx.models.decoder.config import DecoderConfig


class Rotation(NamedTuple):
    """Cosine and sine of every position's angles, float32 [B or 1, L, head_dim / 2] each."""

    cos: jax.Array
    sin: jax.Array


def rotation(config: DecoderConfig, positions: jax.Array, *, local: bool = False) -> Rotation:
    """The rotation of int32 [B, L] positions, in global or local layers."""
    speeds, factor = frequencies(config, local=local)
    angles = positions[..., None].astype(jnp.float32) * speeds
    return Rotation(jnp.cos(angles) * factor, jnp.sin(angles) * factor)


def rotate(x: jax.Array, by: Rotation, scale: float = 1.0) -> jax.Array:
    """[B, H, L, D] turned, and multiplied by `scale`, in float32; the result has the dtype of `x`."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = by.cos[:, None] * scale, by.sin[:, None] * scale
    turned = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def frequencies(config: DecoderConfig, *, local: bool = False) -> tuple[np.ndarray, float]:
    """Radians per position, float32 [head_dim / 2], and the factor of the rotated vectors."""
    own_theta = local and config.rope_local_theta is not None
    theta = config.rope_local_theta if own_theta else config.rope_theta
    assert theta is not None
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    speeds, factor = theta**-exponents, 1.0
    if not own_theta and config.rope_scaling == "linear":
        speeds = speeds / config.rope_factor
    elif not own_theta and config.rope_scaling == "llama3":
        speeds = _llama3(config, speeds)
    elif not own_theta and config.rope_scaling == "yarn":
        speeds = _yarn(config, speeds, theta)
        told = config.rope_attention_factor
        factor = 0.1 * math.log(config.rope_factor) + 1.0 if told is None else told
    return speeds.astype(np.float32), factor


def _llama3(config: DecoderConfig, speeds: np.ndarray) -> np.ndarray:
    """Long wavelengths are stretched, short ones stay, and those between go over smoothly."""
    low, high = config.rope_low_factor, config.rope_high_factor
    turns = config.rope_original_length * speeds / (2 * math.pi)  # over the original length
    stay = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return speeds * (stay + (1.0 - stay) / config.rope_factor)


def _yarn(config: DecoderConfig, speeds: np.ndarray, theta: float) -> np.ndarray:
    """Dimensions up to one that turns `rope_beta_fast` times stay, those from `rope_beta_slow` on are stretched."""
    dim = config.head_dim

    def dimension(turns: float) -> float:
        wavelength = config.rope_original_length / (turns * 2 * math.pi)
        return dim * math.log(wavelength) / (2 * math.log(theta))

    first, last = dimension(config.rope_beta_fast), dimension(config.rope_beta_slow)
    if config.rope_truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    width = (last - first) or 0.001
    stretched = np.clip((np.arange(dim // 2) - first) / width, 0.0, 1.0)
    return speeds * (1.0 - stretched + stretched / config.rope_factor)
