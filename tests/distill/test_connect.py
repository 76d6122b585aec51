"""Unit vectors, and what brings features to one another's shapes."""

import jax
import jax.numpy as jnp
import numpy as np
from made_features import F_S, SMALL

from kd_jax.distill import connect
from kd_jax.distill.norms import unit


def test_a_vector_of_zeros_has_no_direction_and_no_gradient():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(unit(x) * jnp.array([[1.0, 0.0]])))(x)
    np.testing.assert_allclose(gradient, [[0.128, -0.096], [0, 0]], rtol=1e-5)


def test_the_larger_of_two_maps_is_pooled_and_the_other_left_alone():
    f, small = jnp.asarray(F_S, jnp.float32), jnp.asarray(SMALL, jnp.float32)
    pooled, same = connect.same_size(f, small)
    np.testing.assert_allclose(pooled, F_S.reshape(4, 2, 2, 2, 2, 3).mean((2, 4)), rtol=1e-5)
    assert same is small
    tall, wide = jnp.zeros((1, 4, 2, 1)), jnp.zeros((1, 2, 4, 1))
    assert [x.shape for x in connect.same_size(tall, wide)] == [(1, 2, 2, 1)] * 2


def test_connectors_bring_maps_to_the_teachers_width():
    f, small = jnp.asarray(F_S, jnp.float32), jnp.asarray(SMALL, jnp.float32)
    params = connect.init_widths(jax.random.key(0), [(small, small), (f, small)])
    assert params.keys() == {"width1"}
    assert connect.widen(params, 0, small) is small
    by_hand = f @ params["width1"]["kernel"][0, 0]
    np.testing.assert_allclose(connect.widen(params, 1, f), by_hand, rtol=1e-4, atol=1e-6)
