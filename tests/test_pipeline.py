import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from tiny_experiment import fake_data, tiny

from kd_jax import jsons, pipeline, runs, stages
from kd_jax.config import ROLES, Distill, Experiment, Prune, Train
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.loop import Silent
from kd_jax.models import MODELS
from kd_jax.prune import Cubic, Iterative
from kd_jax.prune import masks as masks_lib
from kd_jax.serialize import fingerprint, from_data, to_data


class Told(Silent):
    """A reporter that keeps what it is told, and is interrupted where asked."""

    def __init__(self, interrupt=("", 0)):
        self.begun, self.notes, self.interrupt, self.stage = [], [], interrupt, ""

    def begin(self, stage, steps, done):
        self.stage = stage.split()[0]
        self.begun.append((stage, steps, done))

    def advance(self, step, examples_per_second):
        stage, last = self.interrupt
        if self.stage == stage and step >= last:
            raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)


def networks(run):
    return {
        stage: [run.network(stage, seeds) for seeds in run.groups]
        for stage in run.experiment.order()
    }


def assert_same_networks(one, other):
    assert one.keys() == other.keys()
    for stage in one:
        chex.assert_trees_all_equal(one[stage], other[stage])


def again(run, folder, **changes):
    """The same run in another folder; it shares the compiled programs."""
    return dataclasses.replace(
        run, folder=folder, experiment=dataclasses.replace(run.experiment, **changes)
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = tiny(out=str(tmp_path_factory.mktemp("runs")))
    folder = pipeline.folder_of(experiment)
    run = pipeline.prepare(experiment, folder, Silent())
    assert not folder.exists()  # nothing is written before all is checked
    pipeline.claim(experiment, folder)
    pipeline.train(run, Silent())
    return run


# What a run leaves ---------------------------------------------------------------------------


def test_the_folder_is_named_by_what_is_computed(run):
    experiment = run.experiment
    assert run.folder == Path(experiment.out) / f"tiny-{fingerprint(experiment)}"


def test_the_config_in_the_folder_is_complete(run):
    data = json.loads((run.folder / "config.json").read_text())
    data, fits = jsons.unsummed(data)
    assert fits
    assert data == json.loads(json.dumps(to_data(run.experiment)))
    assert from_data(data) == run.experiment


def test_every_stage_leaves_its_network_its_history_and_nothing_half_done(run):
    for stage in run.experiment.order():
        folder = run.folder / stage / "seeds-0-1"
        assert (folder / "done.json").exists()
        assert (folder / "final").is_dir()
        assert not (folder / "steps").exists()
        assert {p.name for p in (folder / "tensorboard").iterdir()} == {"seed-0", "seed-1"}
        history = run.store(stage, (0, 1)).history()
        assert [record["step"] for record in history] == [3, 6]
        assert run.store(stage, (0, 1)).facts()["steps"] == 6
    assert (run.folder / "distill" / "seeds-0-1" / "teacher_outputs.safetensors").exists()


def test_the_pruned_network_has_the_sparsity_asked_for(run):
    network = run.network("prune", (0, 1))
    kernels = [np.asarray(m) for m in jax.tree.leaves(network.masks)]
    assert [m.shape for m in kernels] == [(2, 8, 10), (2, 64, 8)]
    assert [int((~m).sum()) for m in kernels] == [2 * 40, 2 * 256]
    assert masks_lib.report(network.masks, network.params)["sparsity"] == 0.5
    for mask, name in zip(kernels, ("classifier", "dense1"), strict=True):
        assert (np.asarray(network.params[name]["kernel"])[~mask] == 0).all()


# Again, interrupted, in part -----------------------------------------------------------------


def test_a_second_call_skips_what_is_done(run):
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*") if p.is_file()}
    told = Told()
    pipeline.train(run, told)
    assert told.begun == []
    assert told.notes == [f"{stage} (seed 0 to 1): done before" for stage in run.experiment.order()]
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*") if p.is_file()} == before


def test_only_some_stages_run_alone_and_come_out_the_same(run, tmp_path):
    part = again(run, tmp_path, only=("train",))
    pipeline.train(part, Silent())
    assert [p.name for p in tmp_path.iterdir()] == ["train"]
    chex.assert_trees_all_equal(part.network("train", (0, 1)), run.network("train", (0, 1)))


def test_an_interrupted_stage_goes_on_from_its_checkpoint_to_the_same_networks(run, tmp_path):
    part = again(run, tmp_path, checkpoint_seconds=1e-9)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(part, Told(interrupt=("prune", 4)))
    steps = tmp_path / "prune" / "seeds-0-1" / "steps"
    wait_for(lambda: (steps / "3").is_dir())
    told, store = Told(), part.store("prune", (0, 1))
    store.spend(1000.0)  # seconds before the interruption
    pipeline.train(part, told)
    assert 1000.0 < store.facts()["seconds"] < 1100.0
    assert told.begun == [("prune (seed 0 to 1)", 6, 3)]
    assert told.notes[:2] == [
        "train (seed 0 to 1): done before",
        "distill (seed 0 to 1): done before",
    ]
    assert_same_networks(networks(part), networks(run))
    assert store.history() == run.store("prune", (0, 1)).history()


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


LONG = Prune(batch=32, epochs=60, sparsity=0.75, schedule=Cubic(every=7), ema=0.9)

KILLED = """
import sys
from pathlib import Path
from test_pipeline import killed
from kd_jax import pipeline
from kd_jax.loop import Silent
folder = Path(sys.argv[1])
run = pipeline.prepare(killed(1e-9), folder, Silent())
pipeline.claim(run.experiment, folder)
pipeline.train(run, Silent())
"""


def killed(checkpoint_seconds):
    return tiny(teacher=None, stages={"prune": LONG}, checkpoint_seconds=checkpoint_seconds)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_networks_of_one_that_was_not(tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(folder)]
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    process = subprocess.Popen(command, cwd=Path(__file__).parent, env=environment)
    steps = folder / "prune" / "seeds-0-1" / "steps"
    try:
        wait_for(lambda: process.poll() is not None or any(steps.glob("[1-9]*[0-9]")))
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "prune" / "seeds-0-1" / "done.json").exists()

    whole = pipeline.prepare(killed(60.0), tmp_path / "whole", Silent())
    pipeline.train(whole, Silent())
    resumed, told = again(whole, folder), Told()
    pipeline.train(resumed, told)
    assert len(told.begun) == 1
    assert 0 < told.begun[0][2] < 180
    assert_same_networks(networks(resumed), networks(whole))
    store = resumed.store("prune", (0, 1))
    assert store.history() == whole.store("prune", (0, 1)).history()


