"""Numbers by which arrays are known again: where one bit differs, so do they."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array


def checksums(arrays: Any) -> np.ndarray:
    """uint32 [leaves], one of each array of a tree, in the order of its leaves; on the host.

    Whole numbers are added without rounding, in any order: arrays that are split over devices have
    the same ones.
    """
    # Each by itself: they need not live on the same devices.
    return np.asarray(jax.device_get([_of(leaf) for leaf in jax.tree.leaves(arrays)]), np.uint32)


@jax.jit
def _of(x: Array) -> Array:
    if jnp.issubdtype(x.dtype, jnp.bool_):
        x = x.astype(jnp.uint8)
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    bits = bits.reshape(-1).astype(jnp.uint32)
    # Each entry is mixed with its place, or two that change places would not be seen; the factors
    # are odd, so that no bit is lost (those of MurmurHash3's last step).
    place = lax.iota(jnp.uint32, bits.size) * jnp.uint32(0x9E3779B1)
    mixed = (bits ^ place) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)
