"""Losses of logits by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.distill import (
    KD,
    LogitRegression,
    Mixture,
    cross_entropy,
    kl_divergence,
    kl_from_probabilities,
)


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _logits(dtype=np.float32):
    """Student's [4, 6], teacher's [4, 6], one-hot targets [4, 6]."""
    k = np.arange(24.0).reshape(4, 6)
    student, teacher = 3 * np.sin(0.7 * k + 0.3), 4 * np.cos(0.9 * k + 0.1)
    return [jnp.asarray(x, dtype) for x in (student, teacher, np.eye(6)[[1, 0, 3, 5]])]


def test_temperature_may_be_traced_where_the_term_is_built():
    f = jax.jit(lambda t: KD(temperature=t)(*_logits()))
    np.testing.assert_allclose(f(2.0), KD(temperature=2.0)(*_logits()), rtol=1e-6)


def test_the_mixture_alone_holds_the_hard_labels():
    assert Mixture.complete
    assert not KD.complete
    assert not LogitRegression.complete


def test_mixture_is_linear_in_alpha_between_its_two_losses():
    student, teacher, targets = _logits()
    hard, soft = cross_entropy(student, targets), kl_divergence(teacher, student)
    mixed = Mixture(alpha=0.25)(student, teacher, targets)
    np.testing.assert_allclose(mixed, 0.25 * hard + 0.75 * soft, rtol=1e-6)


def test_kd_by_hand():
    # T = 2: teacher softmax(log 3, 0) = (¾, ¼), student ½, ½; KL = ¾ log 1.5 + ¼ log ½; times 4.
    teacher = jnp.array([[2 * np.log(3.0), 0]], jnp.float32)
    value = KD(temperature=2.0)(jnp.zeros((1, 2)), teacher, jnp.array([[1.0, 0]]))
    np.testing.assert_allclose(value, [3 * np.log(1.5) + np.log(0.5)], rtol=1e-6)


def test_kd_matches_logits_at_high_temperature():
    # Hinton et al., section 2.1: with logits of zero mean it tends to Σ (z_s − z_t)² / (2 K).
    with jax.enable_x64(True):
        student, teacher, targets = _logits(np.float64)
        student, teacher = (z - z.mean(-1, keepdims=True) for z in (student, teacher))
        hot = KD(temperature=1e4)(student, teacher, targets)
        np.testing.assert_allclose(hot, LogitRegression()(student, teacher, targets) / 2, rtol=1e-3)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]))
    targets = jnp.array([[1.0, 0, 0], [0, 0.5, 0.5]])
    expected = [np.log(2), -0.5 * np.log(0.3) - 0.5 * np.log(0.5)]
    np.testing.assert_allclose(cross_entropy(logits, targets), expected, rtol=1e-6)


def test_cross_entropy_where_a_class_is_masked_out():
    logits, targets = jnp.array([[0.0, 0.0, -jnp.inf]]), jnp.array([[1.0, 0, 0]])
    f = jax.value_and_grad(lambda z, y: cross_entropy(z, y).sum(), argnums=(0, 1))
    value, gradients = f(logits, targets)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    chex.assert_tree_all_finite(gradients)
    np.testing.assert_allclose(gradients[0], [[-0.5, 0.5, 0]], atol=1e-6)
    assert jnp.isposinf(cross_entropy(logits, jnp.array([[0.0, 0, 1]])))[0]


def test_cross_entropy_by_its_targets_is_minus_log_q_even_at_zero():
    logits, targets = jnp.zeros((1, 4)), jnp.array([[1.0, 0, 0, 0]])
    gradient = jax.grad(lambda y: cross_entropy(logits, y).sum())(targets)
    np.testing.assert_allclose(gradient, np.log(4) * np.ones((1, 4)), rtol=1e-6)


def test_kl_divergence_where_both_mask_a_class_out():
    teacher, student = jnp.array([[0.0, 1.0, -jnp.inf]]), jnp.array([[0.5, 0.0, -jnp.inf]])
    f = jax.value_and_grad(lambda t, s: kl_divergence(t, s).sum(), argnums=(0, 1))
    value, gradients = f(teacher, student)
    np.testing.assert_allclose(value, kl_divergence(teacher[:, :2], student[:, :2])[0], rtol=1e-6)
    chex.assert_tree_all_finite(gradients)


def test_kl_from_probabilities_agrees_with_that_of_logits():
    student, teacher, _ = _logits()
    value = kl_from_probabilities(jax.nn.softmax(teacher), jax.nn.log_softmax(student))
    np.testing.assert_allclose(value, kl_divergence(teacher, student), rtol=1e-5)


def test_kl_from_probabilities_is_safe_at_zero():
    target = jnp.array([[0.5, 0.5, 0], [1.0, 0, 0]])
    log_q = jnp.array([[np.log(0.25), np.log(0.75), -np.inf], [0, -50.0, -jnp.inf]], jnp.float32)
    f = jax.value_and_grad(lambda p, q: kl_from_probabilities(p, q).sum(), argnums=(0, 1))
    value, (by_target, by_log_q) = f(target, log_q)
    np.testing.assert_allclose(value, 0.5 * np.log(2) + 0.5 * np.log(2 / 3), rtol=1e-6)
    np.testing.assert_array_equal(by_log_q, -target)
    chex.assert_tree_all_finite(by_target)
