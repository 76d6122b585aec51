"""Losses of statistics of maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import F_S, F_T, G_S, G_T, SMALL, agrees

from kd_jax.distill import FSP, NST, VID
from kd_jax.distill.statistics import flows, kernel
from kd_jax.errors import UsageError


def float32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_neuron_selectivity_is_that_of_the_reference():
    agrees(lambda s: NST()([(s, F_T)], {}), [F_S], 0.6519550296213513, 0.15784743470926402)


def test_information_is_that_of_the_reference():
    # With the identity for a regressor and a variance of 5.
    agrees(lambda s: VID()([(s, F_T)], {}), [F_S], 0.8984388456325139, 0.013973180368675904)


def test_flows_are_those_of_the_reference():
    agrees(
        lambda f, g: FSP()([(f, F_T), (g, G_T)], {}),
        [F_S, G_S],
        0.23375294757842607,
        0.04295963728707275,
    )


def test_selectivity_is_the_distance_of_the_mean_outer_products_of_channels():
    s, t = F_S.reshape(4, 16, 3), SMALL.repeat(2, 1).repeat(2, 2).reshape(4, 16, 5)
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    gap = s @ s.swapaxes(1, 2) / 3 - t @ t.swapaxes(1, 2) / 5
    pair = float32(F_S, SMALL.repeat(2, 1).repeat(2, 2))
    np.testing.assert_allclose(NST()([pair], {}), np.sum(gap**2, (1, 2)), rtol=1e-4)


def test_both_ways_to_a_kernel_agree():
    a, b = float32(
        np.sin(np.arange(42.0)).reshape(2, 7, 3), np.cos(np.arange(30.0)).reshape(2, 5, 3)
    )
    by_hand = np.mean(np.einsum("bcn,bdn->bcd", a, b) ** 2, axis=(1, 2))
    np.testing.assert_allclose(kernel(a, b), by_hand, rtol=1e-5)  # 3 places, fewer than channels
    wide = [jnp.pad(x, [(0, 0), (0, 0), (0, 6)]) for x in (a, b)]
    np.testing.assert_allclose(kernel(*wide), by_hand, rtol=1e-5)


@pytest.mark.parametrize("term", [NST(), FSP()])
def test_nothing_is_left_to_learn_once_student_is_teacher(term):
    f, g = float32(F_S, G_S)
    value, gradient = jax.value_and_grad(lambda x: jnp.mean(term([(x, f), (g, g)], {})))(f)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_larger_map_is_pooled():
    f, small = float32(F_S, SMALL[..., :3])
    pooled = f.reshape(4, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    for term in (NST(), VID()):
        np.testing.assert_allclose(term([(f, small)], {}), term([(pooled, small)], {}), rtol=1e-5)
        np.testing.assert_allclose(term([(small, f)], {}), term([(small, pooled)], {}), rtol=1e-5)


def test_variances_are_trained_towards_the_squared_error():
    f_s, f_t = float32(F_S, F_T)
    params = VID().connectors(jax.random.key(0), [(f_s, f_t)])["regressor0"]
    np.testing.assert_allclose(jax.nn.softplus(params["rho"]) + 1e-5, 5, rtol=1e-5)
    identity = {f"conv{i}": {"kernel": jnp.eye(3).reshape(1, 1, 3, 3)} for i in range(3)}
    error = jnp.mean((jax.nn.relu(f_s) - f_t) ** 2, axis=(0, 1, 2))
    slope = jax.grad(
        lambda rho: jnp.mean(VID()([(f_s, f_t)], {"regressor0": {**identity, "rho": rho}}))
    )
    np.testing.assert_allclose(slope(jnp.log(jnp.expm1(error - 1e-5))), 0, atol=1e-6)
    assert jnp.all(slope(params["rho"]) > 0)  # 5 is too much
    assert jnp.all(slope(jnp.full((3,), -3.0)) < 0)


def test_a_flow_is_the_mean_product_of_two_maps():
    f, g = F_S[..., :1], SMALL[..., :1]
    pooled = f.reshape(4, 2, 2, 2, 2).mean(axis=(2, 4))
    (flow,) = flows(float32(f, g))
    np.testing.assert_allclose(flow[:, 0, 0], np.mean(pooled * g[..., 0], (1, 2)), rtol=1e-5)
    (flow,) = flows(float32(F_S, SMALL))
    assert flow.shape == (4, 5, 3)  # out of the later map, into it from the earlier


def test_flows_have_connectors_only_where_widths_differ():
    f, g = float32(F_S, G_S)
    assert FSP().connectors(jax.random.key(0), [(f, f), (g, g)]) == {}
    params = FSP().connectors(jax.random.key(0), [(f, f), (f, g)])
    assert params.keys() == {"width1"}
    assert FSP()([(f, f), (f, g)], params).shape == (4,)


def test_one_feature_alone_has_no_flow():
    with pytest.raises(UsageError, match=r"^student-taps: a flow is between two features"):
        FSP().connectors(jax.random.key(0), [tuple(float32(F_S, F_T))])


def test_a_variance_must_be_positive():
    with pytest.raises(UsageError, match=r"VID\.variance is 0"):
        VID(variance=0.0)
