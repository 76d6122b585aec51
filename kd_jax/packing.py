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


def packed(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The masks as bits, along their last axis; anything else as it is."""
    masks = {name: leaf for name, leaf in arrays.items() if is_mask(leaf)}
    return {**arrays, **(_pack(masks) if masks else {})}


def form(leaf: Any) -> Any:
    """What `packed` makes of a leaf, to be read back: bits are so few that each device has all."""
    if not is_mask(leaf):
        return leaf
    shape = (*leaf.shape[:-1], -(-leaf.shape[-1] // 8))
    return jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=whole(leaf.sharding))


def unpacked(saved: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `packed`, placed as those `arrays`. Masks that were saved as they are pass."""
    bits = {n: saved[n] for n, x in arrays.items() if is_mask(x) and saved[n].dtype != bool}
    forms = tuple((name, arrays[name].shape[-1], arrays[name].sharding) for name in bits)
    return {**saved, **(_unpacker(forms)(bits) if bits else {})}


def whole(place: Any) -> Any:
    """The same devices, each of which has all."""
    if isinstance(place, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(place.mesh, jax.sharding.PartitionSpec())
    return place


@jax.jit
def _pack(masks: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.packbits(mask, axis=-1) for name, mask in masks.items()}


@functools.lru_cache(maxsize=64)
def _unpacker(forms: tuple[tuple[str, int, Any], ...]) -> Callable[[Any], dict[str, jax.Array]]:
    """For masks of these names, sizes of their last axis, and places."""

    def unpack(bits: dict[str, jax.Array]) -> dict[str, jax.Array]:
        whole = lambda x, count: jnp.unpackbits(x, axis=-1, count=count).astype(bool)  # noqa: E731
        return {name: whole(bits[name], count) for name, count, _ in forms}

    return jax.jit(unpack, out_shardings={name: place for name, _, place in forms})


def values(numbered: Mapping[str, Any]) -> list[Any]:
    return [numbered[name] for name in sorted(numbered)]
