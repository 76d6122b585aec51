"""Roots, unit vectors and standard scores whose gradients are finite at zero."""

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
    return jnp.where(norm > 0, x, 0.0) / jnp.maximum(norm, epsilon)


def standardise(logits: Array, epsilon: float = 1e-7) -> Array:
    """(z − mean) / (std + ε) over the last axis, std with K − 1 in its denominator.

    Its gradient grows as 1 / std, up to 1/ε where all logits are equal, as they are in a network
    whose classifier begins with zeros.
    """
    centred = logits - jnp.mean(logits, axis=-1, keepdims=True)
    freedom = max(logits.shape[-1] - 1, 1)
    std = safe_root(jnp.sum(centred**2, axis=-1, keepdims=True) / freedom)
    return centred / (std + epsilon)