def test_seeds_together_or_one_after_another_learn_the_same(run, tmp_path):
    apart = again(run, tmp_path, together=False, only=("distill",))
    pipeline.train(apart, Silent())
    assert apart.groups == [(0,), (1,)]
    for stage in ("train", "distill"):
        both = run.network(stage, (0, 1))
        model = run.model(stage)
        for i in (0, 1):
            alone = apart.network(stage, (i,))
            one = jax.tree.map(lambda x, i=i: x[i : i + 1], both)
            chex.assert_trees_all_close(alone.params, one.params, atol=1e-4)
            measured, expected = (stages.evaluate(model, run.data, x) for x in (alone, one))
            assert abs(measured["accuracy"][0] - expected["accuracy"][0]) <= 1 / 40
            np.testing.assert_allclose(
                measured["cross_entropy"], expected["cross_entropy"], atol=1e-4
            )


# From its folder -----------------------------------------------------------------------------


def test_a_run_is_opened_from_its_folder(run):
    opened = pipeline.open_run(run.folder, Silent())
    assert opened.experiment == run.experiment
    assert_same_networks(networks(opened), networks(run))
    assert pipeline.open_run(run.folder, Silent(), "/data").experiment.data.dir == "/data"


def test_a_run_of_other_devices_is_opened_here(tmp_path):
    experiment = tiny(devices=64)
    pipeline.claim(experiment, tmp_path)
    assert pipeline.open_run(tmp_path, Silent()).experiment.devices == 64
    with pytest.raises(UsageError, match=r"^--devices 64: there are only 8 \(cpu\)"):
        pipeline.prepare(experiment, tmp_path, Silent())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no config.json here, so no run of kd_jax"),
        (b"", r"config\.json: damaged \("),
        (b"{", r"config\.json: damaged \("),
        (b"\xff\xfe\x00", r"config\.json: damaged \("),
        (b"[]", r"config\.json: damaged \(it holds no Experiment\)"),
        (b"3", r"config\.json: damaged \(it holds no Experiment\)"),
        (b'{"class": "MLP"}', r"config\.json: damaged \(it holds no Experiment\)"),
        (b'{"class": "Nothing"}', r"config\.json: config: unknown class 'Nothing'"),
        (b'{"class": "Experiment"}', r"config\.json: damaged \(.*name"),
        (b'{"class": "Experiment", "name": "x", "sedes": 3}', r"no field 'sedes'.*'seeds'"),
    ],
)
def test_a_folder_that_holds_no_run_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match=said) as error:
        pipeline.open_run(tmp_path, Silent())
    assert str(tmp_path) in str(error.value)


