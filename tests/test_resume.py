"""A run that was stopped, and goes on, ends like one that never stopped: bit for bit."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import loop
from kd_jax.checkpoint import Store
from kd_jax.data import streamed
from kd_jax.datasets import Data

STAGE = tiny_runs.PRUNE  # masks change before the steps 0, 2, 4, 7 and 9; an epoch is 4 steps


class Stopped(Exception):
    """A kill."""


class Quitter(tiny_runs.Diary):
    """Stops the run as soon as some steps are done, before they are recorded or saved."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def advance(self, step, examples_per_second):
        super().advance(step, examples_per_second)
        if step >= self.at:
            raise Stopped


class BrokenStore(Store):
    """Stops the run once the records of some steps are on disk, but not their checkpoint."""

    def __init__(self, folder, at):
        super().__init__(folder)
        self.at = at

    def save(self, step, carry):
        if step >= self.at:
            raise Stopped
        super().save(step, carry)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(loop, "PIECE_SECONDS", 0.0)  # they end at 2, 4, 5, 6, 7, ...


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """(state, history) of the run that nobody stops."""
    store = Store(tmp_path_factory.mktemp("straight"))
    state, _ = tiny_runs.fit(STAGE, store=store)
    return state, store.history()


def stop_and_go_on(folder, at, how, stage=STAGE, **given):
    """(state, history, diary of the second half)."""
    store = Store(folder) if how == "quit" else BrokenStore(folder, at)
    report = Quitter(at) if how == "quit" else tiny_runs.Diary()
    with pytest.raises(Stopped):
        tiny_runs.fit(stage, store=store, report=report, save_seconds=0.0, **given)
    store.close()
    # The second half runs at another pace, which must not matter.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "PIECE_SECONDS", 9.0)
        store = Store(folder)
        state, diary = tiny_runs.fit(stage, store=store, **given)
    return state, store.history(), diary


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
    state, history, diary = stop_and_go_on(tmp_path, at, how)
    assert diary.began == [("", 12, resumed)]
    assert not tiny.differences(state, straight[0])
    assert history == straight[1]


def test_stopped_twice(tmp_path, straight):
    for at in (6, 9):
        store = Store(tmp_path)
        with pytest.raises(Stopped):
            tiny_runs.fit(STAGE, store=store, report=Quitter(at), save_seconds=0.0)
        store.close()
    state, diary = tiny_runs.fit(STAGE, store=Store(tmp_path))
    assert diary.began == [("", 12, 8)]
    assert not tiny.differences(state, straight[0])
    assert Store(tmp_path).history() == straight[1]


def test_stopped_after_its_last_checkpoint(tmp_path, straight):
    class Unfinished(Store):
        def finish(self, snapshot, facts):
            raise Stopped

    store = Unfinished(tmp_path)
    with pytest.raises(Stopped):
        tiny_runs.fit(STAGE, store=store, save_seconds=0.0)
    store.close()
    state, diary = tiny_runs.fit(STAGE, store=Store(tmp_path))
    assert diary.began == [("", 12, 12)]
    assert not diary.steps
    assert not tiny.differences(state, straight[0])
    assert Store(tmp_path).history() == straight[1]


def test_convolutions_go_on_too(tmp_path):
    stage = dataclasses.replace(tiny_runs.DISTILL, epochs=2)
    whole, _ = tiny_runs.fit(stage, tiny.convnet())
    state, _, diary = stop_and_go_on(tmp_path, 6, "quit", stage, model=tiny.convnet())
    assert diary.began == [("", 8, 5)]
    assert not tiny.differences(state, whole)


def test_a_run_goes_on_on_other_devices(tmp_path, straight):
    with pytest.raises(Stopped):
        store = Store(tmp_path)
        tiny_runs.fit(STAGE, store=store, report=Quitter(6), save_seconds=0.0, devices=4)
    store.close()
    state, diary = tiny_runs.fit(STAGE, store=Store(tmp_path), devices=1)
    assert diary.began == [("", 12, 5)]
    for name in ("hidden", "classifier"):
        a, b = (np.asarray(s.params[name]["kernel"]) for s in (state, straight[0]))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# Streamed data


class Memory:
    """A source of the digits that are in memory."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        return self.split.inputs[index], int(self.split.labels[index])


@pytest.fixture(scope="module")
def stream():
    data = tiny.digits()
    return streamed(
        Data(validation=0.25), data.spec, Memory(data.train), Memory(data.test)
    )


STREAMED = dataclasses.replace(
    tiny_runs.DISTILL, epochs=2, optim=dataclasses.replace(STAGE.optim, warmup=0)
)


def test_streamed_data_train_and_go_on(tmp_path, stream):
    given = {"data": stream, "seeds": (3,)}
    assert (len(stream.train), len(stream.validation)) == (48, 16)
    whole, diary = tiny_runs.fit(STREAMED, **given)
    assert int(whole.step[0]) == 6
    losses = [record["train"]["loss"][0] for record in diary.records]
    assert losses[1] < losses[0]
    state, history, second = stop_and_go_on(tmp_path, 5, "quit", STREAMED, **given)
    assert second.began == [("", 6, 4)]
    assert not tiny.differences(state, whole)
    assert history == json.loads(json.dumps(diary.records))
