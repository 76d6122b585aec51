"""A run that was stopped, and goes on, ends like one that never stopped: bit for bit."""

import dataclasses

import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import pieces
from kd_jax.checkpoint import Store

STAGE = tiny_runs.PRUNE  # masks change before the steps 0, 2, 4, 7 and 9; an epoch is 4 steps


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)  # they end at 2, 4, 5, 6, 7, ...


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """(state, history) of the run that nobody stops."""
    store = Store(tmp_path_factory.mktemp("straight"))
    state, _ = tiny_runs.fit(STAGE, store=store)
    return state, store.history()


@pytest.mark.parametrize(
    ("at", "how", "resumed"),
    [
        (2, "quit", 0),  # before anything was saved
        (5, "quit", 4),  # at an epoch's end, before the masks change
        (6, "quit", 5),  # amid an epoch, just after a change
        (8, "quit", 7),  # amid an epoch, before a change
        (8, "break", 7),  # a record is already there, and is written again
        (12, "quit", 11),
    ],
)
def test_a_stopped_run_ends_like_one_that_never_stopped(tmp_path, straight, at, how, resumed):
    state, history, diary = tiny_runs.stop_and_go_on(tmp_path, at, how, STAGE)
    assert diary.began == [("", 12, resumed)]
    assert not tiny.differences(state, straight[0])
    assert history == straight[1]


def test_stopped_twice(tmp_path, straight):
    for at in (6, 9):
        store = Store(tmp_path)
        with pytest.raises(tiny_runs.Stopped):
            tiny_runs.fit(STAGE, store=store, report=tiny_runs.Quitter(at), save_seconds=0.0)
        store.close()
    state, diary = tiny_runs.fit(STAGE, store=Store(tmp_path))
    assert diary.began == [("", 12, 8)]
    assert not tiny.differences(state, straight[0])
    assert Store(tmp_path).history() == straight[1]


def test_stopped_after_its_last_checkpoint(tmp_path, straight):
    class Unfinished(Store):
        def finish(self, snapshot, facts):
            raise tiny_runs.Stopped

    store = Unfinished(tmp_path)
    with pytest.raises(tiny_runs.Stopped):
        tiny_runs.fit(STAGE, store=store, save_seconds=0.0)
    store.close()
    state, diary = tiny_runs.fit(STAGE, store=Store(tmp_path))
    assert diary.began == [("", 12, 12)]
    assert not diary.steps
    assert not tiny.differences(state, straight[0])
    assert Store(tmp_path).history() == straight[1]


def test_convolutions_go_on_too(tmp_path):
    stage = dataclasses.replace(tiny_runs.DISTILL, epochs=3, gradient_norms=False)
    whole, _ = tiny_runs.fit(stage, tiny.convnet())
    state, _, diary = tiny_runs.stop_and_go_on(tmp_path, 10, "quit", stage, model=tiny.convnet())
    assert diary.began == [("", 12, 9)]
    assert not tiny.differences(state, whole)


@pytest.mark.slow
def test_a_run_goes_on_on_other_devices(tmp_path, straight):
    store, report = Store(tmp_path), tiny_runs.Quitter(6)
    with pytest.raises(tiny_runs.Stopped):
        tiny_runs.fit(tiny_runs.QUIET, store=store, report=report, save_seconds=0.0, devices=4)
    store.close()
    state, diary = tiny_runs.fit(tiny_runs.QUIET, store=Store(tmp_path), devices=1)
    assert diary.began == [("", 12, 5)]
    for name in ("hidden", "classifier"):
        a, b = (np.asarray(s.params[name]["kernel"]) for s in (state, straight[0]))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_damaged_checkpoint_costs_only_what_came_after_the_one_before(tmp_path, straight):
    store, report = Store(tmp_path), tiny_runs.Quitter(9)
    with pytest.raises(tiny_runs.Stopped):
        tiny_runs.fit(STAGE, store=store, report=report, save_seconds=0.0)
    store.close()
    before, last = sorted(int(path.name) for path in (tmp_path / "steps").iterdir())
    for path in (tmp_path / "steps" / str(last)).rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    state, diary = tiny_runs.fit(STAGE, store=Store(tmp_path))
    assert diary.began == [("", 12, before)]
    assert not tiny.differences(state, straight[0])
