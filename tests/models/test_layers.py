"""The shared layers."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.models import layers


def test_a_convolution_is_that_of_lax_on_every_platform(monkeypatch):
    """The same numbers and gradients; and off the CPU the same program."""
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    given = {"padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def loss(convolution):
        return lambda x, w: jnp.sum(jnp.sin(convolution(jnp.tanh(x), w, (2, 2), **given)))

    ours, lax = loss(layers.convolve), loss(jax.lax.conv_general_dilated)
    for a, b in zip(
        jax.jit(jax.value_and_grad(ours, (0, 1)))(x, kernel)[1],
        jax.jit(jax.value_and_grad(lax, (0, 1)))(x, kernel)[1],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert "optimization_barrier" in str(jax.make_jaxpr(ours)(x, kernel))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    ours = loss(layers.convolve)  # anew: the old one has been traced
    assert str(jax.make_jaxpr(ours)(x, kernel)) == str(jax.make_jaxpr(lax)(x, kernel))
