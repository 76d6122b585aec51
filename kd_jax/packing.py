"""A tree of arrays as a flat dictionary to be saved, its masks as bits."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def numbered(carry: Any) -> dict[str, Any]:
    """The leaves by number: any tree, whatever its classes, is then one flat dictionary."""
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(carry))}


def is_mask(leaf: Any) -> bool:
    return leaf.dtype == bool and leaf.ndim >= 2


def packed(leaf: Any) -> Any:
    """A mask as bits, along its last axis; anything else as it is."""
    return _pack(leaf) if is_mask(leaf) else leaf


def form(leaf: Any) -> Any:
    """What `packed` makes of a leaf, to be read back: bits are so few that each device has all."""
    if not is_mask(leaf):
        return leaf
    shape = (*leaf.shape[:-1], -(-leaf.shape[-1] // 8))
    return jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=whole(leaf.sharding))


def unpacked(saved: Any, leaf: Any) -> Any:
    """The inverse of `packed`, placed as `leaf`. Masks that were saved as they are pass."""
    if not is_mask(leaf) or saved.dtype == bool:
        return saved
    return _unpacker(leaf.shape[-1], leaf.sharding)(saved)


def whole(place: Any) -> Any:
    """The same devices, each of which has all."""
    if isinstance(place, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(place.mesh, jax.sharding.PartitionSpec())
    return place


_pack = jax.jit(functools.partial(jnp.packbits, axis=-1))


@functools.lru_cache(maxsize=64)
def _unpacker(count: int, place: Any) -> Callable[[jax.Array], jax.Array]:
    unpack = lambda bits: jnp.unpackbits(bits, axis=-1, count=count).astype(bool)  # noqa: E731
    return jax.jit(unpack, out_shardings=place)


def values(numbered: Mapping[str, Any]) -> list[Any]:
    return [numbered[name] for name in sorted(numbered)]
