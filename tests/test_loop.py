"""What a run says and writes down on its way."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import pieces, stages
from kd_jax.checkpoint import Store
from kd_jax.config import Quantize, Shift
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.optim import Optim
from kd_jax.state import rest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(state, diary, store) of the pruning stage."""
    store = Store(tmp_path_factory.mktemp("run") / "prune")
    state, diary = tiny_runs.fit(tiny_runs.PRUNE, store=store, name="prune")
    return state, diary, store


def test_a_record_an_epoch(run):
    _, diary, store = run
    assert [(r["step"], r["epoch"]) for r in diary.records] == [(4, 1), (8, 2), (12, 3)]
    for record in diary.records:
        assert set(record["train"]) == {"hard", "kd", "loss", "accuracy"}
        assert all(len(values) == 2 for values in record["train"].values())
        assert len(record["validation_accuracy"]) == len(record["sparsity"]) == 2
    assert store.history() == diary.records


def test_the_reporter_is_told_from_beginning_to_end():
    told = []

    class Everything(Silent):
        def begin(self, *args):
            told.append(("begin", *args))

        def advance(self, step, examples_per_second):
            told.append(("advance", step))

        def epoch(self, record):
            told.append(("epoch", record["epoch"]))

        def end(self, stage, seconds):
            told.append(("end", stage, seconds > 0))

    tiny_runs.fit(tiny_runs.PRUNE, report=Everything(), name="prune")
    assert told[0] == ("begin", "prune", 12, 0)
    assert told[-1] == ("end", "prune", True)
    assert [entry for entry in told if entry[0] == "epoch"] == [("epoch", n) for n in (1, 2, 3)]
    assert [entry[1] for entry in told if entry[0] == "advance"][-1] == 12


def test_the_last_validation_is_that_of_the_network_that_is_kept(run):
    state, diary, _ = run
    snapshot = jax.jit(rest)(state)
    found = stages.evaluate(tiny.perceptron(), tiny.digits(), snapshot, "validation")
    assert diary.records[-1]["validation_accuracy"] == found["accuracy"]


def test_what_a_stage_leaves_on_disk(run):
    state, _, store = run
    names = {path.name for path in store.folder.iterdir()}
    assert names == {"final", "done.json", "history.jsonl", "teacher_outputs.safetensors"}
    assert not tiny.differences(store.load(), jax.jit(rest)(state))
    facts = store.facts()
    assert facts["seeds"] == [0, 1]
    assert (facts["stage"], facts["steps"]) == ("prune", 12)
    assert len(facts["teacher_validation_accuracy"]) == 2
    assert facts["seconds"] > 0
    assert facts["device"] == jax.devices()[0].device_kind


def test_validation_may_be_rarer_and_is_always_at_the_end():
    stage = dataclasses.replace(tiny_runs.PRUNE, evaluate_every=2)
    _, diary = tiny_runs.fit(stage)
    due = [record["epoch"] for record in diary.records if "validation_accuracy" in record]
    assert due == [2, 3]


def test_nothing_held_out():
    data = tiny.digits()
    none = dataclasses.replace(data, validation=data.validation.take(np.arange(0)))
    _, diary = tiny_runs.fit(tiny_runs.PRUNE, data=none)
    assert not any("validation_accuracy" in record for record in diary.records)
    # Then the teacher is measured on what it was trained on; never on the test images.
    assert diary.notes[0].startswith("the teacher's training accuracy: ")
    assert not any("test" in note for note in diary.notes)


def test_saves_are_as_far_apart_as_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)
    saved = []

    class Counting(Store):
        def save(self, step, carry):
            saved.append(step)
            super().save(step, carry)

    tiny_runs.fit(tiny_runs.PRUNE, store=Counting(tmp_path / "often"), save_seconds=0.0)
    assert saved == [2, 4, *range(5, 13)]
    saved.clear()
    tiny_runs.fit(tiny_runs.PRUNE, store=Counting(tmp_path / "rarely"), save_seconds=60.0)
    assert saved == []


def test_an_epoch_leaves_out_what_fills_no_batch():
    stage = dataclasses.replace(tiny_runs.TRAIN, epochs=2, batch=20, fraction=0.8)
    state, diary = tiny_runs.fit(stage)  # 51 of 64 examples: 2 steps an epoch
    assert [record["step"] for record in diary.records] == [2, 4]
    assert int(state.step) == 4


def test_training_learns():
    stage = dataclasses.replace(
        tiny_runs.TRAIN, epochs=20, optim=Optim(learning_rate=0.1), evaluate_every=20
    )
    _, diary = tiny_runs.fit(stage)
    first, last = diary.records[0]["train"], diary.records[-1]["train"]
    assert np.all(np.array(last["loss"]) < 0.4 * np.array(first["loss"]))
    assert min(last["accuracy"]) > 0.7


UNTRAINED = [
    Quantize(start="it", batch=16),
    Shift(start="it", classes=(1,), by=0.5, batch=16),
]


@pytest.mark.parametrize("stage", UNTRAINED)
def test_what_no_step_has_trained_is_looked_at_as_what_was_trained(stage):
    model, start = tiny_runs.taught(2)
    dead = {**start.params, "classifier": jax.tree.map(np.zeros_like, start.params["classifier"])}
    still, diary = dataclasses.replace(start, params=dead), tiny_runs.Diary()
    tiny_runs.fit(stage, start=still, model=model, report=diary)
    labels = tiny.digits().validation.labels
    assert diary.notes == [
        "warning: no better than a guess at one of 10 classes, the most frequent of which is "
        f"{100 * np.bincount(labels).max() / len(labels):.2f} % of all: seed 0, 1"
    ]
    dead["classifier"]["bias"] = dead["classifier"]["bias"].copy()
    dead["classifier"]["bias"][1, 3] = np.nan
    said = r"^start: params/classifier/bias is not finite \(seed 1\): take another network, or make"
    with pytest.raises(UsageError, match=said):
        tiny_runs.fit(stage, start=dataclasses.replace(start, params=dead), model=model)
