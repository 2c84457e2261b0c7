"""The decoder's layers: norms, attention and feed-forward block with residual sums, looped plainly or by scan.

Layers with a window and those without differ in mask and rotation alone. Both are made once for the stack; layers one
by one take theirs, and a scanned layer chooses by a flag, which it reads as it reads its parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flanx.models.common import layer_stack, masks, products
from flanx.models.common.decode_state import Cache, KeyValue, Prompt, write_at
from flanx.models.common.dropout import (
    LayerDropout,
    MlpDropout,
    StackDropout,
    Widths,
    scale,
    stack_dropout,
)
from flanx.models.common.layers import Dense, Mlp
from flanx.models.common.norms import Norm
from flanx.models.decoder.attention import Attention
from flanx.models.decoder.config import DecoderConfig
from flanx.models.decoder.parameters import NORMS, PARALLEL_NORM
from flanx.models.decoder.rotary import Rotation, rotation


class View(NamedTuple):
    """What a layer needs to know of the rows beside the residual stream."""

    rotation: Rotation
    mask: jax.Array


def _norm(config: DecoderConfig) -> Norm:
    return Norm(config.emb_dim, config.norm_epsilon, config.norm == "layer", config.norm_offset)


class DecoderLayer(nn.Module):
    """Self-attention and the feed-forward block, one after the other or side by side."""

    config: DecoderConfig

    def setup(self) -> None:
        cfg = self.config
        names = (PARALLEL_NORM,) if cfg.parallel else tuple(NORMS[cfg.norm_places])
        for name in names:
            setattr(self, name, _norm(cfg))
        self.self_attention = Attention(cfg)
        self.mlp = Mlp(cfg.emb_dim, cfg.mlp_dim, cfg.mlp_activations)

    def __call__(self, x: jax.Array, view: View, dropout: LayerDropout | None = None) -> jax.Array:
        """[B, L, E] -> [B, L, E]."""

        def attend(y: jax.Array) -> jax.Array:
            return self.self_attention(y, *view, dropout and dropout.self_attention)

        return self._block(x, attend, dropout and dropout.mlp)

    def prefill(self, x: jax.Array, view: View) -> tuple[jax.Array, KeyValue]:
        """`__call__`, and the keys and values that it made."""
        made: list[KeyValue] = []

        def attend(y: jax.Array) -> jax.Array:
            made.append(self.self_attention.project(y, view.rotation))
            return self.self_attention.attend(y, *made[0], *view)

        return self._block(x, attend), made[0]

    def step(
        self,
        x: jax.Array,
        cache: KeyValue,
        prompt: KeyValue,
        index: jax.Array,
        view: View,
        prompt_mask: jax.Array,
    ) -> tuple[jax.Array, KeyValue]:
        """One position: x [B, n, E] at `index`, cache of [B, Hkv, T*n, D] -> its output and the cache with it."""
        made: list[KeyValue] = []

        def attend(y: jax.Array) -> jax.Array:
            key, value = self.self_attention.project(y, view.rotation)
            made.append((write_at(cache[0], key, index), write_at(cache[1], value, index)))
            parts = ((*prompt, prompt_mask), (*made[0], view.mask))
            return self.self_attention.attend_over(y, parts, view.rotation)

        return self._block(x, attend), made[0]

    def _block(
        self,
        x: jax.Array,
        attend: Callable[[jax.Array], jax.Array],
        dropout: MlpDropout | None = None,
    ) -> jax.Array:
        if self.config.parallel:
            y = self.layer_norm(x)
            return x + attend(y) + self.mlp(y, dropout)

        def branch(work: Callable[[jax.Array], jax.Array], name: str) -> jax.Array:
            places = self.config.norm_places
            y = x if places == "post" else getattr(self, f"pre_{name}_layer_norm")(x)
            y = work(y)
            return y if places == "pre" else getattr(self, f"post_{name}_layer_norm")(y)

        x = x + branch(attend, "self_attention")
        return x + branch(lambda y: self.mlp(y, dropout), "mlp")


class Decoder(nn.Module):
    """All layers, the norm after them, and the output projection where it is no embedding."""

    config: DecoderConfig

    def setup(self) -> None:
        cfg = self.config
        self.layers = layer_stack.make(DecoderLayer, cfg, cfg.num_layers)
        self.decoder_norm = _norm(cfg)
        if not cfg.logits_via_embedding:
            self.logits_dense = Dense(cfg.emb_dim, cfg.vocab_size)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        mask_of: Callable[[int | None], jax.Array],
        deterministic: bool,
    ) -> jax.Array:
        """Embedded tokens [B, L, E] -> [B, L, E], normed.

        Args:
          x: embedded tokens.
          positions: int32 [B or 1, L].
          mask_of: the mask [B or 1, 1, L, L] of layers with a window, or None.
          deterministic: drop nothing.
        """
        cfg = self.config
        drop = StackDropout()
        if not deterministic and cfg.dropout_rate:
            widths = Widths(
                cfg.dropout_rate, cfg.num_kv_heads, cfg.mlp_dim, cfg.num_kv_heads < cfg.num_heads
            )
            drop = stack_dropout(self.make_rng("dropout"), widths, cfg.num_layers, x)
        views = self._views(positions, mask_of)
        local = np.asarray(cfg.local_layers)

        def call(layer: DecoderLayer, x: jax.Array, own: Any) -> jax.Array:
            view, dropout = own
            return layer(x, view, dropout)

        def scanned(layer: DecoderLayer, x: jax.Array, own: Any) -> jax.Array:
            is_local, dropout = own
            return layer(x, _chosen(views, is_local), dropout)

        def at(index: int) -> Any:
            dropout = jax.tree.map(lambda factors: factors[index], drop.layers)
            return views[bool(local[index])], dropout

        x = layer_stack.run(
            scanned if cfg.scan_layers else call,
            self.layers,
            scale(x, drop.first),
            (jnp.asarray(local), drop.layers),
            cfg,
            cfg.num_layers,
            at,
        )
        return scale(self.decoder_norm(x), drop.last)

    def project_logits(self, x: jax.Array) -> jax.Array:
        """[..., E] -> float32 [..., V], with an output projection of its own."""
        return products.matmul(x, self.logits_dense.kernel.astype(x.dtype), jnp.float32)

    def prefill(
        self,
        x: jax.Array,
        positions: jax.Array,
        mask_of: Callable[[int | None], jax.Array],
    ) -> tuple[KeyValue, ...]:
        """Keys and values of embedded tokens [B, L, E] in each layer."""
        views, made = self._views(positions, mask_of), []
        layers = layer_stack.one_by_one(self.config, self.layers)
        for layer, is_local in zip(layers, self.config.local_layers, strict=True):
            x, key_value = layer.prefill(x, views[is_local])
            made.append(key_value)
        return tuple(made)

    def step(
        self,
        x: jax.Array,
        index: jax.Array,
        cache: Cache,
        prompt: Prompt,
        origin: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Embedded tokens [B, n, E] at position `index` of the answer -> normed output [B, n, E] and the new cache.

        `index` is one position for all rows, or int32 [B], each row's own. `origin` is int32 [B, n, T] where n > 1:
        see `DecoderLm.step`.
        """
        rows, beams, _ = x.shape
        length = cache[0][0].shape[2] // beams
        positions = prompt.lengths + index

        def answer_mask(window: int | None) -> jax.Array:
            mask = masks.step_mask(index, length, window)
            if origin is None:
                return mask
            mask = mask[..., None] + masks.beam_mask(origin)
            return mask.reshape(rows, 1, beams, length * beams)

        def prompt_mask(window: int | None) -> jax.Array:
            keys = prompt.key_values[0][0].shape[2]
            return masks.prompt_mask(prompt.lengths, keys, positions, window)

        views = self._views(positions[:, None], answer_mask)
        prompt_masks = [prompt_mask(window) for window in self._windows()]
        new_cache = []
        layers = layer_stack.one_by_one(self.config, self.layers)
        for number, (layer, is_local) in enumerate(
            zip(layers, self.config.local_layers, strict=True)
        ):
            x, cached = layer.step(
                x,
                cache[number],
                prompt.key_values[number],
                index,
                views[is_local],
                prompt_masks[is_local],
            )
            new_cache.append(cached)
        return self.decoder_norm(x), tuple(new_cache)

    def _windows(self) -> tuple[int | None, int | None]:
        """Of a global and of a local layer."""
        return None, self.config.window

    def _views(
        self, positions: jax.Array, mask_of: Callable[[int | None], jax.Array]
    ) -> tuple[View, View]:
        """Of global and of local layers; the same arrays where they do not differ, or where there is one kind."""
        cfg = self.config
        kinds = set(cfg.local_layers)
        everywhere = rotation(cfg, positions)
        nearby = everywhere
        if cfg.rope_local_theta is not None:
            nearby = rotation(cfg, positions, local=True)
        views = [
            View(turn, mask_of(window)) if is_local in kinds else None
            for is_local, turn, window in zip(
                (False, True), (everywhere, nearby), self._windows(), strict=True
            )
        ]
        first = next(view for view in views if view is not None)
        return views[0] or first, views[1] or first


def _chosen(views: tuple[View, View], is_local: jax.Array) -> View:
    """The view of a scanned layer; arrays that both kinds share are not chosen between."""
    return jax.tree.map(lambda g, n: g if g is n else jnp.where(is_local, n, g), *views)
