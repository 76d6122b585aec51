"""Losses that were published with Transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.distill import GKD, KD, DeiTHard, DeiTSoft, SoftCrossEntropy, kl_divergence
from kd_jax.errors import UsageError


def made(dtype=np.float32):
    """Student's and teacher's logits [4, 6]."""
    k = np.arange(24.0).reshape(4, 6)
    student, teacher = 3 * np.sin(0.7 * k + 0.3), 4 * np.cos(0.9 * k + 0.1)
    return jnp.asarray(student, dtype), jnp.asarray(teacher, dtype)


def test_gkd_over_the_tokens_that_count_is_that_of_its_reference():
    # Four tokens, of which the second is padding; the mean is over the others.
    with jax.enable_x64(True):
        student, teacher = made(np.float64)
        rows = np.array([0, 2, 3])
        f = lambda z: jnp.mean(GKD()(z[rows], teacher[rows], z[rows]))  # noqa: E731
        value, gradient = jax.value_and_grad(f)(student)
        np.testing.assert_allclose(value, 0.38464212963740557, rtol=1e-6)
        np.testing.assert_allclose(jnp.linalg.norm(gradient), 0.061523788672981444, rtol=1e-6)


def test_gkd_by_hand():
    # (1, 0) and (½, ½) up to rounding; m = (¾, ¼) at β = ½.
    student, teacher = jnp.zeros((1, 2)), jnp.array([[200.0, 0]])
    expected = 0.5 * np.log(4 / 3) + 0.5 * (0.5 * np.log(2 / 3) + 0.5 * np.log(2))
    np.testing.assert_allclose(GKD()(student, teacher, teacher), [expected], rtol=1e-6)


def test_gkd_tends_to_the_two_divergences_that_it_has_at_its_ends():
    with jax.enable_x64(True):
        student, teacher = made(np.float64)
        small = GKD(beta=1e-7)(student, teacher, teacher) / 1e-7
        np.testing.assert_allclose(small, kl_divergence(teacher, student), rtol=1e-3)
        np.testing.assert_allclose(small, GKD(beta=0.0)(student, teacher, teacher), rtol=1e-3)
        large = GKD(beta=1 - 1e-7)(student, teacher, teacher) / 1e-7
        np.testing.assert_allclose(large, GKD(beta=1.0)(student, teacher, teacher), rtol=1e-3)


def test_gkd_at_one_half_is_symmetric_and_at_most_log_two():
    student, teacher = (100 * z for z in made())
    there, back = GKD()(student, teacher, teacher), GKD()(teacher, student, teacher)
    np.testing.assert_allclose(there, back, rtol=1e-5, atol=1e-6)
    assert jnp.all(there <= np.log(2) + 1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_nothing_is_left_to_learn_from_an_equal(beta):
    _, teacher = made()
    f = jax.value_and_grad(lambda z: GKD(beta=beta)(z, teacher, teacher).sum())
    value, gradient = f(teacher)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_traced_beta_computes_the_same_with_finite_gradients(beta):
    student, teacher = made()
    f = jax.jit(jax.value_and_grad(lambda b: GKD(beta=b)(student, teacher, teacher).sum()))
    value, gradient = f(beta)
    expected = GKD(beta=beta)(student, teacher, teacher).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert jnp.isfinite(gradient)


def test_deit_hears_the_teachers_first_choice_alone():
    student, teacher = made()
    said = -jax.nn.log_softmax(student)[np.arange(4), np.argmax(teacher, axis=-1)]
    np.testing.assert_allclose(DeiTHard()(student, teacher, student), said, rtol=1e-6)
    np.testing.assert_allclose(DeiTHard()(student, 9 * teacher, student), said, rtol=1e-6)


def test_deit_soft_is_kd_over_the_number_of_classes():
    student, teacher = made()
    whole = KD(temperature=3.0)(student, teacher, student)
    np.testing.assert_allclose(DeiTSoft()(student, teacher, student), whole / 6, rtol=1e-6)


def test_soft_cross_entropy_by_hand():
    student, teacher = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.75, 0.25]]))
    value = SoftCrossEntropy()(student, teacher, teacher)
    np.testing.assert_allclose(value, [np.log(2) / 2], rtol=1e-6)
    # At T = 2 (¾, ¼) and (⅓, ⅔), of logits that are twice as large.
    student, teacher = jnp.array([[0, 2 * np.log(2)]]), jnp.array([[2 * np.log(3), 0]])
    value = SoftCrossEntropy(temperature=2.0)(student, teacher, teacher)
    expected = -(0.75 * np.log(1 / 3) + 0.25 * np.log(2 / 3)) / 2
    np.testing.assert_allclose(value, [expected], rtol=1e-6)


def test_a_beta_above_one_is_refused():
    with pytest.raises(UsageError, match=r"GKD\.beta is 1\.5"):
        GKD(beta=1.5)
