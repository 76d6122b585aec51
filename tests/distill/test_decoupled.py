"""Losses that take the target class apart, by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.distill import DKD, KD, NKD
from kd_jax.distill.decoupled import target_class
from kd_jax.errors import UsageError

# Probabilities of three classes; the first one is the target.
TEACHER, STUDENT = jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.log(jnp.array([[0.25, 0.25, 0.5]]))
TARGET = jnp.array([[1.0, 0, 0]])


def made(dtype=np.float32):
    """Student's and teacher's logits [4, 6], one-hot targets [4, 6]."""
    k = np.arange(24.0).reshape(4, 6)
    student, teacher = 3 * np.sin(0.7 * k + 0.3), 4 * np.cos(0.9 * k + 0.1)
    return [jnp.asarray(x, dtype) for x in (student, teacher, np.eye(6)[[1, 0, 3, 5]])]


def test_both_parts_of_dkd_by_hand():
    target = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    other = 0.5 * np.log(1.5) + 0.5 * np.log(0.75)  # (½, ½) and (⅓, ⅔)
    value = DKD(temperature=1.0, alpha=2.0, beta=3.0)(STUDENT, TEACHER, TARGET)
    np.testing.assert_allclose(value, [2 * target + 3 * other], rtol=1e-6)


def test_kd_is_dkd_whose_beta_is_what_the_teacher_leaves_for_other_classes():
    # Zhao et al., eq. 7.
    student, teacher, targets = made()
    target = DKD(temperature=2.0, alpha=1.0, beta=0.0)(student, teacher, targets)
    other = DKD(temperature=2.0, alpha=0.0, beta=1.0)(student, teacher, targets)
    left = 1 - jnp.sum(targets * jax.nn.softmax(teacher / 2), axis=-1)
    together = target + left * other
    np.testing.assert_allclose(together, KD(temperature=2.0)(student, teacher, targets), rtol=1e-5)


def test_dkd_of_a_student_so_confident_that_the_rest_rounds_to_nothing():
    # Against the rest: teacher (⅓, ⅔), student (1, 2e⁻⁶⁰) up to rounding; among the rest equal.
    student, teacher = jnp.array([[60.0, 0, 0]]), jnp.zeros((1, 3))
    f = jax.value_and_grad(lambda z: DKD(temperature=1.0)(z, teacher, TARGET).sum())
    value, gradient = f(student)
    np.testing.assert_allclose(value, 40 - np.log(3), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[2 / 3, -1 / 3, -1 / 3]], atol=1e-6)


@pytest.mark.parametrize("term", [DKD(alpha=0.0), NKD()])
def test_of_two_classes_only_the_target_teaches(term):
    targets = jnp.array([[1.0, 0], [0, 1]])
    student, teacher = jnp.array([[1.0, 2], [3, -1]]), jnp.array([[0.5, 0], [0, 4]])
    f = lambda z: term(z, teacher, targets).sum()  # noqa: E731
    value, gradient = jax.value_and_grad(f)(student)
    sure = jnp.sum(targets * jax.nn.softmax(teacher), axis=-1)
    said = -jnp.sum(targets * jax.nn.log_softmax(student), axis=-1)
    expected = jnp.sum(sure * said) if isinstance(term, NKD) else 0.0
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    chex.assert_tree_all_finite(gradient)


def test_nkd_by_hand():
    other = -0.5 * np.log(1 / 3) - 0.5 * np.log(2 / 3)
    value = NKD(temperature=1.0, gamma=1.5)(STUDENT, TEACHER, TARGET)
    np.testing.assert_allclose(value, [-0.5 * np.log(0.25) + 1.5 * other], rtol=1e-6)


def test_the_larger_share_of_a_mixed_example_is_its_target():
    mixed = jnp.array([[0.3, 0.0, 0.7], [0.6, 0.4, 0.0]])
    np.testing.assert_array_equal(target_class(mixed), np.eye(3, dtype=bool)[[2, 0]])


def test_dkd_grows_over_its_first_twenty_epochs():
    epochs = jnp.array([0.0, 5.0, 20.0, 200.0])
    np.testing.assert_allclose(jax.vmap(DKD().factor)(epochs), [0, 0.25, 1, 1])


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(UsageError, match=r"NKD\.temperature is 0"):
        NKD(temperature=0.0)
