"""The shared layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but

from kd_jax.models import layers
from kd_jax.platform import tracing_for

SIZES = [((4, 6), 2), ((7, 5), 2), ((9, 10), 3), ((2, 2), 2)]


@pytest.mark.parametrize("case", slow_but(SIZES[1:2], SIZES))
def test_windows_side_by_side_have_the_largest_on_every_platform(case):
    size, window = case
    """Sides that are no multiple lose their ends; each gradient goes to the largest."""
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    weights = jax.random.normal(jax.random.key(1), layers.max_pool(x, window, window).shape)
    pooled = lambda x: (layers.max_pool(x, window, window) * weights).sum()  # noqa: E731
    with tracing_for("tpu"):
        windows = jax.jit(jax.value_and_grad(pooled)).lower(x)
    assert "reduce_window" in windows.as_text()
    assert "reduce_window" not in jax.jit(jax.grad(pooled)).lower(x).as_text()
    value, gradient = windows.compile()(x)
    np.testing.assert_allclose(pooled(x), value, rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(pooled)(x), gradient)


def test_those_that_are_the_largest_together_share_the_gradient():
    """By hand, on a CPU: of 3, 1, 3, 3 three have a third each."""
    x = jnp.array([[3.0, 1.0], [3.0, 3.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: layers.max_pool(x, 2, 2).sum())(x)
    np.testing.assert_allclose(gradient[0, :, :, 0], [[1 / 3, 0], [1 / 3, 1 / 3]], rtol=1e-6)
