"""Unit vectors, and what brings features to one another's shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import F_S, SMALL

from kd_jax.distill import connect
from kd_jax.distill.norms import unit
from kd_jax.errors import UsageError


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


def test_a_length_that_does_not_divide_is_pooled_in_bins_that_overlap():
    # Of 5 rows ⌊5i/3⌋ to ⌈5(i+1)/3⌉: 0-1, 1-3 and 3-4; of 4 columns the first and second half.
    x = jnp.asarray(F_S[:, :, :1].repeat(4, 2), jnp.float32)
    x = jnp.concatenate([x, 3 * x[:, :1]], axis=1).at[:, :, 2:].multiply(2.0)
    rows = np.stack([x[:, a:b, 0].mean(1) for a, b in ((0, 2), (1, 4), (3, 5))], axis=1)
    expected = np.stack([rows, 2 * rows], axis=2)
    np.testing.assert_allclose(connect.pool_to(x, 3, 2), expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_by_hand():
    x = jnp.array([[1.0, 2], [3, 2], [8, 2]])
    params = {"scale": jnp.array([2.0, 3]), "bias": jnp.array([-1.0, 5])}
    # Mean 4 and variance 26/3; of a constant nothing is left but the bias.
    first = 2 * np.array([-3, -1, 4]) / np.sqrt(26 / 3 + 1e-5) - 1
    found = connect.norm(params, x)
    np.testing.assert_allclose(found, np.stack([first, [5, 5, 5]], axis=1), rtol=1e-6)
    as_map = connect.norm(params, x.reshape(1, 3, 1, 2).astype(jnp.bfloat16))
    assert as_map.dtype == jnp.bfloat16
    np.testing.assert_allclose(as_map.reshape(3, 2), found, rtol=1e-2)
    begun = connect.norm(connect.init_norm(2), x)[:, 0]
    np.testing.assert_allclose([begun.mean(), begun.std()], [0, 1], atol=1e-6)


def test_layers_begin_uniform_within_the_root_of_what_a_unit_reads():
    dense = connect.init_dense(jax.random.key(0), 25, 4000)
    conv = connect.init_conv(jax.random.key(0), (5, 5), 1, 4000)
    assert dense["kernel"].shape == (25, 4000)
    assert conv["kernel"].shape == (5, 5, 1, 4000)
    assert conv.keys() == {"kernel"}
    for drawn in (dense["kernel"], dense["bias"], conv["kernel"]):
        assert -0.2 <= jnp.min(drawn) < -0.199
        assert 0.199 < jnp.max(drawn) < 0.2
        np.testing.assert_allclose(jnp.mean(drawn), 0, atol=0.01)
    assert not jnp.any(dense["kernel"][0] == dense["bias"])


def test_a_convolution_keeps_the_size_of_a_map_unless_told_otherwise():
    x, params = jnp.arange(25.0).reshape(1, 5, 5, 1), {"kernel": jnp.ones((3, 3, 1, 1))}
    padded = np.pad(x[0, :, :, 0], 1)
    by_hand = sum(padded[i : i + 5, j : j + 5] for i in range(3) for j in range(3))
    found = connect.conv(params | {"bias": jnp.array([7.0])}, x)
    np.testing.assert_allclose(found[0, :, :, 0], by_hand + 7)
    np.testing.assert_allclose(connect.conv(params, x, stride=2)[0, :, :, 0], by_hand[::2, ::2])
    valid = connect.conv(params, x, padding=0)
    np.testing.assert_allclose(valid[0, :, :, 0], by_hand[1:-1, 1:-1])


def test_a_linear_layer_by_hand():
    params = {"kernel": jnp.array([[1.0, 2], [3, 4]]), "bias": jnp.array([10.0, 20])}
    np.testing.assert_allclose(connect.dense(params, jnp.array([[[1.0, -1]]])), [[[8, 18]]])


def test_a_share_of_the_channels_is_at_least_one():
    assert [connect.reduced(5, reduction) for reduction in (1, 2, 5)] == [5, 2, 1]
    for reduction in (0, 6):
        with pytest.raises(UsageError, match=f"reduction {reduction}: between 1 and .* 5"):
            connect.reduced(5, reduction)
