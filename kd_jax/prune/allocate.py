"""How much each layer keeps. Counts are exact host integers; thresholds are traced.

Where n·sparsity is no whole number it is rounded to the nearest, halves to even, with the sparsity
taken as the decimal number that was written (0.9 is nine tenths, not the nearest binary fraction).
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.errors import require
from kd_jax.tree import Tree, named_leaves

Array = jax.Array


def _keep(size: int, sparsity: float) -> int:
    require(
        0 <= sparsity < 1, f"sparsity is {sparsity}: it must be at least 0 and less than 1 (0.9)."
    )
    return max(1, size - round(size * Fraction(str(sparsity))))


def per_layer(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """{layer: entries to keep} where each layer of n has the same sparsity: max(1, n − round(n·s)).

    A layer is never emptied, so a tiny one may end below the sparsity asked for.
    """
    return {name: _keep(size, sparsity) for name, size in sizes.items()}


def total(sizes: Mapping[str, int], sparsity: float) -> int:
    """Entries to keep of all layers together: max(1, N − round(N·s)), N the sum of the sizes."""
    return _keep(sum(sizes.values()), sparsity)


def std_thresholds(
    params: Tree, masks: Tree, quality: float | Array | Mapping[str, Any]
) -> dict[str, Array]:
    """{layer: q·σ}, σ the standard deviation of the layer's weights. Jit-able.

    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks",
    2015, https://arxiv.org/abs/1506.02626. The paper doesn't say which weights later rounds
    measure; here it is the unpruned ones, else the zeros would lower σ at each round.

    Args:
      quality: the paper's quality parameter q, one scalar or {layer: scalar}.
    """
    weights = named_leaves(params)
    thresholds = {}
    for name, mask in named_leaves(masks).items():
        w = jnp.asarray(weights[name], jnp.float32)
        kept = jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1)  # an emptied layer gives 0, not NaN
        mean = jnp.sum(jnp.where(mask, w, 0)) / kept
        variance = jnp.sum(jnp.where(mask, (w - mean) ** 2, 0)) / kept
        q = quality[name] if isinstance(quality, Mapping) else quality
        thresholds[name] = q * jnp.sqrt(variance)
    return thresholds
