"""Kinds of stages: what another one takes, and that none is left out."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np
import pytest
from tiny_experiment import tiny

import kd_jax
from kd_jax import files, kinds, pipeline, serialize, summary
from kd_jax.config import STAGES, Gate, Prune, Retrain, Shrink, Train
from kd_jax.export import card

SEEDS = (0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halve(Train):
    """Halve all parameters."""

    least_epochs: ClassVar[int] = 0
    done: ClassVar[str] = "halved"
    epochs: int = 0

    @property
    def told(self) -> str:
        return "parameters halved"


def halve(given, network, seeds, rows, note):
    note(f"halving that of the seeds {seeds}")
    return dataclasses.replace(network, params=jax.tree.map(lambda w: w / 2, network.params))


@pytest.fixture
def another(monkeypatch):
    """Halve is a kind like any other, by its entry in each of the tables."""
    own = kinds.Kind(begin=halve, became=lambda given, network: "halved")
    monkeypatch.setitem(kinds.KINDS, Halve, own)
    monkeypatch.setitem(serialize.CLASSES, "Halve", Halve)


class Diary:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def __getattr__(self, name):
        return lambda *args, **more: None


def test_another_kind_is_a_class_and_its_entries(another, tmp_path):
    small = {"epochs": 1, "batch": 32}
    stages = {
        "train": Train(model="teacher", **small),
        "halve": Halve(model="teacher", start="train", batch=32),
        "prune": Prune(model="teacher", start="halve", sparsity=0.5, **small),
    }
    experiment = tiny(stages=stages, compare=("train",))
    assert serialize.from_data(serialize.to_data(experiment)) == experiment
    diary = Diary()
    run = pipeline.prepare(experiment, tmp_path / "run", diary)
    pipeline.train(run, diary)
    assert "halve: halving that of the seeds (0, 1)" in diary.notes
    before, after = (run.network(stage, SEEDS).params for stage in ("train", "halve"))
    jax.tree.map(lambda w, half: np.testing.assert_array_equal(w / 2, half), before, after)
    labels = ["teacher", "teacher and halved", "teacher and halved and pruned"]
    assert [run.label(stage) for stage in stages] == labels
    expected = "teacher and halved: from `train`, parameters halved, 0 epochs"
    assert card._stage(run, "halve") == expected
    assert files.made_of(run, "prune") == files.made_of(run, "train")
    rows = summary.summarise(run, "", diary).rows
    assert [row.model for row in rows] == ["MLP(widths=(16,))", *["MLP(widths=(16,)), halved"] * 2]


def test_no_kind_is_left_out():
    def derived(cls):
        return {cls}.union(*map(derived, cls.__subclasses__()))

    ours = {cls for cls in derived(Train) if cls.__module__.startswith("kd_jax.")}
    assert ours - {Retrain} == {*STAGES}
    assert {cls.__name__ for cls in STAGES} <= {*kd_jax.__all__}


def test_a_class_is_of_the_kind_of_the_nearest_that_it_is_derived_from():
    class Mine(Gate):
        pass

    assert kinds.kind_of(Mine(start="train")) is kinds.KINDS[Gate]
    assert kinds.kind_of(Shrink(start="train")) is kinds.KINDS[Shrink]
    assert kinds.kind_of(Prune()) is kinds.KINDS[Train]
