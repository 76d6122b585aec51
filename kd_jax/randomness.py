"""Randomness as a function of (seed, name, step): nothing random is stored, so a resumed run
draws what the uninterrupted one would have drawn."""

import zlib

import jax

Array = jax.Array


def stream(seed: int | Array, name: str) -> Array:
    """A typed key for one named use of randomness. `seed` may be traced (vmapped runs)."""
    # crc32 rather than hash(): Python salts the hash of a string anew in every process.
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)


def at_step(seed: int | Array, name: str, step: int | Array) -> Array:
    """The key of stream `name` at one step."""
    return jax.random.fold_in(stream(seed, name), step)
