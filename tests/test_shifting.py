"""Biases of a classifier, shifted by as much as validation examples say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_experiment import fake_data, run_of
from tiny_experiment import tiny as experiment
from tiny_runs import Diary

from kd_jax import encode, export, files, pipeline, shifting, stages
from kd_jax.config import Distill, Fuse, Quantize, Shift, Train, smoke
from kd_jax.data import Split
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.forward import from_apply, from_linen
from kd_jax.loop import Silent
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.shifting import NEAR, best_shift, shifted
from kd_jax.state import network

SEEDS = (0, 1)
OTHERS = (0, 1, 2, 4, 5, 6, 7, 8, 9)
COMMON = {"batch": 32, "optim": Optim(learning_rate=0.1)}
STAGES = {
    "train": Train(model="teacher", epochs=8, **COMMON),
    "without": Distill(epochs=8, labels=OTHERS, terms={"kd": KD(temperature=4.0)}, **COMMON),
    "shifted": Shift(start="without", classes=(3,), **COMMON),
    "bits": Quantize(start="shifted", bits=4, **COMMON),
    "lowered": Shift(start="bits", classes=(1, 7), by=-2.0, **COMMON),
}


@pytest.mark.parametrize(
    ("logits", "labels", "classes", "best"),
    [
        # Those of class 1 lie above 1 and 3, the other one below 6.
        ([[1, 0], [3, 0], [6, 0]], [1, 1, 0], [1], 3 + NEAR),
        # Above -5 and -7, and below -2.
        ([[0, 2], [0, 5], [0, 7]], [0, 1, 1], [1], -2 - NEAR),
        # All are right as they are.
        ([[1, 0], [0, 1]], [0, 1], [1], 0),
        # Below 1 and above 2: one of them.
        ([[1, 0], [2, 0]], [0, 1], [1], 0),
        # Two are right between -2 and -1, and above 4.
        ([[0, 1], [4, 0], [0, 2]], [0, 1, 1], [1], -1 - NEAR),
        ([[1, 0], [1.01, 0]], [1, 0], [1], 1.005),
        # Of two classes that are shifted, the better one is taken: above 4 - 1.
        ([[4, 1, 0], [9, 0, 1]], [1, 0], [1, 2], 3 + NEAR),
        # The second never is, as 2 stays ahead of 1.
        ([[4, 1, 0], [9, 0, 1]], [1, 1], [1, 2], 3 + NEAR),
        # A tie, at which argmax takes the first, is no shift to choose.
        ([[0, 0], [0, 0]], [1, 1], [1], NEAR),
        ([[np.nan, np.nan], [np.nan, np.inf]], [0, 1], [1], 0),
    ],
)
def test_the_best_shift_by_hand(logits, labels, classes, best):
    found = best_shift(np.asarray(logits, np.float32), np.asarray(labels), classes)
    assert found == pytest.approx(best, abs=1e-6)


def test_no_shift_of_a_fine_grid_is_better():
    random = np.random.default_rng(0)
    for _ in range(20):
        logits, labels = random.normal(size=(30, 5)), random.integers(5, size=30)
        classes = random.choice(5, size=random.integers(1, 5), replace=False)
        named = np.isin(np.arange(5), classes)
        right = lambda b: np.sum(np.argmax(logits + b * named, -1) == labels)  # noqa: B023, E731
        grid = np.linspace(-6, 6, 2401)
        found, most = best_shift(logits, labels, classes), max(right(b) for b in grid)
        assert right(found) >= most
        if right(found) == most:
            nearest = min(abs(b) for b in grid if right(b) == most)
            assert abs(found) <= nearest + NEAR


def linear(scale=1.0):
    """Logits inputs + scale · bias; two examples, right where the bias of class 1 is raised by 5 to
    9."""
    variables = {"params": {"classifier": {"bias": jnp.zeros(3)}}}

    def apply(variables, inputs, train):
        return inputs.reshape(-1, 3) + scale * variables["params"]["classifier"]["bias"][None]

    spec = dataclasses.replace(
        fake_data("digits", 1).spec, classes=3, size=(1, 3), mean=(0.0,), std=(1.0,), scale=1.0
    )
    inputs = np.asarray([[5, 0, 0], [0, 0, 9]], np.uint8).reshape(2, 1, 3, 1)
    split = Split(inputs, np.asarray([1, 2], np.int32), np.arange(2, dtype=np.int32))
    data = dataclasses.replace(fake_data("digits", 1), spec=spec, train=split, validation=split)
    return from_apply(apply, variables), data, network(variables["params"], {}, 2)


def test_each_seed_has_a_shift_of_its_own():
    model, data, begun = linear()
    begun = begun.replace(params={"classifier": {"bias": jnp.asarray([[0.0, 0, 0], [0, 2, 0]])}})
    found, amounts = shifted(Shift(start="x", classes=(1,)), model, data, begun)
    assert amounts == pytest.approx([5 + NEAR, 3 + NEAR])
    bias = found.params["classifier"]["bias"]
    np.testing.assert_allclose(bias, [[0, amounts[0], 0], [0, 2 + amounts[1], 0]], rtol=1e-6)


def test_a_given_shift_is_added_as_it_is():
    model, data, begun = linear()
    given = Shift(start="x", classes=(2, 0), by=-1.5)
    found, amounts = shifted(given, model, data, begun)
    assert amounts.tolist() == [-1.5, -1.5]
    np.testing.assert_array_equal(found.params["classifier"]["bias"], [[-1.5, 0, -1.5]] * 2)


def test_a_bias_that_is_not_added_to_logits_is_refused():
    model, data, begun = linear(scale=0.5)
    with pytest.raises(UsageError, match=r"^bias 'classifier/bias\$': what is added .* not what"):
        shifted(Shift(start="x", classes=(1,)), model, data, begun)


def test_a_pruned_bias_stays_zero():
    model, data, begun = linear()
    mask = jnp.asarray([[True, False, True]] * 2)
    begun = begun.replace(masks={"classifier": {"bias": mask}})
    with pytest.raises(UsageError, match=r"is pruned, and what is pruned stays zero"):
        shifted(Shift(start="x", classes=(1,), by=1.0), model, data, begun)
    shifted(Shift(start="x", classes=(0,), by=1.0), model, data, begun)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("shift"), Data(train_limit=600)
    return run_of(experiment(stages=STAGES, data=data, out=str(folder)), folder / "run")


def classifier(run, stage):
    return np.asarray(run.network(stage, SEEDS).params["classifier"]["bias"])


@pytest.mark.slow
def test_it_raises_the_recall_of_a_class_never_shown(run):
    known = {
        (stage, split): stages.evaluate(
            run.model(stage), run.data, run.network(stage, SEEDS), split
        )
        for stage in ("without", "shifted")
        for split in ("validation", "test")
    }
    recall = lambda stage: np.asarray(known[stage, "test"]["class_accuracy"])[:, 3]  # noqa: E731
    assert np.all(recall("shifted") > recall("without") + 0.1)
    for before, after in zip(
        known["without", "validation"]["accuracy"],
        known["shifted", "validation"]["accuracy"],
        strict=True,
    ):
        assert after > before


def test_nothing_else_changes(run):
    before, after = (run.network(stage, SEEDS).params for stage in ("without", "shifted"))
    gained = after["classifier"]["bias"] - before["classifier"]["bias"]
    assert np.all(gained[:, 3] > 0)
    assert gained[0, 3] != gained[1, 3]
    np.testing.assert_array_equal(np.delete(gained, 3, axis=1), 0)
    after["classifier"]["bias"] = before["classifier"]["bias"]
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_quantised_networks_can_be_shifted_too(run):
    gained = classifier(run, "lowered") - classifier(run, "bits")
    np.testing.assert_allclose(gained[:, [1, 7]], -2, rtol=1e-6)
    assert run.label("lowered") == "student distilled, biases shifted, quantised, biases shifted"
    assert run.baselines("lowered", run.experiment.order()) == ("bits",)


def test_what_is_done_is_done(run):
    diary = Diary()
    pipeline.train(run, diary)
    assert "shifted (seed 0 to 1): done before" in diary.notes
    assert not any("biases of" in note for note in diary.notes)


def test_it_says_by_how_much(run):
    diary = Diary()
    pipeline._start(run, ("shifted",), SEEDS, diary)
    gained = (classifier(run, "shifted") - classifier(run, "without"))[:, 3]
    said = f"by {gained[0]:+.2f} (seed 0), {gained[1]:+.2f} (seed 1)"
    assert diary.notes == [f"shifted: biases of 3 shifted {said}"]


def test_it_is_a_network_like_any_other_in_files(run, tmp_path):
    path = tmp_path / "network.kdz"
    path.write_bytes(files.encoded(run, "lowered", 1).data)
    bias = encode.load(path).snapshot.params["classifier"]["bias"]
    np.testing.assert_array_equal(np.asarray(bias)[0], classifier(run, "lowered")[1])
    (file,), _ = export.export(run, "shifted", 0, ("safetensors",), tmp_path)
    assert file.check.changed == 0
    said = (tmp_path / "README.md").read_text()
    assert "biases of the classes 3 shifted" in said
    assert "on the labels 0 1 2 4 5 6 7 8 9 alone" in said


def test_settings_that_are_swept_are_shifted_one_by_one():
    swept = dataclasses.replace(experiment(stages=STAGES), sweep=("lowered.by=-1,-2",))
    run = pipeline.prepare(swept, pipeline.folder_of(swept), Silent())
    assert run.members("lowered/by=-1") == ("lowered/by=-1",)
    swept = dataclasses.replace(swept, sweep=("without.temperature=2,4",))
    run = pipeline.prepare(swept, pipeline.folder_of(swept), Silent())
    assert len(run.members("without/temperature=2")) == 2
    assert run.members("shifted/temperature=2") == ("shifted/temperature=2",)


def test_smoke_leaves_a_stage_of_few_labels_enough():
    few = {**STAGES, "without": dataclasses.replace(STAGES["without"], labels=(7,), epochs=30)}
    small = smoke(experiment(stages=few))
    assert small.stages["without"].labels == (7,)
    pipeline.prepare(small, pipeline.folder_of(small), Silent())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": ""}, "start is empty: name the stage whose network is to be shifted"),
        ({"classes": ()}, "classes is empty: name those whose biases"),
        ({"classes": (3, 3)}, "classes 3 3: one is named twice"),
        ({"bias": "("}, "bias '(' is no regular expression"),
        ({"by": float("nan")}, "by is nan"),
    ],
)
def test_descriptions_that_make_no_sense(fields, said):
    with pytest.raises(UsageError) as error:
        Shift(**{"start": "train", "classes": (3,)} | fields)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"classes": (3, 10)}, "classes 3 10: digits has the labels 0 to 9: name some of these"),
        ({"classes": tuple(range(10))}, "classes 0 1 2 3 4 5 6 7 8 9: where all are shifted"),
        (
            {"bias": "bias$"},
            "bias 'bias$' finds classifier/bias, dense1/bias, and not the one parameter of 10 "
            "numbers that is meant: change it. There are: classifier/bias",
        ),
        ({"bias": "dense1/bias"}, "bias 'dense1/bias' finds dense1/bias, and not the one"),
        ({"bias": "head"}, "bias 'head' finds nothing, and not the one parameter"),
    ],
)
def test_a_shift_that_does_not_fit_the_network(fields, said):
    given = Shift(**{"start": "train", "classes": (3,)} | fields)
    model = from_linen(MLP(widths=(4,)).build(10, "float32"))
    with pytest.raises(UsageError) as error:
        shifting.check(given, model, fake_data("digits", 20))
    assert str(error.value).startswith(said)


def prepared(**changes):
    given = experiment(**changes)
    return pipeline.prepare(given, pipeline.folder_of(given), Silent())


def test_without_validation_examples_a_shift_is_given():
    data = Data(train_limit=96, test_limit=40, validation=0.0)
    with pytest.raises(UsageError, match=r"^--shifted.by None is found by validation examples"):
        prepared(stages=STAGES, data=data)
    prepared(stages=STAGES | {"shifted": dataclasses.replace(STAGES["shifted"], by=1.0)}, data=data)


def test_an_ensemble_has_no_biases_of_its_own():
    both = {
        "train": STAGES["train"],
        "both": Fuse(model="teacher", of=("train",), across="seeds"),
        "shifted": Shift(model="teacher", start="both", classes=(3,)),
    }
    with pytest.raises(UsageError, match="is an ensemble, and can't be gone on from"):
        experiment(stages=both)
