"""What a T5.1.1 network is made of, and how many parameters that gives. No JAX: the command line reads this too."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flanx import field_types
from flanx.errors import UserError, did_you_mean
from flanx.models.common.remat import CHECKPOINT_NAMES, REMAT

if TYPE_CHECKING:
    from flanx.data.batch_formats import BatchFormat, RowSettings
    from flanx.models.common.parameters import Parameters

ACTIVATIONS = ("gelu", "linear", "relu", "silu")

ATTENTION = ("auto", "xla", "cudnn")


@dataclass(frozen=True)
class T5Config:
    """A T5.1.1 encoder-decoder, or the original T5 with `mlp_activations=("relu",)` and tied logits.

    Attributes:
      vocab_size: rows of the embedding; T5's own 32,000 pieces and 100 extra ids are padded to 32,128.
      emb_dim: width of the residual stream.
      num_heads: attention heads.
      num_encoder_layers: layers of the encoder.
      num_decoder_layers: layers of the decoder.
      head_dim: width of a head; heads times width need not be `emb_dim`.
      mlp_dim: width inside the feed-forward block.
      mlp_activations: one projection each, multiplied together: ("gelu", "linear") is the gated GELU.
      dropout_rate: probability of dropping, the masks shared along the length.
      dtype: activations, "bfloat16" or "float32"; parameters are always float32.
      logits_via_embedding: share the output projection with the embedding.
      relpos_buckets: buckets of relative distance.
      relpos_max_distance: distance from which everything falls in the last bucket.
      relpos_per_layer: a position bias for each layer, as umT5 and T5X's scanned network have; else one for a stack.
      scan_layers: one compiled layer looped over stacked parameters (`scanned.py` converts).
      remat: what the backward pass computes again: "none", "minimal" (keeps the matrix products), "names" (keeps
        `remat_names`), or "full" (keeps layer inputs only).
      remat_names: what "names" keeps, of `CHECKPOINT_NAMES`.
      attention: who computes attention: "xla" everywhere, "cudnn" for NVIDIA's fused kernel, or "auto", which is the
        kernel wherever its conditions hold (`flanx.models.common.cudnn`) and XLA elsewhere.
    """

    family: ClassVar[str] = "t5"
    silent: ClassVar[tuple[str, ...]] = ("mlp_activations", "relpos_max_distance")

    emb_dim: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    mlp_dim: int
    vocab_size: int = 32128
    head_dim: int = 64
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    dropout_rate: float = 0.1
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    logits_via_embedding: bool = False
    relpos_buckets: int = 32
    relpos_max_distance: int = 128
    relpos_per_layer: bool = False
    scan_layers: bool = False
    remat: Literal["none", "minimal", "names", "full"] = "none"
    remat_names: tuple[str, ...] = ("attention", "attention_out")
    attention: Literal["auto", "xla", "cudnn"] = "auto"

    def __post_init__(self) -> None:
        field_types.check(self)
        for name in ("mlp_activations", "remat_names"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("emb_dim", "num_heads", "head_dim", "mlp_dim", "vocab_size"):
            if getattr(self, name) < 1:
                raise UserError(f"T5Config.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("num_encoder_layers", "num_decoder_layers"):
            if getattr(self, name) < 1:
                raise UserError(f"T5Config.{name} is {getattr(self, name)}; T5 needs both stacks")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"T5Config.dropout_rate is {self.dropout_rate}; it must be in [0, 1)")
        if self.relpos_buckets < 4 or self.relpos_buckets % 2:
            raise UserError(
                f"T5Config.relpos_buckets is {self.relpos_buckets}; it must be even and at least 4"
            )
        if self.relpos_max_distance <= self.relpos_buckets // 2:
            raise UserError(
                f"T5Config.relpos_max_distance is {self.relpos_max_distance}; it must be above "
                f"relpos_buckets / 2 = {self.relpos_buckets // 2}"
            )
        _one_of("dtype", self.dtype, ("bfloat16", "float32"))
        _one_of("remat", self.remat, REMAT)
        _one_of("attention", self.attention, ATTENTION)
        for name in self.remat_names:
            _one_of("remat_names", name, CHECKPOINT_NAMES)
        if self.remat == "names" and not self.remat_names:
            raise UserError(
                'T5Config.remat_names is empty; name what is kept, or set remat to "full"'
            )
        if not self.mlp_activations:
            raise UserError("T5Config.mlp_activations is empty; give at least one activation")
        for activation in self.mlp_activations:
            _one_of("mlp_activations", activation, ACTIVATIONS)

    @property
    def joined_dim(self) -> int:
        """Width of all heads side by side."""
        return self.num_heads * self.head_dim

    def num_parameters(self) -> int:
        """Number of parameters, by arithmetic."""
        return self.parameters().count()

    def parameters(self) -> "Parameters":
        """The table of its parameters."""
        from flanx.models.t5.parameters import parameters

        return parameters(self)

    def flops_per_step(self, batch_size: int, feature_lengths: Mapping[str, int]) -> int:
        """FLOPs of one training step; `flanx.models.t5.flops` has the formula and its argument."""
        from flanx.models.t5 import flops

        return flops.train_step_flops(
            self, batch_size, feature_lengths["inputs"], feature_lengths["targets"]
        )

    def row_lengths(self, feature_lengths: Mapping[str, int]) -> dict[str, int]:
        """Positions of a row in each stack."""
        return {"encoder": feature_lengths["inputs"], "decoder": feature_lengths["targets"]}

    def batch_format(
        self, feature_lengths: Mapping[str, int], rows: "RowSettings", bos_id: int | None = None
    ) -> "BatchFormat":
        """Inputs for the encoder and targets for the decoder.

        Raises:
          UserError: settings of rows that hold both.
        """
        from flanx.data.batch_formats import EncoderDecoder, RowSettings

        if rows != RowSettings():
            raise UserError(
                "DataConfig.row_length, loss_on and prefix are for decoders, whose rows hold inputs and targets: leave "
                "them out for a T5"
            )
        return EncoderDecoder(int(feature_lengths["inputs"]), int(feature_lengths["targets"]))

    def tensor_share(self, devices: int) -> "T5Config":
        """The network as one of `devices` that share wide parameters sees it."""

        def part(size: int) -> int:
            return size if size % devices else size // devices

        return replace(
            self,
            num_heads=part(self.num_heads),
            mlp_dim=part(self.mlp_dim),
            vocab_size=part(self.vocab_size),
        )

    def divides_over(self, devices: int) -> bool:
        """Whether heads and feed-forward blocks split evenly over so many devices."""
        return self.num_heads % devices == 0 and self.mlp_dim % devices == 0

    def one_layer(self) -> "T5Config":
        """The same network with one layer in each stack."""
        return replace(self, num_encoder_layers=1, num_decoder_layers=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with the family's tag; `flanx.models.config_from_dict` is the inverse."""
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return {"family": self.family, **values}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(
            f"T5Config.{name}: '{value}' is not one of {', '.join(allowed)}{did_you_mean(str(value), allowed)}"
        )
