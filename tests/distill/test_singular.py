"""Singular vectors of maps, and the loss of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from made_features import F_S, F_T, G_S, G_T
from marks import slow_but

from kd_jax.distill import KDSVD
from kd_jax.distill.singular import decompose, right_vectors
from kd_jax.errors import UsageError


def by_numpy(pairs, k):
    """The loss of each example, in a loop."""
    totals = []
    for example in range(4):
        ours, theirs = [], []
        for f_s, f_t in pairs:
            flat = [f[example].reshape(-1, f.shape[-1]) for f in (f_s, f_t)]
            v_s = np.linalg.svd(flat[0], full_matrices=False)[2][: k + 3].T
            _, sigma, v_t = np.linalg.svd(flat[1], full_matrices=False)
            v_t, scale = v_t[:k].T, sigma[:k] / np.linalg.norm(sigma[:k])
            cosines = v_s.T @ v_t
            best = np.argmax(np.abs(cosines), axis=0)
            sign = np.sign(cosines[best, range(k)])
            ours.append(v_s[:, best] * sign * scale)
            theirs.append(v_t * scale)
        r_s, r_t = (np.exp(-((v[1][:, None] - v[0][None]) ** 2) / 8) for v in (ours, theirs))
        totals.append(np.sum((r_s - r_t) ** 2))
    return totals


@pytest.mark.parametrize("vectors", slow_but([2], [1, 2]))
def test_value_is_that_of_a_loop(vectors):
    pairs = [(F_S, F_T), (G_S, G_T)]
    with jax.enable_x64(True):
        values = KDSVD(vectors=vectors)([(jnp.asarray(s), jnp.asarray(t)) for s, t in pairs], {})
        np.testing.assert_allclose(values, by_numpy(pairs, vectors), rtol=1e-9)


# More places than channels, and fewer.
@pytest.mark.parametrize("shape", slow_but([(2, 3, 5)], [(2, 5, 3), (2, 3, 5)]))
def test_derivatives_of_singular_vectors_are_those_of_finite_differences(shape):
    with jax.enable_x64(True):
        x = jnp.asarray(np.sin(np.arange(30.0) ** 1.3).reshape(shape))

        def invariant(x):  # of the vectors' signs
            sigma, v = right_vectors(x, 2)
            return sigma, jnp.einsum("bck,bdk->bkcd", v, v)

        check_grads(invariant, (x,), order=1, modes=["fwd", "rev"], rtol=1e-5)


def test_equal_singular_values_have_finite_gradients():
    x = jnp.broadcast_to(jnp.eye(4).reshape(1, 2, 2, 4), (2, 2, 2, 4))
    gradient = jax.grad(lambda x: jnp.sum(decompose(x, 2)[1] ** 3))(x)
    assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.slow
def test_the_size_of_a_map_does_not_matter_and_a_copy_loses_nothing():
    f, g, h = (jnp.asarray(x, jnp.float32) for x in (F_S, G_S, G_T))
    one, other = KDSVD()([(f, f), (g, h)], {}), KDSVD()([(7 * f, f), (g, h)], {})
    np.testing.assert_allclose(other, one, rtol=1e-4)
    np.testing.assert_allclose(KDSVD()([(f, f), (g, g)], {}), 0, atol=1e-9)


def test_what_has_no_vectors_to_compare_is_refused():
    pair = (F_S, F_T)
    with pytest.raises(UsageError, match=r"^student-taps: two successive features"):
        KDSVD().connectors(jax.random.key(0), [pair])
    with pytest.raises(UsageError, match=r"^vectors 4: between 1 and 3"):
        KDSVD(vectors=4).connectors(jax.random.key(0), [pair, pair])
