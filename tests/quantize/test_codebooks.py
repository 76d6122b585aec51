"""Weights that share values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.quantize.codebooks import cluster, means, shared


@pytest.mark.slow
def test_two_values_by_hand():
    w = jnp.array([[0.0, 1.0, 1.2], [-3.0, -3.2, 1.1]])
    code = cluster(w, 1)
    np.testing.assert_array_equal(code, [[0, 2, 2], [1, 1, 2]])
    np.testing.assert_allclose(means(w, code), [[0, 1.1, 1.1], [-3.1, -3.1, 1.1]], rtol=1e-6)


def test_it_is_a_fixed_point_of_k_means():
    w = jax.random.normal(jax.random.key(0), (400,))
    w = jnp.where(jnp.arange(400) % 3 == 0, 0.0, w)
    code = np.asarray(cluster(w, 4))
    assert (code == 0).sum() == 134
    values = np.asarray(means(w, jnp.asarray(code)))
    centroids = np.unique(values[code > 0])
    assert 8 <= len(centroids) <= 16
    nearest = centroids[np.abs(np.asarray(w)[:, None] - centroids).argmin(1)]
    np.testing.assert_allclose(values[code > 0], nearest[code > 0], rtol=1e-5)


def test_with_a_value_for_each_nothing_changes():
    w = jnp.array([0.5, -0.25, 0.0, 0.125])
    np.testing.assert_allclose(means(w, cluster(w, 8)), w, rtol=1e-6)


def test_gradients_by_hand():
    w = jnp.array([2.0, 2.0, -1.0, 0.0, 5.0])
    code = jnp.array([1, 1, 2, 0, 0], jnp.int16)
    g = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
    for mean, expected in ((False, [3, 3, 4, 0, 0]), (True, [1.5, 1.5, 4, 0, 0])):
        y, pull = jax.vjp(lambda w, mean=mean: shared(w, code, mean), w)
        np.testing.assert_array_equal(y, [2, 2, -1, 0, 0])
        np.testing.assert_array_equal(pull(g)[0], expected)


def test_equal_weights_stay_equal_under_adam():
    """Bit for bit, though nothing ties them but equal gradients."""
    import optax

    w = jax.random.normal(jax.random.key(3), (33, 7))
    code = cluster(w, 3)
    w, adam = means(w, code), optax.adamw(1e-2, weight_decay=1e-2)
    state = adam.init(w)

    @jax.jit
    def step(w, state):
        loss = lambda w: jnp.sum(jnp.sin(3 * shared(w, code)) * jnp.arange(7)[None])  # noqa: E731
        updates, state = adam.update(jax.grad(loss)(w), state, w)
        return optax.apply_updates(w, updates), state

    for _ in range(20):
        w, state = step(w, state)
    flat = np.asarray(shared(w, code)).reshape(-1)
    assert len(np.unique(flat)) <= 8
    np.testing.assert_allclose(flat, np.asarray(w).reshape(-1), rtol=1e-6)
