"""What is known of one step on one device, whether a compiler said it or arithmetic did: what reports are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flanx.plan.topology import Topology


@dataclass(frozen=True)
class Buffer:
    """A large allocation: its bytes on one device, its type and what it is for."""

    bytes: int
    shape: str
    what: str


@dataclass(frozen=True)
class Memory:
    """Bytes on one device while a step runs.

    Attributes:
      params: parameters.
      optimizer: the optimizer's slots, and the step's number.
      activations: everything else that a step has in memory at its fullest: gradients, activations kept for the
        backward pass, gathered parameters, the batch, and what layouts pad.
      total: their sum.
      usable: what a program can have.
      largest: the largest allocations, where they are known.
    """

    params: int
    optimizer: int
    activations: int
    usable: int
    largest: Sequence[Buffer] = ()

    @property
    def total(self) -> int:
        return self.params + self.optimizer + self.activations

    @property
    def fits(self) -> bool:
        return self.total <= self.usable


@dataclass(frozen=True)
class Traffic:
    """Bytes that one device sends a step for one kind of collective.

    Attributes:
      link_bytes: over the links inside a slice or server.
      network_bytes: over the network between them.
      count: how many are run a step.
    """

    link_bytes: float = 0.0
    network_bytes: float = 0.0
    count: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.link_bytes + other.link_bytes,
            self.network_bytes + other.network_bytes,
            self.count + other.count,
        )


@dataclass(frozen=True)
class Facts:
    """One step of one setting.

    Attributes:
      topology: the devices.
      mesh: sizes of replica, data and model.
      memory: bytes on one device.
      flops: of one device, with what is computed again or on several devices alike.
      model_flops: of the whole step, as the model needs them (`T5Config.flops_per_step`).
      hbm_bytes: read and written by one device; 0 where it is not known.
      traffic: by kind of collective.
      compiled: whether XLA said so, rather than arithmetic.
      seconds: what finding out took.
      notes: what a reader should know.
    """

    topology: Topology
    mesh: Mapping[str, int]
    memory: Memory
    flops: float
    model_flops: float
    hbm_bytes: float
    traffic: Mapping[str, Traffic]
    compiled: bool
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def link_bytes(self) -> float:
        """Over the links, of all collectives."""
        return sum(t.link_bytes for t in self.traffic.values())

    @property
    def network_bytes(self) -> float:
        """Over the network, of all collectives."""
        return sum(t.network_bytes for t in self.traffic.values())