def test_a_stage_that_is_not_done_or_damaged_is_named(run, tmp_path):
    part = again(run, tmp_path)
    with pytest.raises(UsageError, match=r"stage 'train' is not finished: .*run\.py run tiny"):
        part.network("train", (0, 1))
    folder = part.store("train", (0, 1)).folder
    folder.mkdir(parents=True)
    (folder / "done.json").write_text("{")
    with pytest.raises(UsageError, match=r"seeds-0-1/done\.json: damaged \(.*\): delete it, and"):
        pipeline.train(part, Silent())
    (folder / "done.json").write_text("{}")
    with pytest.raises(UsageError, match=r"/final: damaged \(.*\): delete .*/train/seeds-0-1, and"):
        part.network("train", (0, 1))


# Before training -----------------------------------------------------------------------------


def prepared(**changes):
    stages = dict(tiny().stages)
    for name, fields in changes.pop("stages", {}).items():
        stages[name] = dataclasses.replace(stages[name], **fields)
    return pipeline.prepare(tiny(stages=stages, **changes), Path("nowhere"), Silent())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"devices": 9}, r"--devices 9: there are only 8 \(cpu\)"),
        ({"devices": 3}, r"--train\.batch 32 does not divide over 3 devices: use a multiple"),
        ({"stages": {"prune": {"batch": 97}}}, r"--prune\.batch 97 is larger than the 96 training"),
        ({"stages": {"prune": {"epochs": 10**9}}}, r"--prune\.epochs 1000000000 make"),
        ({"stages": {"prune": {"include": ("x",)}}}, r"--prune\.include pattern 'x' finds no"),
        (
            {"stages": {"prune": {"exclude": (".",)}}},
            r"--prune\.include .* leaves nothing to prune",
        ),
        (
            {"stages": {"prune": {"schedule": Iterative(rounds=7)}}},
            r"--prune\.schedule\.rounds is 7, but the run has 6 steps",
        ),
        (
            {"student": MODELS["lenet5"]},
            r"--student LeNet \(stage distill\) can't take inputs of shape \(8, 8, 1\), .* digits",
        ),
        ({"teacher": MODELS["deit_tiny"]}, r"--teacher ViT \(stage train\) can't take inputs"),
    ],
)
def test_all_that_can_be_known_is_checked_before_training(changes, said):
    with pytest.raises(UsageError, match=f"^{said}"):
        prepared(**changes)


def test_stages_that_are_not_run_are_not_checked_against_the_data():
    prepared(only=("train",), student=MODELS["lenet5"], stages={"prune": {"batch": 97}})


def test_an_experiment_without_stages_is_refused():
    with pytest.raises(UsageError, match="'tiny' has no stages"):
        pipeline.prepare(tiny(stages={}), Path("nowhere"), Silent())


