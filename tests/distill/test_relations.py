"""Losses of how examples lie to one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import E_S, E_T, E_WIDE, F_S, SMALL, agrees

from kd_jax.distill import CC, PKT, RKD, SP
from kd_jax.distill.relations import huber

# (term, student's, teacher's, mean, norm of the gradient) of the reference implementations.
REFERENCE = {
    "sp": (SP(), F_S, SMALL, 0.29929469262676503, 0.03965311938571565),
    "cc": (CC(), E_S, E_T, 0.7440664618957006, 1.254867009378213),
    "rkd": (RKD(), E_S, E_WIDE, 0.28733785925157945, 0.9156404433038419),
    "pkt": (PKT(), E_S, E_WIDE, 0.011325003398239122, 0.020471157744671616),
}
RELATIONS = [SP(), RKD(), PKT()]
ROTATION = np.linalg.qr(np.sin(np.arange(64.0)).reshape(8, 8))[0].astype(np.float32)


def value(term, student, teacher):
    return term([(jnp.asarray(student, jnp.float32), jnp.asarray(teacher, jnp.float32))], {})


@pytest.mark.parametrize("name", REFERENCE)
def test_value_and_gradient_are_those_of_the_reference(name):
    term, student, teacher, *expected = REFERENCE[name]
    agrees(lambda x: term([(x, teacher)], {}), [student], *expected)


@pytest.mark.parametrize("term", RELATIONS)
def test_the_order_of_the_examples_does_not_matter(term):
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        value(term, E_S[order], E_WIDE[order]), value(term, E_S, E_WIDE), rtol=1e-5
    )


def test_it_matters_to_correlation_congruence_which_are_neighbours():
    order = np.array([2, 0, 3, 1])
    assert not np.isclose(value(CC(), E_S[order], E_T[order]), value(CC(), E_S, E_T), rtol=1e-2)


@pytest.mark.parametrize("scale", [3, 0.01])
@pytest.mark.parametrize("term", RELATIONS)
def test_a_rotation_and_another_scale_change_nothing(term, scale):
    np.testing.assert_allclose(
        value(term, scale * E_S @ ROTATION, E_WIDE), value(term, E_S, E_WIDE), rtol=1e-4
    )


def test_nor_does_the_origin_to_distances_and_angles():
    np.testing.assert_allclose(value(RKD(), E_S + 5, E_WIDE), value(RKD(), E_S, E_WIDE), rtol=1e-4)
    assert not np.isclose(value(PKT(), E_S + 5, E_WIDE), value(PKT(), E_S, E_WIDE), rtol=0.1)


@pytest.mark.parametrize("term", [*RELATIONS, CC()])
def test_nothing_is_left_to_learn_once_student_is_teacher(term):
    loss, gradient = jax.value_and_grad(value, argnums=1)(term, jnp.asarray(E_S, jnp.float32), E_S)
    np.testing.assert_allclose(loss, 0, atol=1e-7)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("term", [*RELATIONS, CC()])
def test_an_example_alone_has_no_relations(term):
    loss, gradient = jax.value_and_grad(value, argnums=1)(
        term, jnp.asarray(E_S[:1], jnp.float32), E_T[:1]
    )
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("term", RELATIONS)
def test_an_embedding_of_zeros_does_not_blow_the_gradient_up(term):
    student = jnp.asarray(E_S, jnp.float32).at[1].set(0)
    gradient = jax.grad(value, argnums=1)(term, student, E_WIDE)
    assert jnp.max(jnp.abs(gradient)) < 10


def test_relational_distillation_by_hand():
    # Triangles: sides 3, 4, 5 of mean 4, and 1, 1, √2. Each pair counts twice among 9.
    student, teacher = np.array([[0.0, 0], [3, 0], [0, 4]]), np.array([[0.0, 0], [1, 0], [0, 1]])
    mean = (2 + np.sqrt(2)) / 3
    gaps = np.array([3 / 4 - 1 / mean, 1 - 1 / mean, 5 / 4 - np.sqrt(2) / mean])
    expected = 2 * np.sum(gaps**2 / 2) / 9
    np.testing.assert_allclose(
        value(RKD(distance=1.0, angle=0.0), student, teacher), expected, rtol=1e-5
    )
    # At the corners the cosines are 0, 3/5, 4/5, and 0, √½, √½: each twice among 27.
    gaps = np.array([3 / 5, 4 / 5]) - np.sqrt(0.5)
    expected = 2 * np.sum(gaps**2 / 2) / 27
    np.testing.assert_allclose(
        value(RKD(distance=0.0, angle=1.0), student, teacher), expected, rtol=1e-4
    )


def test_the_loss_of_a_gap_is_square_up_to_one_and_linear_beyond():
    np.testing.assert_allclose(huber(jnp.array([-0.5, 1.0, 3.0])), [0.125, 0.5, 2.5])


def test_correlation_congruence_trains_both_embeddings():
    pairs = [(jnp.asarray(E_S, jnp.float32), jnp.asarray(E_WIDE, jnp.float32))]
    params = CC(dim=16).connectors(jax.random.key(0), pairs)
    assert params["student0"]["kernel"].shape == (8, 16)
    assert params["teacher0"]["kernel"].shape == (10, 16)
    gradient = jax.grad(lambda p: CC(dim=16)(pairs, p))(params)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    # Neighbours 0 and 1, 1 and 2, by hand.
    delta = jnp.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]])
    np.testing.assert_allclose(value(CC(), delta, 0 * delta), ((3 + 1) + (3 + 2)) / 2)
    np.testing.assert_allclose(value(CC(), delta[:2], 0 * delta[:2]), 3 + 1)
