"""The exact top k of many arrays at once, with ties by index: without a sort."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@jax.jit
def keep_top(scores: Sequence[Array], alive: Sequence[Array], k: int | Array) -> list[Array]:
    """Marks the k highest scores among the alive entries of all arrays together.

    Exactly min(k, number alive) are marked; ties go to the earlier array, then to the lower flat
    index; NaN counts as the lowest score. k may be traced. Up to 2³¹ − 1 entries in all.

    The k-th highest score is found bit by bit, by 32 counts over the data, and so is the index up
    to which its ties are kept: several times faster than a sort on a CPU, no array is concatenated,
    and of sharded arrays only counts travel.
    """
    if not scores:
        return []
    keys = [_order(score, live) for score, live in zip(scores, alive, strict=True)]
    k = jnp.minimum(k, _count(alive))
    dtype = keys[0].dtype
    kth = _greatest(lambda t: _count([key >= t for key in keys]) >= k, dtype)
    room = k - _count([key > kth for key in keys])
    ties = [key == kth for key in keys]
    places = _places(keys)
    near = lambda end: [tie & (place < end) for tie, place in zip(ties, places, strict=True)]  # noqa: E731
    end = _greatest(lambda i: _count(near(i)) <= room, jnp.dtype(jnp.uint32))
    return [(key > kth) | tie for key, tie in zip(keys, near(end), strict=True)]


def _count(marks: Sequence[Array]) -> Array:
    return sum((jnp.sum(m, dtype=jnp.int32) for m in marks), jnp.int32(0))


def _places(arrays: Sequence[Array]) -> list[Array]:
    """The flat index of every entry, running on from one array to the next."""
    starts = np.cumsum([0, *(a.size for a in arrays)])
    count = lambda a: jnp.arange(a.size, dtype=jnp.uint32).reshape(a.shape)  # noqa: E731
    return [count(a) + jnp.uint32(start) for a, start in zip(arrays, starts, strict=False)]


def _order(score: Array, alive: Array) -> Array:
    """Unsigned integers in the order of the scores; 0, below any score, for what is not alive."""
    score = score if score.dtype == jnp.float64 else jnp.asarray(score, jnp.float32)
    limits = jnp.finfo(score.dtype)
    unsigned = jnp.uint32 if limits.bits == 32 else jnp.uint64
    score = jnp.nan_to_num(score, nan=limits.min, posinf=limits.max, neginf=limits.min)
    score = jnp.where(score == 0, 0, score)  # −0 and 0 are one score but two bit patterns
    bits = jax.lax.bitcast_convert_type(score, unsigned)
    sign = jnp.array(1 << (limits.bits - 1), unsigned)
    # Floats are sign and magnitude: positive ones are ordered as integers, negative ones reversed.
    return jnp.where(alive, jnp.where(bits >= sign, ~bits, bits | sign), 0)


def _greatest(holds: Callable[[Array], Array], dtype: np.dtype) -> Array:
    """The greatest unsigned number for which `holds`, which is true at 0 and false past some."""
    bits = dtype.itemsize * 8

    def try_bit(i: Array, found: Array) -> Array:
        trial = found | (jnp.ones((), dtype) << (bits - 1 - i).astype(dtype))
        return jnp.where(holds(trial), trial, found)

    return jax.lax.fori_loop(0, bits, try_bit, jnp.zeros((), dtype))
