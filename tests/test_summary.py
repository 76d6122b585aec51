"""What is said of a run: of all its finished stages, however it came to them."""

import dataclasses

import numpy as np
import pytest
from tiny_experiment import tiny

from kd_jax import latency, pipeline, results, summary
from kd_jax.config import Train
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.models import MODELS


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch):
    monkeypatch.setattr(latency, "measure", lambda networks, _: {name: {} for name in networks})


class Told(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def ran(experiment, like=None):
    """(the experiment's run, what was said meanwhile), in its own folder; compiled `like` another
    of the same models."""
    folder, told = pipeline.folder_of(experiment), Told()
    run = like or pipeline.prepare(experiment, folder, told)
    run = dataclasses.replace(run, experiment=experiment, folder=folder)
    pipeline.claim(experiment, folder)
    pipeline.train(run, told)
    return run, told.notes


def stages_of(run):
    assert list(summary.histories(run)) == list(run.done)
    return [row.stage for row in summary.summarise(run, "a command", Silent()).rows]


@pytest.mark.slow
def test_a_run_in_parts_is_one_run(tmp_path):
    """The full command goes on with what `only` has done, and `only` forgets nothing."""
    whole = tiny(out=str(tmp_path))
    part, _ = ran(dataclasses.replace(whole, only=("train",)))
    assert stages_of(part) == ["train"]
    told = Told()
    assert stages_of(pipeline.open_run(part.folder, told)) == ["train"]
    assert "not finished, and left out: distill, prune" in told.notes

    run, notes = ran(whole, part)
    assert run.folder == part.folder
    assert "train (seed 0 to 1): done before" in notes
    assert "distill (seed 0 to 1): done before" not in notes
    assert stages_of(run) == ["train", "distill", "prune"]
    again, _ = ran(dataclasses.replace(whole, only=("distill",)), part)
    found = summary.summarise(again, "a command", Silent())
    assert [row.stage for row in found.rows] == stages_of(run)
    _says_what_was_learnt(found, run)
    assert pipeline.open_run(run.folder, Silent()).done == run.done


def _says_what_was_learnt(found, run):
    teacher, *students = found.rows
    assert teacher.kl_divergence == (0, 0)
    assert teacher.similarity is None
    assert found.data.classes == tuple("0123456789")
    counts = np.bincount(run.data.test.labels, minlength=10)
    for row in found.rows:
        mean = np.nansum(counts * np.array(row.class_accuracy), axis=1) / counts.sum()
        np.testing.assert_allclose(mean, row.accuracy)
        assert all(0 < x < 1 for x in row.calibration_error)
    for row in students:
        assert min(row.kl_divergence) > 0
        assert row.similarity.layers == ("stage1_pre", "stage1", "pooled", "logits")
        alike = np.array(row.similarity.cka)
        assert alike.shape == (2, 4, 4)
        np.testing.assert_array_equal(alike[:, 1], alike[:, 2])  # the same features
        assert np.abs(alike).max() <= 1 + 1e-6
        assert np.all(alike[0] != alike[1])  # each seed's own


def test_who_trained_a_run_is_remembered(tmp_path):
    run, _ = ran(tiny(teacher=None, stages={"train": Train(epochs=1, batch=32)}, out=str(tmp_path)))
    first = summary.summarise(run, "run tiny", Silent(), ["seeds: 3 -> 2"])
    assert (first.command, first.changes) == ("run tiny", ("seeds: 3 -> 2",))
    assert first.seconds > first.rows[0].seconds
    assert first.rows[0].trained_on == first.environment.device
    results.write(run.folder, first)
    again = summary.summarise(run, "evaluate tiny", Silent())
    assert (again.command, again.changes) == (first.command, first.changes)
    assert again.seconds == first.seconds

    store = run.store("train", (0, 1))
    store.finish(store.load(), {"seconds": 1000.0, "device": "TPU v5e"})  # trained anew
    anew = summary.summarise(run, "run tiny again", Silent(), [])
    assert (anew.command, anew.changes) == ("run tiny again", ())
    assert anew.seconds > 1000.0
    assert list(anew.elsewhere) == ["TPU v5e"]
    (run.folder / "results.json").write_text("{")
    assert summary.summarise(run, "evaluate tiny", Silent()).command == "evaluate tiny"


def test_a_model_of_stages_that_were_not_run_may_not_fit_the_data(tmp_path):
    student = MODELS["lenet5"]  # takes no images of 8 x 8
    run, _ = ran(tiny(out=str(tmp_path), only=("train",), student=student))
    assert stages_of(pipeline.open_run(run.folder, Silent())) == ["train"]


def test_a_run_without_a_finished_stage_has_nothing_to_say(tmp_path):
    pipeline.claim(tiny(), tmp_path)
    with pytest.raises(UsageError, match="stage 'train' is not finished"):
        stages_of(pipeline.open_run(tmp_path, Silent()))
