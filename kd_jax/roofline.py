"""What a compiled program takes of a chip: memory, work and traffic, and the least time these need.

Roofline: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for
multicore architectures", 2009, https://doi.org/10.1145/1498765.1498785; here with a third roof, the
network between chips.
"""

import dataclasses
from typing import Any, Literal

from kd_jax import traffic
from kd_jax.chips import Slice

Resource = Literal["compute", "memory", "network"]


@dataclasses.dataclass(frozen=True)
class Figures:
    """One call of a program, on one chip.

    Attributes:
      temporaries: bytes of what lives within the call only: activations, gradients and the like.
      peak: bytes in HBM: arguments, results, temporaries and the program itself.
      flops: additions and multiplications, as XLA counts them.
      moved: bytes read from and written to HBM.
      collectives: what is exchanged with other chips.
      sent: bytes that the chip must send for it.
      seconds: the least time that each resource needs.
      cycles: the clock's, as the compiler estimates; 0 where it does not say.
    """

    temporaries: int
    peak: int
    flops: float
    moved: int
    collectives: list[traffic.Collective]
    sent: float
    seconds: dict[Resource, float]
    cycles: int = 0

    @property
    def bound(self) -> Resource:
        """The resource that needs the most time."""
        return max(self.seconds, key=lambda resource: self.seconds[resource])

    @property
    def least_seconds(self) -> float:
        """The roofline: resources work at the same time, and the busiest is never idle."""
        return self.seconds[self.bound]


def figures(compiled: Any, target: Slice) -> Figures:
    """Reads a compiled program (jax.stages.Compiled) of a slice.

    FLOPs and sizes are the compiler's, for one device; traffic is counted in its program. The
    compiler's own count of bytes would include what never leaves the chip.
    """
    text, memory = compiled.as_text(), compiled.memory_analysis()
    found = traffic.collectives(text, len(target.devices))
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes  # donated: results in the place of arguments
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    cores = target.cores
    flops = cores * compiled.cost_analysis()["flops"]
    moved = cores * traffic.moved(text)
    sent = cores * sum(collective.sent for collective in found)
    return Figures(
        temporaries=cores * memory.temp_size_in_bytes,
        peak=cores * peak,
        flops=flops,
        moved=moved,
        collectives=found,
        sent=sent,
        seconds=seconds(flops, moved, sent, target),
        cycles=traffic.cycles(text),
    )


def seconds(flops: float, moved: float, sent: float, target: Slice) -> dict[Resource, float]:
    """The least time of each resource, of a chip's work and traffic: amount / peak speed."""
    chip = target.chip
    return {
        "compute": flops / chip.flops,
        "memory": moved / chip.memory_speed,
        "network": sent / target.network_speed if sent else 0.0,
    }
