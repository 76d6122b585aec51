"""Examples that stand in two splits, and labels that are no class."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
import tiny_runs
from tiny_experiment import tiny as tiny_experiment

from kd_jax import data as data_lib
from kd_jax import leaks, pipeline
from kd_jax.data import Split
from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.loop import only_guesses
from kd_jax.optim import Optim


def changed(**splits):
    return dataclasses.replace(tiny.digits(), **splits)


def with_images(split, inputs):
    return Split(inputs, split.labels, split.ids)


def test_a_set_in_which_all_is_well_gives_no_note():
    assert not leaks.notes(tiny.digits())


def test_images_of_two_splits_and_images_that_come_again():
    data = tiny.digits()
    test, train = data.test.inputs.copy(), data.train.inputs.copy()
    test[:3] = train[5]
    test[3] = data.validation.inputs[0]
    train[7] = train[6]
    found = leaks.notes(
        changed(test=with_images(data.test, test), train=with_images(data.train, train))
    )
    assert found == [
        "warning: 3 of 24 test images are train images too",
        "warning: 1 of 24 test images are validation images too",
        "warning: 1 of 64 train images are there before",
        "warning: 2 of 24 test images are there before",
    ]


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_refused(label):
    validation = tiny.digits().validation
    labels = validation.labels.copy()
    labels[2] = label
    data = changed(validation=Split(validation.inputs, labels, validation.ids))
    said = rf"1 of 24 validation examples .* of the 10 classes, the first {label} \(example 2\)"
    with pytest.raises(UsageError, match=said):
        leaks.notes(data)


def test_a_run_tells_of_them_before_it_trains(tmp_path, monkeypatch):
    original = data_lib.load

    def leaking(config, on_progress=None):
        data = original(config, on_progress)
        test = data.test.inputs.copy()
        test[0] = data.train.inputs[0]
        return dataclasses.replace(data, test=with_images(data.test, test))

    monkeypatch.setattr(pipeline, "load", leaking)
    diary = tiny_runs.Diary()
    pipeline.prepare(tiny_experiment(), tmp_path, diary)
    assert [note for note in diary.notes if "train images too" in note]


def test_a_network_and_a_teacher_that_only_guess_are_told_of():
    """A rate of nearly nothing leaves the network as it began."""
    still = dataclasses.replace(tiny_runs.DISTILL, optim=Optim(learning_rate=1e-9))
    start = tiny_runs.taught(2)[1]
    params = {
        **start.params,
        "classifier": {k: 0 * x for k, x in start.params["classifier"].items()},
    }
    params["classifier"]["bias"] = params["classifier"]["bias"].at[:, 3].set(9.0)
    one_class = dataclasses.replace(start, params=params)
    _, diary = tiny_runs.fit(still, teacher=(tiny.perceptron(), one_class), start=one_class)
    share = np.mean(tiny.digits().validation.labels == 3)
    assert share <= 0.12
    frequent = np.bincount(tiny.digits().validation.labels).max() / len(tiny.digits().validation)
    assert diary.notes[1:] == [
        "warning: the teacher is no better than a guess: there is nothing to learn",
        "warning: no better than a guess at one of 10 classes, the most frequent of which is "
        f"{100 * frequent:.2f} % of all: seed 0, 1",
    ]


def test_of_unbalanced_classes_who_always_names_the_most_frequent_only_guesses():
    """Accuracy 60 %: far better than a tenth, and nothing was learned."""
    data = tiny.digits()
    order = np.argsort(data.train.labels != 3, kind="stable")
    threes = np.sum(data.train.labels == 3)
    unbalanced = data.train.take(order[: int(threes / 0.6)])
    still = dataclasses.replace(tiny_runs.TRAIN, optim=Optim(learning_rate=1e-9))
    start = tiny_runs.taught(2)[1]
    one_class = jax.tree.map(np.zeros_like, start.params["classifier"])
    one_class["bias"][:, 3] = 9.0
    given = dataclasses.replace(start, params={**start.params, "classifier": one_class})
    _, diary = tiny_runs.fit(still, data=changed(validation=unbalanced), start=given)
    assert diary.notes == [
        "warning: no better than a guess at one of 10 classes, the most frequent of which is "
        "60.00 % of all: seed 0, 1"
    ]
    assert only_guesses([0.1, 0.6, 0.61], 10, 0.6).tolist() == [True, True, False]


def test_without_validation_a_network_that_only_guesses_is_told_of_by_what_it_said():
    data = tiny.digits()
    nothing = changed(validation=data.validation.take(np.arange(0)))
    still = dataclasses.replace(tiny_runs.TRAIN, optim=Optim(learning_rate=1e-9))
    start = tiny_runs.taught(2)[1]
    dead = jax.tree.map(np.zeros_like, start.params["classifier"])
    dead["bias"][:, 3] = 9.0
    both_dead = dataclasses.replace(start, params={**start.params, "classifier": dead})
    _, diary = tiny_runs.fit(still, data=nothing, start=both_dead)
    assert np.mean(data.train.labels == 3) <= 0.12
    frequent = np.bincount(data.train.labels).max() / len(data.train)
    assert diary.notes == [
        "warning: no better than a guess at one of 10 classes, the most frequent of which is "
        f"{100 * frequent:.2f} % of all: seed 0, 1"
    ]


class Wrong:
    """Examples of which the third has a label that is none."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return np.full((8, 8, 1), index, np.uint8), 57 if index == 2 else index % 10


def test_labels_of_a_streamed_set_are_looked_at_when_they_come():
    data = data_lib.streamed(Data(validation=0.25), tiny.digits().spec, Wrong(), Wrong())
    said = "the set is streamed: images that come twice, or in two splits, are not looked for"
    assert leaks.notes(data) == [said]
    once = dataclasses.replace(tiny_runs.TRAIN, epochs=2, batch=4)
    refused = "^example 2 has the label 57, which is none of the 10 classes: mend the set$"
    with pytest.raises(UsageError, match=refused):
        tiny_runs.fit(once, data=data, seeds=(0,))
