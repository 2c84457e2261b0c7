"""The least time that a step can take: each resource at its published peak, and all of them at once.

A step is no faster than its slowest part alone, and that is the bound: FLOPs over the peak rate, bytes over HBM's
bandwidth, bytes over the links', bytes over the network's (Williams, Waterman and Patterson 2009, "Roofline"). If
nothing overlapped, compute or memory (which overlap inside every kernel) and communication would add up: `serial` is
that sum, and a well-tuned step lies between the two.
"""

from dataclasses import dataclass

from flanx.plan.facts import Facts


@dataclass(frozen=True)
class Roofline:
    """Seconds of one step, by resource.

    Attributes:
      compute: matrix products at the chip's peak.
      hbm: reading and writing memory.
      links: collectives inside a slice or server.
      network: collectives between them.
    """

    compute: float
    hbm: float
    links: float
    network: float

    @property
    def bound(self) -> float:
        """No step is faster."""
        return max(self.compute, self.hbm, self.links, self.network)

    @property
    def serial(self) -> float:
        """With nothing sent while something is computed."""
        return max(self.compute, self.hbm) + self.links + self.network

    @property
    def limit(self) -> str:
        """What decides the bound."""
        parts = {
            "compute": self.compute,
            "HBM": self.hbm,
            "links": self.links,
            "network": self.network,
        }
        return max(parts, key=lambda name: parts[name])


def roofline(facts: Facts) -> Roofline:
    """The bound of a step's facts on their chip."""
    chip = facts.topology.chip
    return Roofline(
        compute=facts.flops / chip.peak_flops,
        hbm=facts.hbm_bytes / chip.hbm_bandwidth,
        links=facts.link_bytes / chip.link_bandwidth,
        network=facts.network_bytes / chip.network_bandwidth,
    )


def mfu(facts: Facts, seconds: float) -> float:
    """Share of the peak that the model's own FLOPs use, for a step of so many seconds."""
    peak = facts.topology.chip.peak_flops * facts.topology.devices
    return facts.model_flops / (seconds * peak)


def hours(steps: int, seconds: float) -> float:
    """Of a whole run."""
    return steps * seconds / 3600
