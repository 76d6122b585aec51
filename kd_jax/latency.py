"""How long a network takes to answer, on the device at hand."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kd_jax.forward import Model, Variables

Array = jax.Array
Clock = Callable[[], float]

SECONDS = 0.3  # of timings, for each network and batch size
SHORTEST = 1e-3  # seconds a timing lasts at least: the clock and the loop then cost nothing
FEWEST = 3  # timings, however long they last
MOST_ROUNDS = 20
UNSTEADY = 2.0  # the 90th percentile this many times the 10th; on a machine left alone, 1.3 to 1.6

CONVENTION = (
    "Latency: the compiled forward pass in evaluation mode, one seed's parameters as arguments, "
    "each call waited for; median of timings that go round all networks in turn, warm-up left "
    "out. Zeros are multiplied like any number: a masked network is no faster than a dense one."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one call.

    Attributes:
      median_ms: of all timings.
      low_ms, high_ms: their 10th and 90th percentile.
      runs: how many timings; each is the mean of as many calls as last a millisecond.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int

    @property
    def unsteady(self) -> bool:
        """Whether the timings spread so widely that something else was at work too."""
        return self.high_ms > UNSTEADY * self.low_ms


def measure(
    networks: Mapping[str, tuple[Model, Variables]],
    inputs: Mapping[int, Any],
    seconds: float | None = None,
) -> dict[str, dict[str, Latency]]:
    """{network: {batch: Latency}}: how long each network takes for each batch.

    A network is timed as it is, zeros and all, by `jax.jit` with its variables as arguments, so
    what a caller pays for dispatch is in it. Networks of one Model run the same program.

    Args:
      networks: {name: (model, variables of one seed)}.
      inputs: {batch size: prepared inputs [batch, ...]}.
      seconds: how long to time each network at each batch size; None: SECONDS. Compilation comes on
        top, and a network that takes longer than a third of this is timed three times all the same.
    """
    device = jax.local_devices()[0]
    programs = {model: jax.jit(_logits(model)) for model, _ in networks.values()}
    placed = {n: (programs[m], jax.device_put(v, device)) for n, (m, v) in networks.items()}
    result: dict[str, dict[str, Latency]] = {name: {} for name in networks}
    for batch, x in inputs.items():
        x = jax.device_put(x, device)
        calls = {n: (lambda f=f, v=v, x=x: f(v, x)) for n, (f, v) in placed.items()}
        for name, latency in interleaved(calls, seconds).items():
            result[name][str(batch)] = latency
    return result


def _logits(model: Model) -> Callable[[Variables, Array], Array]:
    """The logits alone: XLA then drops what only a feature needs."""
    return lambda variables, x: model.forward(variables, x, train=False)[0].logits


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    seconds: float | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Times calls that return arrays, in rounds A B C A B C ..., so that a machine that grows
    slower or faster meanwhile does so for all of them."""
    seconds = SECONDS if seconds is None else seconds
    loops, pieces = {}, {}
    for name, call in calls.items():
        jax.block_until_ready(call())  # compiles
        once = _time(call, 1, clock)
        if once < SHORTEST:  # again: a call that was only just compiled is slower than the rest
            once = min(once, _time(call, _loops(once), clock))
        loops[name] = _loops(once)
        pieces[name] = loops[name] * once
    longest = max(pieces.values(), default=seconds)
    rounds = min(max(FEWEST, int(seconds / longest)), MOST_ROUNDS)
    timings: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            end = clock() + seconds / rounds
            timings[name].append(_time(call, loops[name], clock))
            while clock() + pieces[name] <= end:
                timings[name].append(_time(call, loops[name], clock))
    return {name: _summary(values) for name, values in timings.items()}


def _loops(once: float) -> int:
    """How many calls of this many seconds last long enough."""
    return max(1, math.ceil(SHORTEST / max(once, 1e-7)))


def _time(call: Callable[[], Any], loops: int, clock: Clock) -> float:
    """Seconds of one call, averaged over `loops` calls."""
    began = clock()
    for _ in range(loops):
        # Each is waited for: calls in flight together would give the throughput instead.
        jax.block_until_ready(call())
    return (clock() - began) / loops


def _summary(seconds: list[float]) -> Latency:
    low, median, high = (1e3 * float(x) for x in np.percentile(seconds, (10, 50, 90)))
    return Latency(median_ms=median, low_ms=low, high_ms=high, runs=len(seconds))
