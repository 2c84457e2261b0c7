"""A plan for people and for programs: the same figures as lines of text and as one JSON object."""

from dataclasses import dataclass
from typing import Any

from flanx.hardware.chips import GIB
from flanx.plan import roofline
from flanx.plan.facts import Facts
from flanx.training.config import TrainConfig

# What benchmarks/plan_estimate.py and benchmarks/pods_table.py find.
_ROUGH = {
    "tpu": "memory may be off by a third, and compiled steps of long rows take twice as long and more",
    "gpu": "memory may be off by a third, and no GPU has confirmed it",
}
_GB = 1e9  # what is sent and read is told as links and memories are: in powers of ten


@dataclass(frozen=True)
class Plan:
    """A setting and what it costs.

    Attributes:
      config: the run.
      facts: one step of it.
      price: money for a chip and hour; None where it was not given.
      mend: which setting would make it fit, where it does not.
    """

    config: TrainConfig
    facts: Facts
    price: float | None = None
    mend: str = ""

    @property
    def roofline(self) -> roofline.Roofline:
        return roofline.roofline(self.facts)

    @property
    def tokens(self) -> int:
        """Of a batch, inputs and targets, padding included."""
        return self.config.batch_size * sum(self.config.cells.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values; bytes, FLOPs and seconds without prefixes, of one device where nothing else is said."""
        facts, times = self.facts, self.roofline
        memory = facts.memory
        found: dict[str, Any] = {
            "topology": facts.topology.name,
            "slices": facts.topology.slices,
            "devices": facts.topology.devices,
            "compiled": facts.compiled,
            "seconds_to_plan": round(facts.seconds, 2),
            "parameters": self.config.model.num_parameters(),
            **settings(self.config, facts),
            "memory": {
                "parameters": memory.params,
                "optimizer": memory.optimizer,
                "activations": memory.activations,
                "total": memory.total,
                "usable": memory.usable,
                "fits": memory.fits,
                "largest": [vars(buffer) for buffer in memory.largest],
            },
            "notes": list(facts.notes),
            "mend": self.mend,
        }
        if not facts.flops:
            return found
        hours = roofline.hours(self.config.train_steps, times.bound)
        chip_hours = hours * facts.topology.devices
        return found | {
            "flops": facts.flops,
            "model_flops_of_the_step": facts.model_flops,
            "hbm_bytes": facts.hbm_bytes,
            "collectives": {kind: vars(traffic) for kind, traffic in facts.traffic.items()},
            "least_seconds": {**vars(times), "bound": times.bound, "serial": times.serial},
            "limit": times.limit,
            "tokens_per_second": self.tokens / times.bound,
            "mfu_bound": roofline.mfu(facts, times.bound),
            "mfu_serial": roofline.mfu(facts, times.serial),
            "train_steps": self.config.train_steps,
            "hours": hours,
            "chip_hours": chip_hours,
            "cost": None if self.price is None else chip_hours * self.price,
        }

    def lines(self) -> list[str]:
        """The report."""
        memory = self.facts.memory
        head = [*self._head(), "", *self._memory()]
        if not memory.fits:
            head += ["", *self._largest()]
        if not self.facts.flops:
            return head
        return [*head, "", *self._step(), "", *self._time()]

    def _head(self) -> list[str]:
        facts = self.facts
        lengths = self.config.data.feature_lengths
        how = (
            f"compiled by XLA in {facts.seconds:.0f} s"
            if facts.compiled
            else "an estimate from shapes and shardings; nothing was compiled"
        )
        shape = " x ".join(f"{axis} {size}" for axis, size in facts.mesh.items())
        microbatches = self.config.microbatches
        return [
            f"A train step of {self.config.model.num_parameters() / 1e9:.3f}B parameters on "
            f"{facts.topology.describe()}, {how}",
            f"  mesh         {shape}, parameters {self.config.mesh.parameters}",
            f"  batch        {self.config.batch_size} rows of {lengths['inputs']} + {lengths['targets']} tokens, "
            f"{microbatches} microbatch{'es' if microbatches > 1 else ''}, remat {self.config.model.remat}",
            *(f"  note         {note}" for note in facts.notes),
            *([] if facts.compiled else [f"  note         {_ROUGH[facts.topology.chip.platform]}"]),
        ]

    def _memory(self) -> list[str]:
        memory = self.facts.memory
        room = memory.usable - memory.total
        verdict = (
            f"fits, {gib(room)} GiB to spare"
            if memory.fits
            else f"does not fit, by {gib(-room)} GiB"
        )
        return [
            f"Memory of each device, of {gib(memory.usable)} GiB that a program can have",
            f"  parameters   {gib(memory.params):>9} GiB",
            f"  optimizer    {gib(memory.optimizer):>9} GiB",
            f"  activations  {gib(memory.activations):>9} GiB   with gradients, gathered parameters and padding",
            f"  total        {gib(memory.total):>9} GiB   {memory.total / memory.usable:.0%}: {verdict}",
        ]

    def _largest(self) -> list[str]:
        lines = ["Largest buffers"] if self.facts.memory.largest else []
        for one in self.facts.memory.largest:
            lines.append(f"  {gib(one.bytes):>9} GiB   {one.shape} {_short(one.what)}".rstrip())
        return [
            *lines,
            self.mend
            or "No setting that was tried makes it fit; --search tries more, else take more devices or a smaller batch",
        ]

    def _step(self) -> list[str]:
        facts = self.facts
        ideal = facts.model_flops / facts.topology.devices
        lines = [
            "A step of each device",
            f"  {'FLOPs':<18} {facts.flops / 1e12:>9.3f} T     {facts.flops / ideal:.2f} of its share of the model's "
            f"own, {facts.model_flops:.4g}",
            f"  {'HBM':<18} {facts.hbm_bytes / _GB:>9.3f} GB",
        ]
        for kind, traffic in sorted(facts.traffic.items()):
            over = (
                f"{traffic.network_bytes / _GB:.3f} GB of it over the network"
                if traffic.network_bytes
                else ""
            )
            total = traffic.link_bytes + traffic.network_bytes
            times = f"in {traffic.count}"
            lines.append(
                f"  {kind:<18} {total / _GB:>9.3f} GB    {times}{', ' if over else ''}{over}"
            )
        return lines

    def _time(self) -> list[str]:
        times, facts, steps = self.roofline, self.facts, self.config.train_steps
        lines = [
            "The least time, at published peak rates",
            f"  compute {ms(times.compute)}, HBM {ms(times.hbm)}, links {ms(times.links)}"
            + (f", network {ms(times.network)}" if times.network else ""),
            f"  a step       {ms(times.bound):>12}   decided by {times.limit}; {ms(times.serial)} if nothing overlaps "
            "with communication",
            f"  tokens/s     {self.tokens / times.bound:>12,.0f}   at most, padding included",
            f"  MFU          {roofline.mfu(facts, times.bound):>12.1%}   at most; "
            f"{roofline.mfu(facts, times.serial):.1%} if nothing overlaps with communication",
        ]
        hours = roofline.hours(steps, times.bound)
        chip_hours = hours * facts.topology.devices
        cost = "" if self.price is None else f", {chip_hours * self.price:,.2f} in money"
        return [
            *lines,
            f"  {steps:,} steps take at least {hours:,.2f} hours, {chip_hours:,.1f} chip-hours{cost}",
        ]


def settings(config: TrainConfig, facts: Facts) -> dict[str, Any]:
    """What a search tries, as plain values."""
    return {
        "mesh": dict(facts.mesh),
        "mesh_parameters": config.mesh.parameters,
        "batch_size": config.batch_size,
        "feature_lengths": dict(config.data.feature_lengths),
        "microbatches": config.microbatches,
        "remat": config.model.remat,
    }


def gib(size: float) -> str:
    """Two digits after the point, three below one."""
    value = size / GIB
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def ms(seconds: float) -> str:
    """Milliseconds, or seconds from ten on."""
    if seconds >= 10:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:,.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e3:.3f} ms"


def _short(what: str) -> str:
    """The end of an operation's path, which says what it is."""
    return what if len(what) <= 90 else "..." + what[-87:]
