"""When masks change: events by hand, and what every schedule promises."""

import itertools

import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.prune import SCHEDULES, Cubic, Iterative, OneShot

VARIANTS = [
    *(SCHEDULES[name] for name in ("one_shot", "iterative", "cubic", "exponential")),
    OneShot(at=1.0),
    OneShot(at=0.5),
    Iterative(rounds=1),
    Iterative(rounds=7, shape="linear"),
    Cubic(begin=0.3, end=0.3),
    Cubic(begin=0.0, end=1.0, every=7),
    Cubic(begin=1.0, end=1.0, every=1),
]


@pytest.mark.parametrize("schedule", VARIANTS, ids=str)
@pytest.mark.parametrize("steps", [7, 100, 1001])
@pytest.mark.parametrize(("start", "final"), [(0.0, 0.9), (0.2, 0.987), (0.0, 0.0), (0.5, 0.5)])
def test_events_rise_to_exactly_the_target_within_the_run(schedule, steps, start, final):
    events = schedule.events(steps, final, start)
    at, sparsities = [e.step for e in events], [e.sparsity for e in events]
    assert {e.action for e in events} == {"prune"}
    assert all(isinstance(step, int) for step in at)
    assert at[0] >= 0
    assert at[-1] < steps
    assert all(a < b for a, b in itertools.pairwise(at))
    assert sparsities[-1] == final
    assert all(start - 1e-12 <= s <= final + 1e-12 for s in sparsities)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(sparsities))


def told(schedule, *given, **more):
    """[(step, sparsity)] of a schedule's events."""
    return [event[:2] for event in schedule.events(*given, **more)]


def test_one_shot():
    assert told(OneShot(), 100, 0.9) == [(0, 0.9)]
    assert told(OneShot(at=0.29), 100, 0.9) == [(29, 0.9)]
    assert told(OneShot(at=1.0), 100, 0.9) == [(99, 0.9)]


def test_iterative_linear():
    events = told(Iterative(rounds=4, shape="linear"), 10, 0.8)
    assert [step for step, _ in events] == [0, 2, 5, 7]
    np.testing.assert_allclose([s for _, s in events], [0.2, 0.4, 0.6, 0.8])


def test_iterative_geometric_removes_an_equal_fraction_of_the_rest():
    events = told(Iterative(rounds=3, shape="geometric"), 9, 0.875)
    assert [step for step, _ in events] == [0, 3, 6]
    np.testing.assert_allclose([s for _, s in events], [0.5, 0.75, 0.875])
    resumed = told(Iterative(rounds=2, shape="geometric"), 9, 0.875, start=0.5)
    np.testing.assert_allclose([s for _, s in resumed], [0.75, 0.875])


def test_cubic_has_the_values_of_the_tensorflow_toolkit():
    # Target 0.8 over steps 0 to 100, as its PolynomialDecay(power=3) gives them.
    events = dict(told(Cubic(begin=0.0, end=0.5, every=10), 200, 0.8))
    assert list(events) == list(range(0, 101, 10))
    np.testing.assert_allclose(
        [events[t] for t in (0, 10, 50, 90, 100)], [0, 0.2168, 0.7, 0.7992, 0.8], atol=1e-12
    )


def test_cubic_reaches_its_target_where_the_span_is_no_multiple_of_the_interval():
    events = told(Cubic(begin=0.1, end=0.5, every=25), 100, 0.8, start=0.3)
    assert [step for step, _ in events] == [10, 35, 50]
    np.testing.assert_allclose(events[1][1], 0.8 - 0.5 * (1 - 25 / 40) ** 3)
    assert events[-1] == (50, 0.8)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: OneShot(at=1.5), "OneShot.at is 1.5"),
        (lambda: Iterative(rounds=0), "Iterative.rounds is 0"),
        (lambda: Iterative(shape="square"), "Iterative.shape is 'square'"),  # type: ignore
        (lambda: Iterative(rounds=5).events(4, 0.5), "Iterative.rounds is 5, but the run has 4"),
        (lambda: Cubic(begin=-0.1), "Cubic.begin"),
        (lambda: Cubic(end=1.1), "Cubic.end"),
        (lambda: Cubic(begin=0.6, end=0.5), "Cubic.end is 0.5: it must be at least begin"),
        (lambda: Cubic(every=0), "Cubic.every is 0"),
        (lambda: OneShot().events(0, 0.5), "steps is 0"),
        (lambda: OneShot().events(10, 1.0), "sparsity goes from 0.0 to 1.0"),
        (lambda: OneShot().events(10, 0.5, start=0.6), "sparsity goes from 0.6 to 0.5"),
    ],
)
def test_a_bad_value_is_refused_by_name(call, fault):
    with pytest.raises(UsageError, match=fault):
        call()
