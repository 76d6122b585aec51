"""Integers and products are those of qwix, for its scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix

from kd_jax.forward import from_apply
from kd_jax.quantize import Grid, Layout, integer, integers, quantised
from kd_jax.quantize.network import beside


def of(x):
    return jnp.asarray(x, jnp.float32)


def grid_of(array, bits=8):
    """The grid that a QArray of qwix lies on: its lowest integer is one further down."""
    zero = 0 if array.zero_point is None else array.zero_point
    half = 2 ** (bits - 1)
    ones = (1,) * array.scale.ndim
    low, high = jnp.full(ones, -half), jnp.full(ones, half - 1)
    return Grid(of(array.scale), jnp.broadcast_to(of(zero), ones), of(low), of(high))


@pytest.mark.parametrize(("bits", "kind"), [(8, jnp.int8), (4, jnp.int4)])
@pytest.mark.parametrize("axes", [(), (1,)])
@pytest.mark.parametrize("method", ["absmax", "minmax"])
def test_integers(bits, kind, axes, method):
    w = jax.random.normal(jax.random.key(0), (64, 5)) + 0.3
    theirs = qwix.quantize(w, kind, channelwise_axes=axes, calibration_method=method)
    if theirs.zero_point is not None and theirs.zero_point.size > 1:
        pytest.skip("a zero for each channel, which our weights do without")
    ours = grid_of(theirs, bits)
    np.testing.assert_array_equal(ours.codes(w), theirs.qvalue.astype(jnp.float32))
    np.testing.assert_allclose(ours(w), qwix.dequantize(theirs), rtol=1e-6, atol=1e-7)


def test_an_affine_grid_is_theirs():
    x = jax.random.uniform(jax.random.key(1), (200,), minval=-0.4, maxval=2.0)
    theirs = qwix.quantize(x, jnp.int8, calibration_method="minmax")
    ours = Grid.affine(jnp.min(x), jnp.max(x), 8)
    np.testing.assert_allclose(ours.scale, theirs.scale[0], rtol=1e-6)
    assert abs(float(ours.zero) - float(theirs.zero_point[0])) <= 1
    np.testing.assert_allclose(ours(x), qwix.dequantize(theirs), atol=1.01 * float(ours.scale))


def product(apply, kernel, x, of_x, of_w):
    """Logits by our integers, of a network that is one product."""
    model = from_apply(
        lambda v, x, train: apply(x, v["params"]["kernel"]), {"params": {"kernel": kernel}}
    )
    it = quantised(model, Layout(weights=("kernel",), inputs=("kernel",)))
    parts = {"weights": {"kernel": of_w}, "inputs": {"kernel": of_x}, "codes": {}}
    variables = it.rests(beside(Layout(), {"params": {"kernel": kernel}}, parts))
    return integer(it).forward(integers(variables), x)[0].logits


def scalar(grid):
    return Grid(*(value.reshape(()) for value in grid.data().values()))


def test_a_dense_product():
    keys = jax.random.split(jax.random.key(2))
    x, w = jax.random.normal(keys[0], (7, 64)), jax.random.normal(keys[1], (64, 5))
    qx, qw = qwix.quantize(x, jnp.int8), qwix.quantize(w, jnp.int8, channelwise_axes=(1,))
    theirs = qwix.dot_general(qx, qw, (((1,), (0,)), ((), ())))
    ours = product(jnp.matmul, w, x, scalar(grid_of(qx)), grid_of(qw))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_convolution():
    keys = jax.random.split(jax.random.key(3))
    x, w = jax.random.normal(keys[0], (2, 8, 8, 6)), jax.random.normal(keys[1], (3, 3, 6, 4))
    qx, qw = qwix.quantize(x, jnp.int8), qwix.quantize(w, jnp.int8, channelwise_axes=(3,))
    how = {"window_strides": (2, 2), "padding": ((1, 1), (0, 1))}
    how["dimension_numbers"] = jax.lax.conv_dimension_numbers(
        x.shape, w.shape, ("NHWC", "HWIO", "NHWC")
    )
    theirs = qwix.conv_general_dilated(qx, qw, **how)
    ours = product(
        lambda x, w: jax.lax.conv_general_dilated(x, w, **how),
        w,
        x,
        scalar(grid_of(qx)),
        grid_of(qw),
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
