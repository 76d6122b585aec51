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
    """Sides that are no multiple lose their ends; each gradient goes to the largest."""
    size, window = case
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


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_of_those_that_are_the_largest_together_the_first_has_the_gradient(platform):
    """By hand: of 1, 3, 3, 3 the second, on every platform; and what is no number wins."""
    x = jnp.array([[[1.0, 3.0], [3.0, 3.0]], [[0.0, -1.0], [jnp.nan, 2.0]]])[..., None]
    with tracing_for(platform):
        pooled, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(layers.max_pool(x, 2, 2))))(
            x[:1]
        )
        alone = layers.max_pool(x, 2, 2)
    assert pooled == 3
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1], [0, 0]])
    assert jnp.isnan(alone[1]).all()


def test_its_gradient_is_that_of_one_entry_where_a_compiler_rounds_them_anew():
    """After batch norm, with few optimisations, XLA:CPU computes the normalised map once more for
    the gradient, and otherwise: no entry was then the largest, and 0 / 0 went on from there."""
    x, scale = (jax.random.normal(jax.random.key(i), (2, 8, 8, 8)) for i in range(2))
    scale = scale[:1, :1, :1]

    def loss(scale):
        moments = (f(x, axis=(0, 1, 2), keepdims=True) for f in (jnp.mean, jnp.var))
        mean, variance = moments
        y = (x - mean) * (jax.lax.rsqrt(variance + 1e-5) * scale) + 0.1
        return jnp.mean(layers.max_pool(y, 2, 2) ** 2)

    few = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    found = jax.jit(jax.grad(loss), compiler_options=few)(scale)
    np.testing.assert_allclose(found, jax.grad(loss)(scale), rtol=1e-4, atol=1e-6)
