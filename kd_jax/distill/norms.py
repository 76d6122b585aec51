"""Roots and unit vectors whose gradients are finite at zero."""

import jax
import jax.numpy as jnp

Array = jax.Array


def safe_root(x: Array) -> Array:
    """√x, whose gradient at zero is zero rather than infinite."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def unit(x: Array, epsilon: float = 1e-12) -> Array:
    """x / max(‖x‖₂, ε) over the last axis; at zero it is zero, and so is its gradient."""
    norm = safe_root(jnp.sum(x**2, axis=-1, keepdims=True))
    return x / jnp.maximum(norm, epsilon)
