"""Schedules under which weights come back, or training does: events by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import randomness
from kd_jax.errors import UsageError
from kd_jax.prune import (
    ADMM,
    DNS,
    SCHEDULES,
    SET,
    SRSTE,
    STE,
    Cyclic,
    Event,
    Exponential,
    Lottery,
    OneShot,
    RigL,
    Static,
)
from kd_jax.prune import masks as masks_lib

SMALL = {"steps": 2000, "final": 0.8}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [100, 1001])
def test_every_schedule_ends_at_its_target_within_the_run(name, steps):
    events = SCHEDULES[name].events(steps, 0.9)
    assert all(a.step <= b.step for a, b in itertools.pairwise(events))
    assert 0 <= events[0].step <= events[-1].step < steps
    assert events[-1].sparsity == 0.9
    moved_in_steps = ("measure",) if name == "dns" else ()
    assert events[-1].action not in {"free", "reset", "save", "measure"}.difference(moved_in_steps)


def test_exponential_takes_an_equal_fraction_of_the_rest():
    events = Exponential(begin=0.1, end=0.5, every=10).events(100, 0.9999)
    assert [e.step for e in events] == [10, 20, 30, 40, 50]
    np.testing.assert_allclose([1 - e.sparsity for e in events], [1, 0.1, 0.01, 1e-3, 1e-4])
    later = Exponential(begin=0.0, end=1.0, every=2).events(3, 0.75, start=0.5)
    np.testing.assert_allclose([1 - e.sparsity for e in later], [0.5, 0.25])


def test_rounds_without_training_between():
    events = OneShot(rounds=4).events(10, 0.9999)
    assert [e.step for e in events] == [0] * 4
    np.testing.assert_allclose([1 - e.sparsity for e in events], [0.1, 0.01, 1e-3, 1e-4])


def test_cyclic_has_the_phases_of_the_paper():
    events = Cyclic().events(100, 0.9)
    prunes = [e.step for e in events if e.action == "prune"]
    frees = [e.step for e in events if e.action == "free"]
    assert prunes == [10, 20, 30, 40, 50, 60, 70, 85]
    assert frees == [15, 25, 35, 45, 55, 65, 75]
    assert {e.sparsity for e in events if e.action == "prune"} == {0.9}
    again = Cyclic(reset=True).events(100, 0.9)
    assert [e.step for e in again if e.action == "reset"] == frees
    assert [e for e in again if e.action != "reset"] == events


def test_lottery_repeats_trainings_of_equal_length():
    lottery = Lottery(rounds=3, rewind=4)
    # 4 trainings, of 22 steps and thrice the 18 after the fourth: 76.
    assert lottery.rewinds(76) == (22, 4)
    events = lottery.events(76, 0.875)
    assert [(e.step, e.action) for e in events] == [
        (4, "save"),
        (22, "rewind"),
        (40, "rewind"),
        (58, "rewind"),
    ]
    np.testing.assert_allclose([e.sparsity for e in events], [0, 0.5, 0.75, 0.875])
    # Where it does not divide, the last one ends early.
    assert lottery.rewinds(74) == (22, 4)
    once = Lottery(rounds=1).events(20, 0.5, start=0.2)
    assert once == [Event(0, 0.2, "save"), Event(10, 0.5, "rewind")]


def test_sets_share_falls_by_a_cosine():
    rigl = RigL(every=100, end=0.78125)
    events = rigl.events(32000, 0.8)
    assert events[0] == Event(0, 0.8, "scatter")
    assert [e.step for e in events[1:]] == list(range(100, 25000, 100))
    share = {e.step: e.amount for e in events}
    assert share[100] == pytest.approx(0.299988, abs=1e-6)
    assert share[12500] == pytest.approx(0.15)
    assert rigl.share(0, 25000) == pytest.approx(0.3)
    assert rigl.share(25000, 25000) == pytest.approx(0)
    assert SET(begin="criterion").events(10, 0.5)[0] == Event(0, 0.5, "prune")
    assert Static().events(10, 0.5) == [Event(0, 0.5, "scatter")]


def test_masks_of_ste_are_chosen_at_even_intervals():
    for schedule in (STE(begin=0.2, every=3), SRSTE(begin=0.2, every=3)):
        events = schedule.events(10, 0.5)
        assert events == [Event(t, 0.5, "choose") for t in (2, 5, 8)]
    assert STE(begin=1.0).events(10, 0.5) == [Event(9, 0.5, "choose")]


def test_dns_changes_masks_ever_more_seldom_and_then_no_more():
    schedule = DNS(gamma=0.01, power=1.0, end=0.5)
    assert schedule.events(2000, 0.8) == [Event(0, 0.8, "measure")]
    times = np.flatnonzero(due(schedule, 2000))
    assert max(times) < 1000
    expected = sum((1 + 0.01 * t) ** -1.0 for t in range(1000))  # 240.7, with σ = 12.7
    assert abs(len(times) - expected) < 4 * 12.7
    assert sum(times < 100) > sum(times >= 900)
    np.testing.assert_array_equal(due(schedule, 2000), due(schedule, 2000))
    always = lambda end: np.flatnonzero(due(DNS(gamma=0.0, end=end), 50)).tolist()  # noqa: E731
    assert [always(end) for end in (0.0, 0.3, 1.0)] == [[0], [*range(15)], [*range(50)]]


def due(schedule, steps):
    """Whether masks change, of each step."""
    keys = jax.vmap(lambda t: randomness.at_step(0, "surgery", t))(jnp.arange(steps))
    one = functools.partial(schedule.due, steps=steps)
    return np.asarray(jax.jit(jax.vmap(one))(keys, jnp.arange(steps)))


def test_admm_projects_at_even_intervals_and_then_prunes():
    events = ADMM(begin=0.1, end=0.5, every=3).events(20, 0.8)
    assert events == [*(Event(t, 0.8, "project") for t in (2, 5, 8)), Event(10, 0.8, "prune")]


def test_splicing_has_a_gap_between_its_thresholds():
    w = {"a": jnp.array([[0.5, -0.9, 1.0, -1.1, 1.2, 3.0]])}
    off, on = ({"a": jnp.full((1, 6), value)} for value in (False, True))
    thresholds = {"a": jnp.float32(1.0)}
    from_on = masks_lib.splice(w, on, thresholds, 0.9, 1.1)["a"].astype(int).tolist()
    from_off = masks_lib.splice(w, off, thresholds, 0.9, 1.1)["a"].astype(int).tolist()
    assert from_on == [[0, 0, 1, 1, 1, 1]]
    assert from_off == [[0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: OneShot(rounds=0), "OneShot.rounds is 0"),
        (lambda: Exponential(begin=0.6), "Exponential.end is 0.5: it must be at least begin"),
        (lambda: Cyclic(last=0.1), "Cyclic.last is 0.1: it must be at least begin . 2 phases, 0.2"),
        (lambda: Cyclic(phase=0.0), "Cyclic.phase is 0"),
        (lambda: Cyclic().events(10, 0.5), "Cyclic.phase is 0.05, which is no step of the 10"),
        (lambda: Lottery(rounds=0), "Lottery.rounds is 0"),
        (lambda: Lottery(rewind=-1), "Lottery.rewind is -1"),
        (
            lambda: Lottery(rounds=2, rewind=9).events(12, 0.5),
            "Lottery.rewind is 9, but the 12 steps are for 3 trainings, too few for each: use",
        ),
        (lambda: SET(fraction=1.5), "SET.fraction is 1.5"),
        (lambda: RigL(every=0), "RigL.every is 0"),
        (lambda: RigL(begin="x"), "RigL.begin is 'x'"),  # type: ignore
        (lambda: Cyclic(last=1.5), r"Cyclic.last is 1\.5"),
        (lambda: Cyclic(begin=-0.5), r"Cyclic.begin is -0\.5"),
        (lambda: STE(every=0), "STE.every is 0"),
        (lambda: SRSTE(decay=-1.0), "SRSTE.decay is -1"),
        (lambda: ADMM(rho=0.0), "ADMM.rho is 0"),
        (lambda: ADMM(begin=0.75), "ADMM.end is 0.75: it must be above begin, 0.75"),
        (lambda: ADMM(every=0), "ADMM.every is 0"),
        (lambda: ADMM(end=0.01).events(10, 0.5), "ADMM.end is 0.01: in 10 steps that is no later"),
        (lambda: DNS(low=1.2), "DNS.high is 1.1: it must not be below low"),
        (lambda: DNS(end=2.0), "DNS.end is 2"),
    ],
)
def test_a_bad_value_is_refused_by_name(call, fault):
    with pytest.raises(UsageError, match=fault):
        call()
