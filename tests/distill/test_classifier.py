"""Losses that read the networks' classifiers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import F_S, F_T, SMALL, Z_S, Z_T, agrees
from made_lessons import lesson, own

from kd_jax.distill import CATKD, SRRL, SimKD
from kd_jax.distill.classifier import activations, mean_of_places
from kd_jax.errors import UsageError


def test_regression_by_softmax_is_that_of_the_reference():
    agrees(
        lambda f, z: SRRL(beta=5.0)(mean_of_places(f), mean_of_places(F_T), z, Z_T),
        [F_S, Z_S],
        76.21497410892588,
        7.962557958965160595,
    )


def test_the_teachers_classifier_reads_the_students_features():
    given = lesson()
    term, carried = SRRL(), own(SRRL(), given)
    classifier = given.teacher_params["classifier"]
    features = given.student.features["stage3"]
    e_s = mean_of_places(jax.nn.relu(_normed(carried.params, features)))
    z_s = e_s @ classifier["kernel"] + 0.5
    shifted = {"classifier": {**classifier, "bias": jnp.full(6, 0.5)}}
    value, _ = term.evaluate(carried, dataclasses.replace(given, teacher_params=shifted))
    by_feature = jnp.mean((e_s - given.teacher.features["pooled"]) ** 2, axis=-1)
    by_logits = jnp.mean((z_s - given.teacher.logits) ** 2, axis=-1)
    np.testing.assert_allclose(value, by_feature + by_logits, rtol=1e-4)


def _normed(params, x):
    x = x @ params["conv"]["kernel"][0, 0]
    return (x - x.mean((0, 1, 2), keepdims=True)) / jnp.sqrt(x.var((0, 1, 2), keepdims=True) + 1e-5)


@pytest.mark.parametrize(
    ("term", "params", "message"),
    [
        (SRRL(), None, "teacher-classifier classifier: there is no linear layer; give the path"),
        (SRRL(teacher_classifier="a/b"), {"a": {}}, "the last one, among a"),
        (SRRL(), {"classifier": {"kernel": jnp.zeros((3, 6))}}, "it takes 3 channels, and .* 8:"),
        (SRRL(), {"classifier": {"kernel": jnp.zeros((1, 1, 8, 6))}}, "there is no linear layer"),
        (CATKD(), {"head": {}}, "teacher-classifier classifier: there is no linear layer"),
    ],
)
def test_a_classifier_that_is_not_there_is_named(term, params, message):
    given = dataclasses.replace(lesson(), teacher_params=params)
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(term.evaluate, own(SRRL(), given), given)


def test_there_is_one_classifier():
    two = [(F_S, F_T)] * 2
    for term in (SRRL(), CATKD()):
        with pytest.raises(UsageError, match=r"^student-taps: 2 features; name what"):
            term.connectors(jax.random.key(0), two)


def test_activation_maps_add_up_to_the_logits():
    given = lesson()
    layer = given.teacher_params["classifier"]
    logits = given.teacher.features["pooled"] @ layer["kernel"]
    maps = activations(layer, given.teacher.features["stage3_pre"])
    np.testing.assert_allclose(mean_of_places(maps), logits, rtol=1e-4, atol=1e-5)


def test_activation_maps_are_compared_where_they_are_small():
    f, g = jnp.asarray(F_S, jnp.float32), jnp.asarray(F_T, jnp.float32)
    pooled = (F_S - F_T).reshape(4, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(CATKD()(f, g), np.mean(pooled**2, (1, 2, 3)), rtol=1e-4)
    fine = CATKD(resolution=4)(f, g)
    np.testing.assert_allclose(fine, np.mean((F_S - F_T) ** 2, (1, 2, 3)), rtol=1e-4)


def test_normalised_maps_have_no_size():
    f, g = jnp.asarray(F_S, jnp.float32), jnp.asarray(F_T, jnp.float32)
    term = CATKD(normalise=True, resolution=4)
    np.testing.assert_allclose(term(f * jnp.array([[[[1.0, 2, 9]]]]), g), term(f, g), rtol=1e-5)
    s, t = (x.reshape(4, 16, 3) for x in (F_S, F_T))
    cosines = np.sum(s * t, 1) / np.linalg.norm(s, axis=1) / np.linalg.norm(t, axis=1)
    np.testing.assert_allclose(term(f, g), np.mean(2 - 2 * cosines, 1) / 16, rtol=1e-4)


def test_both_classifiers_give_the_maps():
    given = lesson()
    value, _ = CATKD(resolution=1).evaluate(own(CATKD(), given), given)
    z_s, z_t = (
        said.features["pooled"] @ params["classifier"]["kernel"]
        for said, params in (
            (given.student, given.student_params),
            (given.teacher, given.teacher_params),
        )
    )
    np.testing.assert_allclose(value, jnp.mean((z_s - z_t) ** 2, axis=-1), rtol=1e-3)


def test_the_reused_classifiers_map_is_compared_where_it_is_small():
    f, small = jnp.asarray(F_S, jnp.float32), jnp.asarray(SMALL[..., :3], jnp.float32)
    pooled = F_S.reshape(4, 2, 2, 2, 2, 3).mean((2, 4))
    expected = np.mean((pooled - np.maximum(SMALL[..., :3], 0)) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(SimKD()([(f, small)], {}), expected, rtol=1e-4)


def test_the_projector_is_a_bottleneck_that_ends_above_zero():
    given, term = lesson(), SimKD(reduction=4)
    params = own(term, given).params["projector0"]
    shapes = [conv["conv"]["kernel"].shape for conv in params.values()]
    assert shapes == [(1, 1, 6, 2), (3, 3, 2, 2), (1, 1, 2, 8)]
    # Its last ReLU shut, all that is left is the teacher's map.
    norm = {"scale": jnp.ones(8), "bias": jnp.full(8, -9.0)}
    shut = {**params, "conv2": {**params["conv2"], "norm": norm}}
    value = term(term.pairs(given.student, given.teacher), {"projector0": shut})
    t = given.teacher.features["stage3"]
    np.testing.assert_allclose(value, jnp.mean(t**2, axis=(1, 2, 3)), rtol=1e-5)
    with pytest.raises(UsageError, match=r"^reduction 9: between 1 and the teacher's 3"):
        SimKD(reduction=9).connectors(jax.random.key(0), [(F_S, F_T)])
