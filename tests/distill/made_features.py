"""Features and embeddings whose losses are known from the losses' reference implementations, and
what a loss and its gradient are at them, in float64."""

import jax
import jax.numpy as jnp
import numpy as np

QUICK = {"xla_backend_optimization_level": 0}


def wave(function, step, phase, *shape):
    return function(step * np.arange(np.prod(shape), dtype=np.float64).reshape(shape) + phase)


def maps(*wave_and_shape):
    """Of a shape [B, C, H, W], as [B, H, W, C]."""
    return wave(*wave_and_shape).transpose(0, 2, 3, 1)


F_S, F_T = maps(np.sin, 0.37, 0.5, 4, 3, 4, 4), maps(np.cos, 0.23, -0.2, 4, 3, 4, 4)
G_S, G_T = maps(np.sin, 0.29, 0.9, 4, 5, 4, 4), maps(np.cos, 0.31, 0.6, 4, 5, 4, 4)
SMALL = maps(np.cos, 0.41, 0.3, 4, 5, 2, 2)
E_S = wave(np.sin, 0.61, 0.2, 4, 8) + 0.1
E_T = wave(np.cos, 0.53, -0.4, 4, 8) + 0.05
E_WIDE = wave(np.cos, 0.47, 0.15, 4, 10)
Z_S, Z_T = 3 * wave(np.sin, 0.7, 0.3, 4, 6), 4 * wave(np.cos, 0.9, 0.1, 4, 6)


def mean_and_gradient(loss, *inputs):
    """(mean of the loss, norm of its gradient by all inputs), in float64."""

    def mean(*inputs):
        values = loss(*inputs)
        assert values.dtype == jnp.float64
        return jnp.mean(values)

    with jax.enable_x64(True):
        every = tuple(range(len(inputs)))
        f = jax.jit(jax.value_and_grad(mean, argnums=every), compiler_options=QUICK)
        value, gradients = f(*map(jnp.asarray, inputs))
        return float(value), float(np.sqrt(sum(np.sum(np.square(g)) for g in gradients)))


def agrees(loss, inputs, value, gradient_norm):
    """Fails unless mean and gradient are those of the reference."""
    np.testing.assert_allclose(mean_and_gradient(loss, *inputs), (value, gradient_norm), rtol=1e-6)
