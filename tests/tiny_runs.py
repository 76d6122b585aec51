"""Short stages for the tests of training as a whole."""

import dataclasses
import functools
import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import pytest
import tiny

from kd_jax import pieces, stages
from kd_jax.checkpoint import Store
from kd_jax.config import Distill, Prune, Train
from kd_jax.distill import KD
from kd_jax.forward import Model
from kd_jax.loop import Silent
from kd_jax.optim import Optim
from kd_jax.prune import Iterative
from kd_jax.state import Snapshot, TrainState

# 12 steps, 4 an epoch; masks change before the steps 0, 2, 4, 7 and 9.
PRUNE = Prune(
    epochs=3,
    batch=16,
    optim=Optim(learning_rate=0.05, weight_decay=1e-3, warmup=2),
    label_smoothing=0.1,
    ema=0.8,
    teacher="somebody",
    hard_weight=0.3,
    terms={"kd": KD(temperature=2.0, weight=0.7)},
    sparsity=0.8,
    schedule=Iterative(rounds=5),
)
QUIET = dataclasses.replace(PRUNE, gradient_norms=False)  # those are a program as large as a step's
DISTILL = Distill(epochs=1, batch=16, optim=Optim(learning_rate=0.05), terms=PRUNE.terms)
TRAIN = Train(epochs=1, batch=16, optim=Optim(learning_rate=0.05))


@functools.cache
def teacher() -> tuple[Model, Snapshot]:
    """A perceptron at its start, as the teacher of any number of seeds it is broadcast to."""
    model = tiny.perceptron()
    variables = model.init(jax.random.key(7), tiny.digits().train.inputs[:1].astype("float32"))
    params = variables.pop("params")
    return model, Snapshot(params, variables, jax.tree.map(lambda _: None, params))


def taught(seeds: int) -> tuple[Model, Snapshot]:
    """The teacher for so many seeds."""
    model, one = teacher()
    return model, jax.tree.map(lambda x: jax.numpy.stack([x] * seeds), one)


class Diary(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.records: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.began: list[tuple[str, int, int]] = []

    def begin(self, stage: str, steps: int, done: int) -> None:
        self.began.append((stage, steps, done))

    def advance(self, step: int, examples_per_second: float) -> None:
        self.steps.append(step)

    def epoch(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def note(self, text: str) -> None:
        self.notes.append(text)


def fit(stage: Train, model: Model | None = None, **given: Any) -> tuple[TrainState, Diary]:
    """The whole state that a stage ends with, and the diary of its run; on one device, with seeds
    0 and 1 and the teacher that it needs, unless told otherwise."""
    diary = given.pop("report", None) or Diary()
    given = {"seeds": (0, 1), "devices": 1, "data": tiny.digits()} | given
    if getattr(stage, "terms", None):
        given.setdefault("teacher", taught(len(given["seeds"])))
    kept, original = [], stages.fit

    def keeping(*args: Any) -> TrainState:
        kept.append(original(*args))
        return kept[-1]

    with mock.patch.object(stages, "fit", keeping):
        stages.run(stage, model or tiny.perceptron(), report=diary, **given)
    return kept[0], diary


class Stopped(Exception):
    """A kill."""


class Quitter(Diary):
    """Stops the run as soon as some steps are done, before they are recorded or saved."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def advance(self, step: int, examples_per_second: float) -> None:
        super().advance(step, examples_per_second)
        if step >= self.at:
            raise Stopped


class Told(Diary):
    """Is told to stop once some steps are done."""

    def __init__(self, at, number=signal.SIGTERM):
        super().__init__()
        self.at, self.number = at, number

    def advance(self, step, examples_per_second):
        super().advance(step, examples_per_second)
        if step >= self.at and self.number:
            os.kill(os.getpid(), self.number)
            self.number = 0


class BrokenStore(Store):
    """Stops the run once the records of some steps are on disk, but not their checkpoint."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder)
        self.at = at

    def save(self, step: int, carry: Any) -> None:
        if step >= self.at:
            raise Stopped
        super().save(step, carry)


def stop_and_go_on(
    folder: Path, at: int, how: str, stage: Train, **given: Any
) -> tuple[TrainState, list[dict], "Diary"]:
    """(state, history, diary of the second half) of a run that is stopped at a step, by its
    reporter ("quit") or its store ("break"), and started again."""
    store = Store(folder) if how == "quit" else BrokenStore(folder, at)
    report = Quitter(at) if how == "quit" else Diary()
    with pytest.raises(Stopped):
        fit(stage, store=store, report=report, save_seconds=0.0, **given)
    store.close()
    # The second half runs at another pace, which must not matter.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_SECONDS", 9.0)
        store = Store(folder)
        state, diary = fit(stage, store=store, **given)
    return state, store.history(), diary
