"""One stage in several settings, from the flag to the table."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_experiment import tiny

from kd_jax import pipeline, summary, tables
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.noise import comparisons
from kd_jax.sweep import expand

SWEEP = ("distill.temperature=1,4", "prune.sparsity=0.5,0.75")


def prepared(*words, folder=Path("nowhere"), **changes):
    return pipeline.prepare(tiny(sweep=words, **changes), Path(folder), Silent())


# From the flag ------------------------------------------------------------------------------


def test_without_a_sweep_nothing_changes():
    assert expand(tiny()) == (tiny(), {})


def test_a_stage_for_each_setting_and_what_starts_from_it():
    experiment, variants = expand(tiny(sweep=SWEEP))
    assert list(experiment.stages) == [
        "train",
        "distill/temperature=1",
        "distill/temperature=4",
        "prune/temperature=1,sparsity=0.5",
        "prune/temperature=1,sparsity=0.75",
        "prune/temperature=4,sparsity=0.5",
        "prune/temperature=4,sparsity=0.75",
    ]
    last = experiment.stages["prune/temperature=4,sparsity=0.75"]
    assert last.start == "distill/temperature=4"
    assert last.sparsity == 0.75
    assert experiment.stages[last.start].terms["kd"].temperature == 4
    assert {variant.base for variant in variants.values()} == {"distill", "prune"}
    assert [name for name, v in variants.items() if v.usual] == [
        "distill/temperature=4",  # 4 is KD's own
        "prune/temperature=4,sparsity=0.5",
    ]
    assert variants["prune/temperature=4,sparsity=0.75"].words == "temperature 4, sparsity 0.75"


def test_a_swept_teacher_sweeps_its_students():
    experiment, _ = expand(tiny(sweep=("train.learning-rate=0.1,0.2",)))
    assert experiment.stages["distill/learning_rate=0.2"].teacher == "train/learning_rate=0.2"


def test_fields_of_one_name_are_told_apart():
    words = ("train.learning-rate=0.1,0.2", "distill.learning-rate=0.1,0.2")
    stages = expand(tiny(sweep=words))[0].stages
    assert "distill/train.optim.learning_rate=0.1,distill.optim.learning_rate=0.2" in stages


def test_only_some_stages_of_a_sweep():
    order = expand(tiny(sweep=SWEEP, only=("distill",)))[0].order()
    assert order == ("train", "distill/temperature=1", "distill/temperature=4")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("distill.temperature", "is not of the form STAGE.FIELD=VALUE,VALUE"),
        ("distill.temperature=", "is not of the form STAGE.FIELD=VALUE,VALUE"),
        ("distill.temprature=1,2", "no stage has such a field. Did you mean"),
        ("learning-rate=1,2", "learning-rate may be any of train.optim.learning-rate, distill."),
        ("student.width=1,2", "no stage has such a field"),
        ("distill.temperature=1,x", "--sweep distill.temperature"),
        ("distill.temperature=1,0", "--distill.terms.kd.temperature is 0: it must be greater"),
        ("distill.temperature=1,1.0", "a value is given twice"),
        ("prune.sparsity=0.5,1.5", "sparsity 1.5 must be in"),
        ("distill.epochs=2,3", "--sweep of distill: it changes the program"),
        ("distill.fraction=0.5,1", "--sweep of distill: it changes the program"),
        ("prune.allocation=layer,global", "--sweep of prune: it changes the program"),
    ],
)
def test_what_can_not_be_swept_is_refused_before_training(word, message):
    with pytest.raises(UsageError) as error:
        prepared(word)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_too_many_combinations():
    values = ",".join(str(i) for i in range(1, 40))
    with pytest.raises(UsageError, match="stages: at most 1000 are allowed"):
        prepared(f"distill.temperature={values}", f"distill.kd.weight={values}")


def test_a_plan_is_of_one_setting():
    with pytest.raises(UsageError, match="plan takes one setting at a time"):
        pipeline.planned(tiny(sweep=SWEEP))


# To the table -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = prepared(*SWEEP, folder=tmp_path_factory.mktemp("together"))
    pipeline.train(run, Silent())
    return run


def apart(folder, **changes):
    run = prepared(*SWEEP, folder=folder, together=False, **changes)
    pipeline.train(run, Silent())
    return run


@pytest.mark.slow
def test_together_and_apart_leave_the_same_networks(run, tmp_path):
    one_by_one = apart(tmp_path)
    assert len(list((run.folder / "prune").iterdir())) == 1
    assert len(list((tmp_path / "prune").iterdir())) == 4
    for stage in run.experiment.order():
        together = run.network(stage, (0, 1))
        for place, seeds in enumerate(one_by_one.groups):
            alone = one_by_one.network(stage, seeds)
            for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
                np.testing.assert_allclose(a[place], b[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_students_of_a_swept_teacher_begin_alike_and_end_apart(tmp_path):
    run = prepared("train.learning-rate=0.05,0.2", folder=tmp_path, only=("distill",))
    pipeline.train(run, Silent())
    first, second = (
        run.network(f"distill/learning_rate={rate}", (0, 1)).params for rate in ("0.05", "0.2")
    )
    kernels = first["dense1"]["kernel"], second["dense1"]["kernel"]
    assert 0 < np.max(np.abs(kernels[0] - kernels[1])) < 0.5


@pytest.mark.slow
def test_a_row_a_setting_compared_with_the_usual_one(run):
    results = summary.summarise(run, "command", Silent())
    labels = [row.label for row in results.rows]
    assert labels[1:3] == ["student distilled, temperature 1", "student distilled, temperature 4"]
    assert labels[-1] == "student distilled and pruned, temperature 4, sparsity 0.75"
    assert all(len(row.accuracy) == 2 for row in results.rows)
    pairs = [(row.label, other.label) for row, other, _ in comparisons(results)]
    assert (labels[1], labels[2]) in pairs
    assert (labels[2], labels[1]) not in pairs
    for row, sparsity in zip(results.rows[3:], (0.5, 0.75, 0.5, 0.75), strict=True):
        np.testing.assert_allclose(row.sparsity, sparsity, atol=0.01)
    together = sum(row.seconds for row in results.rows[3:])
    (facts,) = (run.folder / "prune").glob("*/done.json")
    assert together == pytest.approx(json.loads(facts.read_text())["seconds"])
    shown = tables.markdown([results])
    assert "student distilled, temperature 1" in shown
    assert "These are" in shown


@pytest.mark.slow
def test_curves_have_an_entry_a_seed_of_the_setting_alone(run):
    for stage in ("train", "distill/temperature=4", "prune/temperature=1,sparsity=0.75"):
        for record in run.history(stage):
            assert all(len(values) == 2 for values in record["train"].values())
    last = run.history("prune/temperature=1,sparsity=0.75")[-1]
    np.testing.assert_allclose(last["sparsity"], 0.75, atol=0.01)
    boards = {path.name for path in (run.folder / "distill").glob("*/tensorboard/seed-1/*")}
    assert boards == {"temperature=1", "temperature=4"}


def test_what_is_done_is_not_done_again(run):
    class Listening(Silent):
        notes: list = []  # noqa: RUF012

        def note(self, text):
            self.notes.append(text)

    pipeline.train(run, Listening())
    assert [note.split(":")[1] for note in Listening.notes] == [" done before"] * 3
    again = pipeline.open_run(_with_config(run), Silent())
    assert again.done == run.done


def _with_config(run):
    experiment = dataclasses.replace(tiny(sweep=SWEEP))
    pipeline.claim(experiment, run.folder)
    return run.folder
