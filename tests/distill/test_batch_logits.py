"""Relations between the examples and the classes of a batch, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.distill import DIST, KD, MLKD, ClassRelation
from kd_jax.distill.batch_logits import correlation, relations, unsure
from kd_jax.errors import UsageError


def made():
    """Student's and teacher's logits [4, 6]."""
    k = np.arange(24.0).reshape(4, 6)
    return jnp.asarray(3 * np.sin(0.7 * k + 0.3)), jnp.asarray(4 * np.cos(0.9 * k + 0.1))


def test_correlation_is_pearsons_and_zero_for_a_constant_row():
    a = jnp.array([[1.0, 2, 4], [1, 2, 4], [3, 1, 2], [5, 5, 5]])
    b = jnp.array([[3.0, 5, 9], [-1, -2, -4], [1, 2, 0], [1, 2, 3]])
    expected = [1, -1, np.corrcoef(a[2], b[2])[0, 1], 0]
    np.testing.assert_allclose(correlation(a, b), expected, rtol=1e-5, atol=1e-6)


def test_dist_by_hand():
    # Of two classes the rows correlate with ±1, here 1 and −1, and both columns with −1.
    teacher = jnp.log(jnp.array([[0.9, 0.1], [0.2, 0.8]]))
    student = jnp.log(jnp.array([[0.6, 0.4], [0.7, 0.3]]))
    term = DIST(temperature=1.0, beta=3.0, gamma=5.0)
    np.testing.assert_allclose(term(student, teacher, student), 3 * 1 + 5 * 2, rtol=1e-5)


def test_dist_vanishes_where_the_student_is_the_teacher():
    _, z = made()
    value, gradient = jax.value_and_grad(DIST().__call__)(z, z, z)
    np.testing.assert_allclose(value, 0, atol=2e-5)  # what the 1e-8 in its denominator leaves
    np.testing.assert_allclose(gradient, 0, atol=2e-5)


def test_class_relation_by_hand():
    # Two sure examples of two classes, which the student takes for one: diag(1, 1), diag(2, 0).
    teacher, student = 1e3 * jnp.eye(2), 1e3 * jnp.array([[1.0, 0], [1, 0]])
    np.testing.assert_allclose(ClassRelation()(student, teacher, teacher), 1, rtol=1e-6)


def test_only_the_unsure_half_is_marked():
    p = jnp.array([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.3, 0.1, 0.6]])
    examples, classes = unsure(jnp.log(p))
    np.testing.assert_array_equal(examples, [0, 1, 1])  # of 0.8, 0.5, 0.6
    np.testing.assert_array_equal(classes, [0, 1, 1])  # of 1.5, 0.7, 0.8


def test_mlkd_without_masks_is_a_sum_over_levels_and_temperatures():
    student, teacher = made()
    expected = 0.0
    for T in (2.0, 5.0):
        p_s, p_t = jax.nn.softmax(student / T), jax.nn.softmax(teacher / T)
        expected += jnp.mean(KD(temperature=T)(student, teacher, teacher))
        expected += jnp.sum((p_t @ p_t.T - p_s @ p_s.T) ** 2) / 4
        expected += ClassRelation(temperature=T)(student, teacher, teacher)
    term = MLKD(temperatures=(2.0, 5.0), masks=False)
    np.testing.assert_allclose(term(student, teacher, teacher), expected, rtol=1e-5)


def test_relations_do_not_see_what_rotates_all_rows():
    p = jax.nn.softmax(made()[0])
    np.testing.assert_allclose(relations(p[:, ::-1], p), 0, atol=1e-7)
    assert jnp.all(relations(p**2, p) > 1e-4)


@pytest.mark.parametrize("term", [DIST(), MLKD(), ClassRelation()])
def test_the_order_of_examples_and_classes_does_not_matter(term):
    student, teacher = made()
    order = lambda z: z[np.array([2, 0, 3, 1])][:, ::-1]  # noqa: E731
    found = term(order(student), order(teacher), order(teacher))
    np.testing.assert_allclose(found, term(student, teacher, teacher), rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLKD(temperatures=()), r"MLKD\.temperatures are none"),
        (lambda: MLKD(temperatures=(2.0, 0.0)), r"MLKD\.temperatures is 0"),
        (lambda: DIST(temperature=-1.0), r"DIST\.temperature is -1"),
    ],
)
def test_a_bad_temperature_is_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()
