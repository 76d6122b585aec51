"""Timing, on a clock that the timed functions turn themselves."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from kd_jax.forward import Model, Outputs
from kd_jax.latency import FEWEST, MOST_ROUNDS, _summary, interleaved, measure


class World:
    """A clock; calls that take a known time; and who was called when."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def call(self, name, seconds, slower=0.0):
        """Takes `seconds`, and a share `slower` more for each second on the clock."""

        def run():
            self.now += seconds * (1 + slower * self.now)
            self.calls.append(name)
            return jnp.zeros(())

        return run

    def time(self, calls, seconds=0.3):
        return interleaved(calls, seconds, clock=lambda: self.now)


def test_times_are_found():
    world = World()
    found = world.time({"a": world.call("a", 0.010), "b": world.call("b", 0.020)})
    assert found["a"].median_ms == pytest.approx(10)
    assert found["b"].median_ms == pytest.approx(20)
    assert found["a"].low_ms == pytest.approx(found["a"].high_ms)


def test_a_short_call_is_repeated_until_a_timing_lasts_a_millisecond():
    world = World()
    found = world.time({"short": world.call("short", 0.3e-3)})
    assert found["short"].median_ms == pytest.approx(0.3)
    # In 0.3 s a thousand calls; a timing is of ceil(1 / 0.3) = 4.
    calls = len(world.calls)
    assert calls - 4 * found["short"].runs <= 6  # the warm-up: 1, 1 and 4
    assert 900 <= calls <= 1050


def test_rounds_take_turns_and_share_the_time():
    world = World()
    world.time({name: world.call(name, 0.040) for name in "abc"})
    warm, timed = world.calls[:6], "".join(world.calls[6:])
    assert sorted(warm) == list("aabbcc")
    assert timed == "abc" * 7  # 0.3 s / 0.04 s


def test_cheap_and_dear_calls_stay_interleaved():
    world = World()
    found = world.time({"cheap": world.call("cheap", 0.002), "dear": world.call("dear", 0.1)})
    assert found["dear"].runs == FEWEST
    assert found["cheap"].runs == pytest.approx(150, abs=6)  # 0.3 s / 2 ms
    turns = [name for name, _ in itertools.groupby(world.calls)]
    assert turns[-6:] == ["cheap", "dear"] * 3


def test_time_is_bounded():
    world = World()
    world.time({"slow": world.call("slow", 5.0)})
    assert len(world.calls) == 2 + FEWEST  # two calls to warm up
    world = World()
    found = world.time({"fast": world.call("fast", 0.001)}, seconds=0.1)
    assert world.now < 0.12
    assert found["fast"].runs >= MOST_ROUNDS


def test_drift_hits_all_alike():
    """On a machine that grows ten times slower, equal networks still come out equal."""
    world = World()
    calls = {name: world.call(name, 0.005, slower=3.0) for name in "ab"}
    found = world.time(calls)
    assert found["a"].high_ms > 1.5 * found["a"].low_ms
    assert found["a"].median_ms == pytest.approx(found["b"].median_ms, rel=0.05)


def test_timings_that_spread_widely_are_unsteady():
    assert not _summary([1.0] * 19 + [50.0]).unsteady  # one interruption
    assert not _summary([1.0] * 5 + [1.9] * 5).unsteady
    assert _summary([1.0] * 5 + [2.1] * 5).unsteady


def test_percentiles():
    """Timings of 1, 2, ..., 11 ms: the 10th percentile is the second, the 90th the tenth."""
    found = _summary([i / 1000 for i in range(11, 0, -1)])
    assert (found.low_ms, found.median_ms, found.high_ms) == pytest.approx((2, 6, 10))
    assert found.runs == 11


def test_measure_runs_networks_as_they_are():
    def forward(variables, inputs, train=False, key=None):
        assert not train
        return Outputs(inputs @ variables["params"]["w"]), {}

    model = Model(init=lambda key, inputs: {}, forward=forward)
    dense = {"params": {"w": jnp.ones((8, 4))}}
    masked = jax.tree.map(jnp.zeros_like, dense)
    inputs = {1: jnp.ones((1, 8)), 16: jnp.ones((16, 8))}
    found = measure({"dense": (model, dense), "masked": (model, masked)}, inputs, seconds=0.01)
    assert found.keys() == {"dense", "masked"}
    for latencies in found.values():
        assert list(latencies) == ["1", "16"]
        for latency in latencies.values():
            assert 0 < latency.low_ms <= latency.median_ms <= latency.high_ms < 1000
            assert latency.runs >= FEWEST