def test_streamed_data_can_not_train_seeds_together(monkeypatch):
    data = dataclasses.replace(fake_data("digits"), streamed=True)
    monkeypatch.setattr(pipeline, "load", lambda *_: data)
    with pytest.raises(UsageError, match=r"^--together True: digits is streamed from disk"):
        prepared()
    prepared(together=False)
    prepared(seeds=1)


def test_a_folder_that_can_not_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc/x"), "a\0b"):
        experiment = tiny(out=str(out))
        with pytest.raises(UsageError, match=rf"^--out {out}: can't write to .*choose another"):
            pipeline.claim(experiment, pipeline.folder_of(experiment))


# Names ---------------------------------------------------------------------------------------


def test_folders_of_many_seeds_have_short_names_of_their_own(run):
    name = lambda seeds: run.store("train", tuple(seeds)).folder.name  # noqa: E731
    assert name([7]) == "seeds-7"
    assert name(range(3)) == "seeds-0-1-2"
    assert name(range(10_000)) == "seeds-0-to-9999"
    names = [name(range(first, first + n)) for first in (0, 1, 12) for n in range(1, 40)]
    assert len(set(names)) == len(names)


def test_groups_of_seeds(run):
    assert again(run, run.folder, seed=5, seeds=3).groups == [(5, 6, 7)]
    assert again(run, run.folder, seed=5, seeds=3, together=False).groups == [(5,), (6,), (7,)]


def test_labels_and_the_network_to_compare_with():
    def made(**fields) -> runs.Run:
        model = from_linen(MODELS["resnet8"].build(10, "float32"))
        models = dict.fromkeys(ROLES, model)
        return runs.Run(Experiment(name="x", **fields), Path("x"), fake_data("digits"), models)

    stages = {
        "alone": Train(),
        "train": Train(model="teacher"),
        "distill": Distill(),
        "prune": Prune(start="distill"),
        "more": Prune(start="prune", sparsity=0.9),
        "next": Distill(teacher="distill"),
    }
    run = made(teacher=MODELS["vgg8"], stages=stages)
    assert run.label("train") == "teacher"
    assert run.label("alone") == "student alone"
    assert run.label("distill") == "student distilled"
    assert run.label("prune") == "student distilled and pruned"
    order = run.experiment.order()
    assert [run.reference(stage, order) for stage in ("train", "alone", "prune")] == ["train"] * 3
    assert run.reference("next", order) == "distill"  # its own teacher
    assert run.reference("next", ("alone", "next")) == "alone"
    chain = {
        "train": Train(model="teacher"),
        "ta": Distill(model="assistant"),
        "ta_alone": Train(model="assistant"),
        "distill": Distill(teacher="ta"),
        "both": Distill(teacher="ta+train"),
        "prune": Prune(start="distill"),
        "alone": Train(),
        "again": Distill(teacher="alone"),
        "third": Distill(teacher="again"),
        "kept": Prune(start="third"),
        "ban": Distill(model="teacher", teacher="train"),
        "more": Distill(teacher="both"),
    }
    run = made(teacher=MODELS["vgg8"], assistant=MODELS["resnet8"], stages=chain)
    assert {name: run.label(name) for name in chain} == {
        "train": "teacher",
        "ta": "assistant distilled",
        "ta_alone": "assistant alone",
        "distill": "student distilled by assistant",
        "both": "student distilled",
        "prune": "student distilled by assistant and pruned",
        "alone": "student alone",
        "again": "student, generation 1",
        "third": "student, generation 2",
        "kept": "student, generation 2, pruned",
        "ban": "teacher, generation 1",
        "more": "student distilled, generation 1",
    }
    order = run.experiment.order()
    assert [run.reference(stage, order) for stage in ("ta", "distill", "third")] == [
        *("train", "ta", "again"),
    ]
    single = made(stages={"train": Train(), "prune": Prune(start="train")})
    assert single.label("train") == "student"
    assert single.label("prune") == "student and pruned"
    assert single.reference("prune", single.experiment.order()) == "train"
