"""What every model family's configuration offers, whatever the network: all that other parts may ask of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from flanx.data.batch_formats import BatchFormat, RowSettings
    from flanx.models.common.parameters import Parameters


class ModelConfig(Protocol):
    """A frozen dataclass that describes one network.

    Attributes:
      family: name of the model family, the tag of every saved configuration.
      vocab_size: rows of the embedding.
      emb_dim: width of the residual stream.
      num_heads: attention heads.
      head_dim: width of a head.
      dropout_rate: probability of dropping.
      dtype: activations, "bfloat16" or "float32".
      scan_layers: one compiled layer looped over stacked parameters.
      remat: what the backward pass computes again, of `flanx.models.common.remat.REMAT`.
      remat_names: what `remat="names"` keeps.
      attention: "auto", "xla" or "cudnn".
    """

    family: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __hash__(self) -> int: ...

    @property
    def silent(self) -> tuple[str, ...]:
        """Settings that two networks with arrays of the same names and shapes can differ in, and numbers with them."""
        ...

    @property
    def emb_dim(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def dropout_rate(self) -> float: ...
    @property
    def dtype(self) -> str: ...
    @property
    def scan_layers(self) -> bool: ...
    @property
    def remat(self) -> str: ...
    @property
    def remat_names(self) -> tuple[str, ...]: ...
    @property
    def attention(self) -> str: ...

    def parameters(self) -> "Parameters":
        """The table of its parameters."""
        ...

    def num_parameters(self) -> int:
        """Number of parameters, by arithmetic."""
        ...

    def flops_per_step(self, batch_size: int, feature_lengths: Mapping[str, int]) -> int:
        """Model FLOPs of one training step on a batch of `batch_size` rows of these lengths (`TrainConfig.cells`)."""
        ...

    def row_lengths(self, feature_lengths: Mapping[str, int]) -> dict[str, int]:
        """Positions of a row in each stack of layers: {"encoder": ..., "decoder": ...}."""
        ...

    def batch_format(
        self, feature_lengths: Mapping[str, int], rows: "RowSettings", bos_id: int | None = None
    ) -> "BatchFormat":
        """What its batches look like.

        Args:
          feature_lengths: most tokens of each feature.
          rows: what the run says of rows.
          bos_id: what the vocabulary begins a text with, if it does.

        Raises:
          UserError: a setting that this family has no use for, or rows too short for an example.
        """
        ...

    def tensor_share(self, devices: int) -> Self:
        """The network as one of `devices` along the mesh's model axis sees it; what does not divide stays whole."""
        ...

    def divides_over(self, devices: int) -> bool:
        """Whether heads and feed-forward blocks split evenly over so many devices."""
        ...

    def one_layer(self) -> Self:
        """The same network with one layer in each stack."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with the family's tag; `flanx.models.config_from_dict` is the inverse."""
        ...
