"""Runs that begin with pre-trained weights from a file."""

import dataclasses
import json

import jax
import made_results
import numpy as np
import pytest
from calls import refused
from tiny import digits
from tiny_experiment import run_of, tiny

import kd_jax
from kd_jax import cli, pipeline, pretrained, summary, transfer
from kd_jax.config import Distill, Prune, Train, smoke
from kd_jax.distill import TERMS
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.loop import Silent
from kd_jax.models import MLP, ResNet
from kd_jax.notes import origins
from kd_jax.serialize import from_data, to_data
from kd_jax.tree import named_leaves

STUDENT = MLP(widths=(8,))
COMMON = {"epochs": 1, "batch": 32}
NOTHING_TRAINED = {"freeze": (".",), **COMMON}


def variables_of(config=STUDENT, classes=10, shape=(8, 8, 1)):
    """Different numbers everywhere."""
    module = config.build(classes, "float32")
    inputs = jax.ShapeDtypeStruct((1, *shape), "float32")
    shapes = jax.eval_shape(lambda k, x: module.init(k, x, False), jax.random.key(0), inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def weights(tmp_path, classes=10, name="mlp.safetensors"):
    """A file of the student's weights, and these."""
    file, variables = tmp_path / name, variables_of(classes=classes)
    pretrained.save(file, STUDENT, variables, "kd_jax")
    return file, variables["params"]


def one_stage(stage, **changes):
    return tiny(teacher=None, stages={"train": stage}, **changes)


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_run_begins_with_the_weights_and_says_so(tmp_path):
    file, params = weights(tmp_path)
    experiment = one_stage(Train(weights=str(file), **NOTHING_TRAINED))
    run = pipeline.prepare(experiment, tmp_path / "run", Silent())
    pipeline.claim(run.experiment, run.folder)
    report = Notes()
    pipeline.train(run, report)
    network = run.network("train", (0, 1))
    for path, leaf in named_leaves(network.params).items():
        expected = named_leaves(params)[path]
        np.testing.assert_array_equal(leaf, np.stack([expected] * 2), err_msg=path)
    assert any(
        note == "train begins with mlp.safetensors (kd_jax's layout, 4 tensors)"
        for note in report.notes
    )
    digest = pretrained.digest(file)
    facts = run.facts("train", (0, 1))
    assert (facts["weights"], facts["sha256"]) == ("mlp.safetensors", digest)
    saved = json.loads((run.folder / "config.json").read_text())
    assert saved["stages"]["train"]["weights_sha256"] == digest
    # What is done is evaluated without the file.
    file.unlink()
    opened = pipeline.open_run(run.folder, Silent())
    (row,) = summary.summarise(opened, "command", Silent()).rows
    assert row.weights == f"mlp.safetensors, SHA-256 {digest}"


def test_a_classifier_of_other_classes_is_fresh_as_that_of_its_seed(tmp_path):
    file, params = weights(tmp_path, classes=7)
    stages_ = {
        "given": Train(weights=str(file), **NOTHING_TRAINED),
        "fresh": Train(**NOTHING_TRAINED),
    }
    experiment = tiny(teacher=None, stages=stages_)
    run = pipeline.prepare(experiment, tmp_path / "run", Silent())
    report = Notes()
    pipeline.train(run, report)
    given, fresh = (run.network(stage, (0, 1)).params for stage in stages_)
    said = "mlp.safetensors (kd_jax's layout, 2 tensors); the classifier, in place of one of 7"
    assert f"given begins with {said} classes, is fresh" in report.notes
    for part in ("kernel", "bias"):
        np.testing.assert_array_equal(given["classifier"][part], fresh["classifier"][part])
    assert not np.array_equal(*given["classifier"]["kernel"])  # of two seeds
    body = [path for path in named_leaves(params) if not path.startswith("classifier")]
    for path in body:
        for seed in named_leaves(given)[path]:
            np.testing.assert_array_equal(seed, named_leaves(params)[path])


@pytest.mark.slow
def test_from_probe_to_a_pruned_student(tmp_path):
    """The whole way: the head alone, then all of it with a teacher that was only loaded, then
    pruned; and the weights are named for all of these."""
    file, params = weights(tmp_path, classes=7)
    big, config = tmp_path / "big.safetensors", MLP(widths=(16,))
    pretrained.save(big, config, variables_of(config), "kd_jax")
    kd = {"teacher": "teach", "terms": {"kd": TERMS["kd"]}, "gradient_norms": False}
    experiment = tiny(
        teacher=config,
        stages={
            "teach": Train(model="teacher", weights=str(big), **NOTHING_TRAINED),
            "probe": Train(weights=str(file), freeze=("^(?!classifier)",), **COMMON),
            "tune": Distill(start="probe", **kd, **COMMON),
            "prune": Prune(start="tune", sparsity=0.5, recalibrate=0, **COMMON),
        },
        seeds=1,
    )
    run = run_of(experiment, tmp_path / "run")
    probe, tune = (run.network(stage, (0,)).params for stage in ("probe", "tune"))
    hidden = next(name for name in params if name != "classifier")
    assert np.array_equal(probe[hidden]["kernel"][0], params[hidden]["kernel"])
    assert not np.array_equal(tune[hidden]["kernel"][0], params[hidden]["kernel"])
    came = [transfer.came_from(run, stage).partition(",")[0] for stage in run.experiment.stages]
    assert came == ["big.safetensors", *["mlp.safetensors"] * 3]


def test_the_report_says_whose_weights_they_were():
    results = made_results.make()
    assert not [line for line in origins([results]) if line.startswith("Pre-trained")]
    first, *others = results.rows
    first = dataclasses.replace(first, weights="big.safetensors, SHA-256 abc")
    results = dataclasses.replace(results, rows=[first, *others])
    (line,) = [line for line in origins([results]) if line.startswith("Pre-trained")]
    assert line == f"Pre-trained: {first.label} by big.safetensors, SHA-256 abc."


def test_a_pruning_stage_may_begin_with_them(tmp_path):
    file, params = weights(tmp_path)
    stage = Prune(weights=str(file), freeze=(".",), sparsity=0.5, recalibrate=0, **COMMON)
    run = run_of(one_stage(stage, seeds=1), tmp_path / "run")
    network = run.network("train", (0,))
    kernel, mask = (tree["classifier"]["kernel"][0] for tree in (network.params, network.masks))
    np.testing.assert_array_equal(kernel, np.where(mask, params["classifier"]["kernel"], 0))
    assert 0 < np.sum(mask) < mask.size


def test_what_is_computed_is_named_by_the_file_s_content(tmp_path):
    experiments = []
    for classes in (10, 7):  # another content under the same name
        file, _ = weights(tmp_path, classes)
        experiments.append(transfer.pinned(one_stage(Train(weights=str(file)))))
    folders = [pipeline.folder_of(experiment) for experiment in experiments]
    assert folders[0] != folders[1]
    assert from_data(to_data(experiments[0])) == experiments[0]
    assert transfer.pinned(experiments[1]) == experiments[1]
    with pytest.raises(UsageError, match=r"--train.weights .*: its SHA-256 is .* and not "):
        transfer.pinned(experiments[0])
    plain = tiny()
    assert transfer.pinned(plain) == plain


def test_a_plan_needs_no_file():
    run = pipeline.planned(one_stage(Train(weights="nowhere.safetensors", batch=32)))
    assert run.experiment.stages["train"].weights_sha256 == ""


def test_smoke_runs_begin_afresh(tmp_path):
    small = smoke(one_stage(Train(weights="nowhere", weights_sha256="0" * 64)))
    assert (small.stages["train"].weights, small.stages["train"].weights_sha256) == ("", "")


def test_the_api_has_it_as_a_start_and_writes_what_it_made(tmp_path):
    file, params = weights(tmp_path)
    stage, data, student = (
        Train(**NOTHING_TRAINED),
        digits(),
        from_linen(STUDENT.build(10, "float32")),
    )
    start = kd_jax.load_weights(file, STUDENT, student, data.spec.shape, seeds=(3, 4))
    network = kd_jax.fit(stage, student, data, start=start, seeds=(3, 4), devices=1)
    second = jax.tree.map(lambda x: x[1], network.variables)
    kd_jax.pretrained.save(tmp_path / "again", STUDENT, second, "kd_jax")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert np.array_equal(second["params"]["classifier"]["kernel"], params["classifier"]["kernel"])


# What is refused -----------------------------------------------------------------------------


def test_wrong_files_are_refused_before_training(call, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cli, "preset", lambda name: one_stage(Train(batch=32), out=str(tmp_path / "runs"))
    )
    file, _ = weights(tmp_path)
    ask = lambda *flags: refused(call, "run", "tiny", *flags)  # noqa: E731
    said = ask("--train.weights", tmp_path / "none")
    assert said.startswith(f"--train.weights {tmp_path / 'none'}: can't be read (No such file")
    said = ask("--train.weights", file, "--student.widths", 9)
    assert said.startswith(f"--train.weights {file}: it has the layout of kd_jax, but its params/")
    assert said.endswith("classifier/kernel is [8, 10], and this model's is [9, 10]")
    said = ask("--train.weights", file, "--student", "resnet20")
    assert said.startswith(f"--train.weights {file}: it has the layout of kd_jax, but lacks ")
    said = ask("--train.weights", file, "--train.weights-sha256", "0" * 64)
    assert said.endswith("leave weights-sha256 out, or take that file")
    said = ask("--train.weights", file, "--sweep", f"train.weights={file.name},other")
    assert "files of weights can't be swept: make a stage for each" in said
    said = ask("--train.freeze", "clasifier")
    assert said.startswith("--train.freeze pattern 'clasifier' finds no parameter")
    assert not (tmp_path / "runs").exists()


REFUSED = [
    ({"start": "other"}, "start 'other' with weights 'w': a stage begins with one network"),
    ({"weights_sha256": "abc"}, "weights-sha256 'abc': give the 64 hexadecimal digits"),
    ({"weights": "", "weights_sha256": "0" * 64}, "weights-sha256 '0+': give the 64"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_what_does_not_go_together(fields, message):
    with pytest.raises(UsageError, match=message):
        Train(**{"weights": "w", **fields})


def test_networks_that_no_file_is_of():
    with pytest.raises(UsageError, match="weights 'w': no file is of a network with peer-models"):
        Distill(weights="w", taught_by="peers", peer_models=("teacher",))
    with pytest.raises(UsageError, match="or with its teacher's classifier"):
        Distill(weights="w", classifier="teacher", teacher="train")


def test_a_network_of_another_family_is_named(tmp_path):
    file, _ = weights(tmp_path)
    config = ResNet(blocks=(1, 1, 1, 1), bottleneck=False, width=1 / 16)
    with pytest.raises(UsageError, match=r"layout of kd_jax, but lacks \S+ and \d+ more, which"):
        pretrained.look(file, config, variables_of(config))
    with pytest.raises(UsageError, match=r"lacks \S+ and 1 more, which"):
        pretrained.look(
            file, dataclasses.replace(STUDENT, widths=(8, 8)), variables_of(MLP(widths=(8, 8)))
        )
