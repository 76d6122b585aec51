"""Images that nobody took."""

import dataclasses

import numpy as np
import pytest

from kd_jax import UsageError
from kd_jax.data import load
from kd_jax.datasets import Data


def made(**changes):
    return load(Data(**{"name": "cifar100", "synthetic": True, **changes}))


def test_they_have_the_form_of_the_set_and_another_name():
    data = made(train_limit=300, test_limit=100)
    assert (len(data.train), len(data.test)) == (300, 100)
    assert data.train.inputs.shape == (300, 32, 32, 3)
    assert data.train.inputs.dtype == np.uint8
    assert data.spec.classes == 100
    assert data.spec.name == "synthetic cifar100"
    assert "mean nothing" in data.spec.note


def test_they_are_the_same_each_time_and_classes_can_be_told():
    one, two = (made(name="mnist", train_limit=200, test_limit=50) for _ in range(2))
    np.testing.assert_array_equal(one.train.inputs, two.train.inputs)
    of = lambda label: one.train.inputs[one.train.labels == label].mean()  # noqa: E731
    own = [of(label) for label in range(10)]
    nearest = [int(np.argmin(np.abs(np.asarray(own) - x.mean()))) for x in one.test.inputs]
    assert np.mean(np.asarray(nearest) == one.test.labels) > 0.5


def test_images_of_any_size_get_one():
    data = made(name="imagenet2012", image_size=16, train_limit=40, test_limit=20)
    assert data.train.inputs.shape == (40, 16, 16, 3)
    assert data.spec.classes == 1000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "svhn"}, "the form of svhn is not written down"),
        ({"name": "imagenet2012"}, "--data.image-size"),
        ({"name": "imagenet2012", "image_size": 224}, "set --data.train-limit"),
    ],
)
def test_what_can_not_be_made_is_told(changes, words):
    with pytest.raises(UsageError, match=words):
        made(**changes)


def test_it_names_a_run_of_its_own():
    from kd_jax.config import Experiment
    from kd_jax.serialize import fingerprint

    of = lambda data: fingerprint(Experiment(name="x", data=data))  # noqa: E731
    data = Data(name="mnist")
    assert of(data) != of(dataclasses.replace(data, synthetic=True))
