"""Numbers by which arrays are known again: where one bit differs, so do they."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
SMALL = 2**20  # numbers


def checksums(arrays: Any) -> np.ndarray:
    """uint32 [leaves], one of each array of a tree, in the order of its leaves; on the host.

    Whole numbers are added without rounding, in any order: arrays that are split over devices have
    the same ones.
    """
    leaves = jax.tree.leaves(arrays)
    small = [i for i, leaf in enumerate(leaves) if _is_small(leaf)]
    here = dict(zip(small, jax.device_get([leaves[i] for i in small]), strict=True))
    # The others each by itself: they need not live on the same devices.
    found = [_of_host(here[i]) if i in here else _of(leaf) for i, leaf in enumerate(leaves)]
    return np.asarray(jax.device_get(found), np.uint32)


def _is_small(leaf: Any) -> bool:
    """A program for its shape would take longer to compile than NumPy to add it up; and all of it
    can be had here."""
    return leaf.size <= SMALL and getattr(leaf, "is_fully_addressable", True)


@jax.jit
def _of(x: Array) -> Array:
    if jnp.issubdtype(x.dtype, jnp.bool_):
        x = x.astype(jnp.uint8)
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    return _mixed(bits.reshape(-1).astype(jnp.uint32), lax.iota(jnp.uint32, bits.size))


def _of_host(x: np.ndarray) -> np.uint32:
    bits = np.ascontiguousarray(x).reshape(-1).view(f"uint{8 * x.dtype.itemsize}")
    return _mixed(bits.astype(np.uint32), np.arange(bits.size, dtype=np.uint32))


def _mixed(bits: Any, place: Any) -> Any:
    """uint32, of uint32 [N] and the place of each, in NumPy or JAX."""
    # Each entry is mixed with its place, or two that change places would not be seen; the factors
    # are odd, so that no bit is lost (those of MurmurHash3's last step).
    mixed = (bits ^ (place * np.uint32(0x9E3779B1))) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (mixed ^ (mixed >> np.uint32(16))).sum(dtype=np.uint32)
