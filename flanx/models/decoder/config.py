"""What a decoder network is made of, and how many parameters that gives. No JAX: the command line reads this too."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flanx import field_types
from flanx.errors import UserError, did_you_mean
from flanx.models.common.remat import CHECKPOINT_NAMES, REMAT

if TYPE_CHECKING:
    from flanx.data.batch_formats import BatchFormat, RowSettings
    from flanx.models.common.parameters import Parameters

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "qk_norm": ("none", "head", "full"),
    "norm": ("rms", "layer"),
    "norm_places": ("pre", "post", "both"),
    "rope_scaling": ("none", "linear", "llama3", "yarn"),
    "dtype": ("bfloat16", "float32"),
    "remat": REMAT,
    "attention": ("auto", "xla", "cudnn"),
}
_EACH: Mapping[str, tuple[str, ...]] = {
    "mlp_activations": ("gelu", "linear", "relu", "silu"),
    "window_pattern": ("local", "global"),
    "remat_names": CHECKPOINT_NAMES,
}
_AT_LEAST_ONE = (
    "emb_dim",
    "num_heads",
    "num_kv_heads",
    "num_layers",
    "head_dim",
    "mlp_dim",
    "vocab_size",
    "rope_original_length",
)
# Settings that names or shapes of arrays tell; heads and their width they tell but together.
_IN_ARRAYS = (
    "emb_dim",
    "num_layers",
    "mlp_dim",
    "vocab_size",
    "qkv_bias",
    "qk_norm",
    "norm_places",
    "parallel",
    "logits_via_embedding",
)
_POSITIVE = (
    "norm_epsilon",
    "attn_softcap",
    "final_softcap",
    "query_scale",
    "window",
    "rope_theta",
    "rope_local_theta",
    "rope_low_factor",
    "rope_beta_fast",
    "rope_beta_slow",
    "rope_attention_factor",
    "logit_scale",
)


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder with rotary positions. The defaults are Llama's; `gin/models` has the published sizes.

    Attributes:
      emb_dim: width of the residual stream.
      num_heads: attention heads of queries.
      num_kv_heads: heads of keys and values, a divisor of `num_heads`; 1 is multi-query attention.
      num_layers: layers.
      head_dim: width of a head, even; heads times width need not be `emb_dim`.
      mlp_dim: width inside the feed-forward block.
      vocab_size: rows of the embedding.
      mlp_activations: one projection each, multiplied together: ("silu", "linear") is SwiGLU.
      qkv_bias: a bias in the projections to queries, keys and values (Qwen 2).
      qk_norm: norm of queries and keys before rotation: "none", each "head" by itself (Qwen 3, Gemma 3), or the "full"
        projection (OLMo 2).
      norm: "rms", or "layer", a LayerNorm with a scale alone (PaLM).
      norm_epsilon: what norms add to the mean square.
      norm_offset: norms multiply by 1 + scale (Gemma).
      norm_places: norms before attention and feed-forward block ("pre"), on their results ("post", OLMo 2), or "both"
        (Gemma 2 and 3).
      parallel: attention and feed-forward block side by side behind one norm (PaLM).
      embed_scale: multiply embedded tokens by sqrt(emb_dim) (Gemma).
      attn_softcap: c, where attention's logits become c tanh(logits / c) (Gemma 2).
      final_softcap: the same of the output's logits.
      query_scale: factor of query-key products; None for 1 / sqrt(head_dim).
      window: how many positions back, its own among them, a token of a "local" layer sees; None for all.
      window_pattern: which layers are "local" and which "global", repeated over the layers.
      rope_theta: base of the rotations' wavelengths.
      rope_local_theta: that of local layers, which then are not scaled; None for the same rotations everywhere.
      rope_scaling: how wavelengths are stretched for longer rows: "none", "linear", "llama3" or "yarn".
      rope_factor: by how much.
      rope_original_length: positions that the model knew before ("llama3", "yarn").
      rope_low_factor: "llama3": wavelengths above original length / this are stretched by the whole factor.
      rope_high_factor: "llama3": those below original length / this stay.
      rope_beta_fast: "yarn": dimensions that turn more often than this stay.
      rope_beta_slow: "yarn": dimensions that turn less often are stretched by the whole factor.
      rope_truncate: "yarn": these dimensions are rounded to whole ones.
      rope_attention_factor: "yarn": factor of the rotated queries and keys; None for 0.1 log(factor) + 1.
      logits_via_embedding: share the output projection with the embedding.
      logit_scale: factor of the output's logits; PaLM has 1 / sqrt(emb_dim).
      dropout_rate: probability of dropping, the masks shared along the length.
      dtype: activations, "bfloat16" or "float32"; parameters are always float32.
      scan_layers: one compiled layer looped over stacked parameters (`models/common/scanned.py` converts).
      remat: what the backward pass computes again: "none", "minimal" (keeps the matrix products), "names" (keeps
        `remat_names`), or "full" (keeps layer inputs only).
      remat_names: what "names" keeps, of `flanx.models.common.remat.CHECKPOINT_NAMES`.
      attention: who computes attention: "xla" everywhere, "cudnn" for NVIDIA's fused kernel, or "auto", which is the
        kernel wherever its conditions hold (`flanx.models.common.cudnn`) and XLA elsewhere.
    """

    family: ClassVar[str] = "decoder"

    emb_dim: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    head_dim: int
    mlp_dim: int
    vocab_size: int
    mlp_activations: tuple[str, ...] = ("silu", "linear")
    qkv_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-6
    norm_offset: bool = False
    norm_places: Literal["pre", "post", "both"] = "pre"
    parallel: bool = False
    embed_scale: bool = False
    attn_softcap: float | None = None
    final_softcap: float | None = None
    query_scale: float | None = None
    window: int | None = None
    window_pattern: tuple[str, ...] = ("local",)
    rope_theta: float = 10_000.0
    rope_local_theta: float | None = None
    rope_scaling: Literal["none", "linear", "llama3", "yarn"] = "none"
    rope_factor: float = 1.0
    rope_original_length: int = 8192
    rope_low_factor: float = 1.0
    rope_high_factor: float = 4.0
    rope_beta_fast: float = 32.0
    rope_beta_slow: float = 1.0
    rope_truncate: bool = True
    rope_attention_factor: float | None = None
    logits_via_embedding: bool = False
    logit_scale: float = 1.0
    dropout_rate: float = 0.0
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    scan_layers: bool = False
    remat: Literal["none", "minimal", "names", "full"] = "none"
    remat_names: tuple[str, ...] = ("attention", "attention_out")
    attention: Literal["auto", "xla", "cudnn"] = "auto"

    def __post_init__(self) -> None:
        field_types.check(self)
        for name in _EACH:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise _error(name, f"is {getattr(self, name)}; it must be at least 1")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise _error(name, f"is {value}; it must be above 0")
        for name, allowed in _CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        for name, allowed in _EACH.items():
            for value in getattr(self, name):
                _one_of(name, value, allowed)
        if not 0.0 <= self.dropout_rate < 1.0:
            raise _error("dropout_rate", f"is {self.dropout_rate}; it must be in [0, 1)")
        self._check_layers()
        self._check_rotation()

    def _check_layers(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise _error(
                "num_kv_heads",
                f"is {self.num_kv_heads}; it must divide num_heads = {self.num_heads}",
            )
        if not self.mlp_activations:
            raise _error("mlp_activations", "is empty; give at least one activation")
        if not self.window_pattern:
            raise _error("window_pattern", 'is empty; give at least one of "local" and "global"')
        if self.window is None and "global" in self.window_pattern:
            raise _error("window_pattern", "tells layers apart by their window; set window too")
        if self.parallel and self.norm_places != "pre":
            raise _error("norm_places", 'must be "pre" where parallel is True: there is one norm')
        if self.remat == "names" and not self.remat_names:
            raise _error("remat_names", 'is empty; name what is kept, or set remat to "full"')
        if self.attention == "cudnn" and self.attn_softcap is not None:
            raise _error("attention", "'cudnn' has no softcap of attention's logits; set 'auto'")

    def _check_rotation(self) -> None:
        if self.head_dim % 2:
            raise _error(
                "head_dim", f"is {self.head_dim}; pairs of it are rotated, it must be even"
            )
        if self.rope_theta <= 1 or (self.rope_local_theta or 2) <= 1:
            raise _error("rope_theta", "and rope_local_theta must be above 1")
        if self.rope_local_theta is not None and self.window is None:
            raise _error("rope_local_theta", "is for local layers; set window too")
        if self.rope_factor < 1 or (self.rope_scaling == "none" and self.rope_factor != 1):
            raise _error(
                "rope_factor",
                f"is {self.rope_factor}; it must be at least 1, and rope_scaling be set",
            )
        if self.rope_high_factor <= self.rope_low_factor:
            raise _error(
                "rope_high_factor", f"must be above rope_low_factor = {self.rope_low_factor}"
            )

    @property
    def silent(self) -> tuple[str, ...]:
        """Settings that leave no trace in names and shapes of arrays: all but a few."""
        return tuple(field.name for field in fields(self) if field.name not in _IN_ARRAYS)

    @property
    def joined_dim(self) -> int:
        """Width of all heads of queries side by side."""
        return self.num_heads * self.head_dim

    @property
    def joined_kv_dim(self) -> int:
        """Width of all heads of keys, or values, side by side."""
        return self.num_kv_heads * self.head_dim

    @property
    def local_layers(self) -> tuple[bool, ...]:
        """Which layers have a window."""
        pattern, count = self.window_pattern, self.num_layers
        return tuple(
            self.window is not None and pattern[i % len(pattern)] == "local" for i in range(count)
        )

    def num_parameters(self) -> int:
        """Number of parameters, by arithmetic."""
        return self.parameters().count()

    def parameters(self) -> "Parameters":
        """The table of its parameters."""
        from flanx.models.decoder.parameters import parameters

        return parameters(self)

    def flops_per_step(self, batch_size: int, feature_lengths: Mapping[str, int]) -> int:
        """FLOPs of one training step; `flanx.models.decoder.flops` has the formula and its argument."""
        from flanx.models.decoder import flops

        length = self.row_lengths(feature_lengths)["decoder"]
        return flops.train_step_flops(self, batch_size, length)

    def row_lengths(self, feature_lengths: Mapping[str, int]) -> dict[str, int]:
        """Positions of a row: inputs and targets lie in it one after the other."""
        return {"decoder": sum(feature_lengths.values())}

    def batch_format(
        self, feature_lengths: Mapping[str, int], rows: "RowSettings", bos_id: int | None = None
    ) -> "BatchFormat":
        """Inputs and targets one after the other in one row.

        Raises:
          UserError: rows too short for an example of these lengths.
        """
        from flanx.data.batch_formats import Decoder

        longest = sum(feature_lengths.values())
        length = longest if rows.length is None else rows.length
        if length < longest:
            raise UserError(
                f"DataConfig.row_length = {length} is less than an example may have, {longest} tokens: raise it, or "
                "lower TASK_FEATURE_LENGTHS"
            )
        return Decoder(length, bos_id, rows.loss_on, rows.prefix)

    def tensor_share(self, devices: int) -> "DecoderConfig":
        """The network as one of `devices` that share wide parameters sees it."""

        def part(size: int) -> int:
            return size if size % devices else size // devices

        heads, kv_heads = part(self.num_heads), part(self.num_kv_heads)
        return replace(
            self,
            num_heads=heads,
            # Heads of keys that do not divide are everywhere; more than a device's query heads it does not use.
            num_kv_heads=heads if heads % kv_heads else kv_heads,
            mlp_dim=part(self.mlp_dim),
            vocab_size=part(self.vocab_size),
        )

    def divides_over(self, devices: int) -> bool:
        """Whether heads of queries and feed-forward blocks split evenly over so many devices."""
        return self.num_heads % devices == 0 and self.mlp_dim % devices == 0

    def one_layer(self) -> "DecoderConfig":
        """The same network with one layer."""
        return replace(self, num_layers=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with the family's tag; `flanx.models.config_from_dict` is the inverse."""
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return {"family": self.family, **values}


def _error(name: str, what: str) -> UserError:
    return UserError(f"DecoderConfig.{name} {what}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(
            f"DecoderConfig.{name}: '{value}' is not one of {', '.join(allowed)}{did_you_mean(str(value), allowed)}"
        )
