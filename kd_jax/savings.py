"""What a gated network saves, counted and measured, and how far its gates depend on the input."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from kd_jax import cost
from kd_jax.ensembles import part
from kd_jax.forward import Model, Variables
from kd_jax.gating import BACKBONE, Gated
from kd_jax.latency import Latency, interleaved
from kd_jax.typed import Typed

Array = jax.Array
GAIN = 0.95  # of the time without gates, that the gathered network may take to be called faster

CONVENTION = (
    "Gated networks: multiply-adds of one example by the units that it goes through, the gater "
    "included; and measured at batch 1, in turns: the network without gates, the gated one with "
    "all units computed and then masked, which saves nothing, and the one that picks out the "
    "variables of the units chosen and computes these alone, picking included. In a batch each "
    "example has units of its own. A unit is open for all test examples, for none, or for some."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Savings(Typed):
    """Of a gated network; lists have an entry a seed.

    `kept` of `units` are open for each example. `macs` are those of one example, by these alone and
    the gater; `macs_dense` those of the network without gates."""

    units: int
    kept: int
    macs: int
    macs_dense: int
    always: Sequence[float]
    """Share of the units that are open for every test example."""
    never: Sequence[float]
    """Share of those that are for none."""
    dense: Latency
    masked: Latency
    gathered: Latency

    @property
    def sometimes(self) -> list[float]:
        """Share of those that depend on the example."""
        return [1 - a - n for a, n in zip(self.always, self.never, strict=True)]


def measure(
    gated: Gated,
    variables: Variables,
    inputs: Array,
    opened: np.ndarray,
    seconds: float | None = None,
) -> Savings:
    """Of one seed's variables, on prepared inputs [1, ...].

    Args:
      opened: gates of the test examples [S, N, units], of all seeds.
    """
    networks = {
        "dense": (gated.backbone, part(variables, BACKBONE)),
        "masked": (gated.model, variables),
        "gathered": (gated.gathered, variables),
    }
    macs = {name: cost.macs(_logits(m), v, inputs) for name, (m, v) in networks.items()}
    calls = {name: _call(*network, inputs) for name, network in networks.items()}
    share = np.mean(opened > 0, axis=1)
    return Savings(
        units=gated.gates.units,
        kept=sum(gated.gates.counts.values()),
        macs=macs["gathered"],
        macs_dense=macs["dense"],
        always=np.mean(share == 1, axis=-1).tolist(),
        never=np.mean(share == 0, axis=-1).tolist(),
        **interleaved(calls, seconds),
    )


def _logits(model: Model) -> Callable[[Variables, Array], Array]:
    return lambda variables, x: model.forward(variables, x, train=False)[0].logits


def _call(model: Model, variables: Variables, x: Array) -> Callable[[], Array]:
    run = jax.jit(_logits(model))
    return lambda: run(variables, x)
