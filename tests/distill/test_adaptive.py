"""Standardised logits, a learned temperature, weighted examples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_lessons import lesson, own

from kd_jax.distill import CTKD, KD, LSKD, WSLD
from kd_jax.distill.divergences import cross_entropy
from kd_jax.distill.norms import standardise
from kd_jax.errors import UsageError


def kd_at(temperature, given, term=KD):
    said = given.student.logits, given.teacher.logits, given.targets
    return term(temperature=temperature)(*said)


def test_standard_scores_by_hand():
    x = jnp.array([[1.0, 2, 3], [4, 0, 2]])
    np.testing.assert_allclose(standardise(x), [[-1, 0, 1], [1, -1, 0]], rtol=1e-6)
    two = standardise(jnp.array([[5.0, 3]]))
    np.testing.assert_allclose(two, [[0.5**0.5, -(0.5**0.5)]], rtol=1e-6)


def test_standard_scores_of_equal_logits_are_zero_with_a_finite_gradient():
    x = jnp.full((2, 5), 7.0)
    np.testing.assert_array_equal(standardise(x), 0)
    gradient = jax.grad(lambda x: jnp.sum(standardise(x)[:, 0]))(x)
    np.testing.assert_allclose(gradient, 1e7 * np.array([[0.8, -0.2, -0.2, -0.2, -0.2]] * 2))


def test_lskd_sees_neither_the_scale_nor_the_place_of_logits():
    given = lesson()
    z_s, z_t = given.student.logits, given.teacher.logits
    value = LSKD()(z_s, z_t, given.targets)
    np.testing.assert_allclose(LSKD()(3 * z_s + 2, z_t / 5, given.targets), value, rtol=1e-4)
    np.testing.assert_allclose(LSKD()(2 * z_t - 1, z_t, given.targets), 0, atol=1e-5)


@pytest.mark.parametrize(("standard", "plain"), [(False, KD), (True, LSKD)])
def test_ctkd_is_kd_at_the_temperature_that_it_carries(standard, plain):
    given, term = lesson(), CTKD(standardise=standard)
    carried = own(term, given)
    temperature = 1 + 20 / (1 + np.exp(-1.0))  # θ = 1
    values, state = term.evaluate(carried, given)
    assert state == {}
    np.testing.assert_allclose(values, kd_at(temperature, given, plain), rtol=1e-5)


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (2.5, None), (5.0, 0.5), (30.0, 1.0)])
def test_the_temperature_climbs_what_the_student_descends(epoch, share):
    given, term = lesson(epoch=epoch), CTKD()
    carried = own(term, given)

    def loss(params):
        return jnp.mean(term.evaluate(dataclasses.replace(carried, params=params), given)[0])

    def plain(theta):
        return jnp.mean(kd_at(1 + 20 * jax.nn.sigmoid(theta), given))

    share = (1 - np.cos(np.pi / 4)) / 2 if share is None else share
    expected = -share * jax.grad(plain)(jnp.ones(()))
    np.testing.assert_allclose(jax.grad(loss)(carried.params)["theta"], expected, rtol=1e-4)


def test_ctkd_refuses_a_curriculum_of_no_epochs():
    with pytest.raises(UsageError, match=r"CTKD\.curriculum is 0"):
        CTKD(curriculum=0.0)


def test_wsld_by_hand():
    # The student says (½, ½), the teacher (¾, ¼): w = 1 − exp(−log 2 / log(4/3)), T = 1.
    student, teacher = jnp.zeros((1, 2)), jnp.log(jnp.array([[0.75, 0.25]]))
    value = WSLD(temperature=1.0)(student, teacher, jnp.array([[1.0, 0]]))
    weight = 1 - np.exp(-np.log(2) / np.log(4 / 3))
    np.testing.assert_allclose(value, [weight * np.log(2)], rtol=1e-5)


def test_wsld_weighs_examples_without_a_gradient_of_its_weights():
    given = lesson()
    z_s, z_t = given.student.logits, given.teacher.logits
    hard = [cross_entropy(z, given.targets) for z in (z_s, z_t)]
    weights = 1 - jnp.exp(-hard[0] / hard[1])
    soft = lambda z: 16 * cross_entropy(z / 4, jax.nn.softmax(z_t / 4))  # noqa: E731
    found = jax.grad(lambda z: WSLD()(z, z_t, given.targets).sum())(z_s)
    expected = jax.grad(lambda z: jnp.sum(weights * soft(z)))(z_s)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_wsld_skips_what_the_student_knows_and_its_teacher_does_not():
    student, teacher = jnp.array([[50.0, 0, 0]]), jnp.zeros((1, 3))
    assert WSLD()(student, teacher, jnp.array([[1.0, 0, 0]]))[0] < 1e-5
    assert WSLD()(student, teacher, jnp.array([[0, 1.0, 0]]))[0] > 1
