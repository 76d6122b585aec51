"""Losses of where maps are activated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from made_features import F_S, F_T, G_S, G_T, agrees
from made_lessons import lesson, own

from kd_jax.distill import AB, OFD
from kd_jax.distill.boundaries import negative_mean


def test_activation_boundaries_are_those_of_the_reference():
    agrees(
        lambda f, g: AB()([(f, F_T), (g, G_T)], {}),
        [F_S, G_S],
        0.45915348016725166,
        0.03499573109669599,
    )


def test_the_overhaul_is_that_of_the_reference():
    # Which sums over the batch of 4.
    margins = [np.array([-0.5, -0.4, -0.3])]
    agrees(
        lambda s: 4 * OFD()([(s, F_T)], {}, margins), [F_S], 140.61728535669835, 23.716431886495773
    )


def test_margins_of_a_batch_norm_are_those_of_the_reference():
    with jax.enable_x64(True):
        margins = negative_mean(jnp.array([1.2, -0.5, 0.1]), jnp.array([0.3, -0.2, 1.0]))
    np.testing.assert_allclose(margins, [-0.8562647752996848, -0.4809413518984815, -0.3], rtol=1e-9)


def test_margins_are_the_mean_of_what_a_normal_has_below_zero():
    x = 0.3 + 1.2 * np.random.default_rng(0).standard_normal(400_000)
    np.testing.assert_allclose(negative_mean(1.2, 0.3), x[x < 0].mean(), rtol=5e-3)


def one(student, teacher):
    """A map [1, 1, 1, C] each."""
    return [tuple(jnp.array(x, jnp.float32).reshape(1, 1, 1, -1) for x in (student, teacher))]


def test_boundaries_by_hand():
    # The right side and by more than the margin; the right side; the wrong one, for either sign.
    value = AB(margin=1.0)(one([-1.5, -0.5, 2.0, 0.5, -1.0], [-0.1, -9.0, -2.0, 3.0, 0.2]), {})
    np.testing.assert_allclose(value, [3 / 1000 * (0 + 0.25 + 9 + 0.25 + 4)], rtol=1e-6)


def test_the_overhaul_lets_what_is_negative_enough_be():
    # Far below zero where the teacher is not active; above its margin; the same while it is active.
    pairs = one([-5.0, -1.0, -5.0, 3.0], [-2.0, -4.0, 1.0, -0.5])
    margins = [jnp.full((4,), -1.5)]
    np.testing.assert_allclose(OFD()(pairs, {}, margins), [0 + 0.25 + 36 + 12.25], rtol=1e-6)
    gradient = jax.grad(lambda s: OFD()([(s, pairs[0][1])], {}, margins)[0])(pairs[0][0])
    np.testing.assert_allclose(gradient.ravel(), [0, 1, -12, 7], rtol=1e-6)


def test_an_earlier_tap_counts_half():
    (pair,) = one([1.0], [2.0])
    margins = [jnp.zeros((1,))] * 3
    np.testing.assert_allclose(OFD()([pair] * 3, {}, margins), [1 + 0.5 + 0.25])
    np.testing.assert_allclose(AB(margin=2.0)([pair] * 3, {}), [1.75 * 3 / 1000], rtol=1e-6)


def test_margins_are_the_mean_of_the_negative_values_seen():
    term, first = OFD(), lesson()
    shifted = jax.tree.map(lambda x: x - 0.5, first.teacher)
    second = dataclasses.replace(first, teacher=shifted)
    carried = own(term, first)
    for given in (first, second):
        value, state = term.evaluate(carried, given)
        carried = dataclasses.replace(carried, state=state)
    for i, name in enumerate(("stage1_pre", "stage2_pre", "stage3_pre")):
        seen = np.concatenate([x.teacher.features[name] for x in (first, second)])
        mean = np.sum(np.minimum(seen, 0), (0, 1, 2)) / np.sum(seen < 0, (0, 1, 2))
        margin = state[f"negative{i}"]["sum"] / state[f"negative{i}"]["count"]
        np.testing.assert_allclose(margin, mean, rtol=1e-5)
    margins = [n["sum"] / n["count"] for n in state.values()]
    pairs = term.pairs(second.student, second.teacher)
    np.testing.assert_allclose(value, term(pairs, carried.params, margins), rtol=1e-5)


def test_a_channel_that_is_never_negative_has_a_margin_of_zero():
    term, given = OFD(student_taps=("stage1_pre",), teacher_taps=("stage1_pre",)), lesson()
    teacher = jax.tree.map(jnp.abs, given.teacher)
    given = dataclasses.replace(given, teacher=teacher)
    carried = own(term, given)
    value, state = term.evaluate(carried, given)
    assert not jnp.any(state["negative0"]["count"])
    zero = [jnp.zeros(teacher.features["stage1_pre"].shape[-1])]
    pairs = term.pairs(given.student, teacher)
    np.testing.assert_allclose(value, term(pairs, carried.params, zero), rtol=1e-6)


def test_margins_are_those_of_the_batch_norm_that_is_tapped():
    given, path = lesson(), "block/norm"
    features = {**given.teacher.features, path: given.teacher.features["stage1_pre"]}
    norm = {"scale": jnp.array([1.2, 0.5, 0.1, 1.0]), "bias": jnp.array([0.3, -0.2, 1.0, 0.0])}
    given = dataclasses.replace(
        given,
        teacher=dataclasses.replace(given.teacher, features=features),
        teacher_params={"block": {"norm": norm}},
    )
    term = OFD(student_taps=("stage1_pre",), teacher_taps=(path,))
    carried = own(term, given)
    value, _ = term.evaluate(carried, given)
    pairs = term.pairs(given.student, given.teacher)
    margins = [negative_mean(norm["scale"], norm["bias"])]
    np.testing.assert_allclose(value, term(pairs, carried.params, margins), rtol=1e-6)
