"""A convolution, as it suits the device that it runs on.

XLA:CPU computes most convolutions near the speed of the core; these it does not (jax 0.12, float32,
one core with AVX2; milliseconds, before and after):

    forward and the gradients of inputs, and of the kernel
    3x3, one channel a group, [32, 16, 16, 144]     47, 47, 95          1.4, 1.5, 34
    3x3 on [64, 2, 2, 512]                          1496, 1508, 23      17, 16, 25
    3x3 in 8 groups, [32, 32, 32, 64]               67, 55, 3346        19, 20, 20
    1x1, [32, 32, 32, 32] to 192                    8.5, 8.6, 158       7.7, 9.3, 53
    3x3, [64, 32, 32, 64]                           69, 68, 1116        69, 68, 200

So there they are the sums and products that they stand for, of the same numbers up to rounding.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from kd_jax.platform import is_read, platform

Array = jax.Array
Pair = tuple[int, int]
CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")
MOST_TAPS = 49  # of a window whose places are summed one by one
MOST_GROUPS = 64  # that are computed one by one
LARGE = 2**20  # numbers of a batch, beyond which a kernel's gradient falls out of the caches
PART = 2**18  # of so many it does not
MOST_PARTS = 16


def convolve(
    x: Array, kernel: Array, window_strides: Sequence[int], padding: Any, **others: Any
) -> Array:
    """lax.conv_general_dilated, of the same arguments.

    On a CPU its inputs are computed before it: XLA:CPU otherwise fuses what makes them, all of the
    stage's norms, activations and sums, into the transposed copies that the gradients of the
    kernels read, and computes it anew for each of them.
    """
    whole = functools.partial(lax.conv_general_dilated, **others)
    if is_read() or platform() != "cpu":
        return whole(x, kernel, window_strides, padding)
    x = lax.optimization_barrier(x)
    if not _plain(x, kernel, others):
        return whole(x, kernel, window_strides, padding)
    down, right = window_strides
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (down, right), padding)
    above, beside = ((low, high) for low, high in padding)
    strides, pads = (down, right), (above, beside)
    if min(*above, *beside) < 0:
        return whole(x, kernel, strides, pads)
    return _suited(x, kernel, strides, pads, others.get("feature_group_count", 1))


def _plain(x: Array, kernel: Array, others: dict[str, Any]) -> bool:
    """Whether these are float32 images of channels last, and a kernel without holes."""
    if x.ndim != 4 or not x.dtype == kernel.dtype == jnp.float32:
        return False
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, others.get("dimension_numbers"))
    dilations = [others.get(f"{side}_dilation") or (1, 1) for side in ("lhs", "rhs")]
    return (
        numbers == lax.conv_dimension_numbers(x.shape, kernel.shape, CHANNELS_LAST)
        and all(tuple(d) == (1, 1) for d in dilations)
        and others.get("batch_group_count", 1) == 1
        and others.get("precision") is None
        and others.get("preferred_element_type") in (None, jnp.float32)
    )


def _suited(x: Array, kernel: Array, strides: Pair, pads: tuple[Pair, Pair], groups: int) -> Array:
    """[B, H, W, C] by [h, w, C / groups, K] -> [B, H', W', K]."""
    (h, w), channels = kernel.shape[:2], x.shape[3]
    size = (h, w)
    if 1 < groups == channels and h * w <= MOST_TAPS:
        x = jnp.repeat(_padded(x, pads), kernel.shape[3] // channels, axis=3)
        return sum(
            (seen * kernel[i : i + 1, j : j + 1] for (i, j), seen in _windows(x, size, strides)),
            start=jnp.zeros((), x.dtype),
        )
    if 1 < groups <= MOST_GROUPS:
        pairs = zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([_suited(a, b, strides, pads, 1) for a, b in pairs], axis=3)
    if groups > 1:
        return _conv(x, kernel, strides, pads, groups)
    if h == w == 1:
        ((_, seen),) = _windows(_padded(x, pads), size, strides)
        return lax.dot_general(seen, kernel[0, 0], (((3,), (0,)), ((), ())))
    if h * w <= MOST_TAPS and _small(x.shape[1:3], size, strides, pads):
        seen = jnp.concatenate([s for _, s in _windows(_padded(x, pads), size, strides)], axis=3)
        flat = kernel.reshape(-1, kernel.shape[3])
        return lax.dot_general(seen, flat, (((3,), (0,)), ((), ())))
    return _by_parts(x, kernel, strides, pads)


def _padded(x: Array, pads: tuple[Pair, Pair]) -> Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0))) if any(map(any, pads)) else x


def _places(sides: Sequence[int], size: Pair, strides: Pair) -> Pair:
    """Of the window, on a map that is padded already."""
    high, wide = ((n - k) // s + 1 for n, k, s in zip(sides, size, strides, strict=True))
    return high, wide


def _windows(x: Array, size: Pair, strides: Pair) -> Iterator[tuple[Pair, Array]]:
    """((i, j), what place i, j of the window sees [B, H', W', C]), for each."""
    high, wide = _places(x.shape[1:3], size, strides)
    (down, right), (batch, channels) = strides, (x.shape[0], x.shape[3])
    for i in range(size[0]):
        for j in range(size[1]):
            ends = (batch, i + (high - 1) * down + 1, j + (wide - 1) * right + 1, channels)
            yield (i, j), lax.slice(x, (0, i, j, 0), ends, (1, down, right, 1))


def _small(sides: Sequence[int], size: Pair, strides: Pair, pads: tuple[Pair, Pair]) -> bool:
    """Whether the window is larger than the map that it goes over, or makes: it is then for neither
    pass one that XLA:CPU has a kernel for."""
    padded = [n + sum(pair) for n, pair in zip(sides, pads, strict=True)]
    made = _places(padded, size, strides)
    return any(min(pair) < k for *pair, k in zip(sides, made, size, strict=True))


def _conv(x: Array, kernel: Array, strides: Pair, pads: Any, groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=CHANNELS_LAST, feature_group_count=groups
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _by_parts(x: Array, kernel: Array, strides: Pair, pads: Any) -> Array:
    """A convolution, whose gradient by the kernel is a sum over parts of the batch."""
    return _conv(x, kernel, strides, pads)


def _derivative(
    strides: Pair, pads: Any, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    moved = []
    if not isinstance(dx, SymbolicZero):
        moved.append(_conv(dx, kernel, strides, pads))
    y = _by_parts(x, kernel, strides, pads)
    if not isinstance(dkernel, SymbolicZero):
        each = _at_once(len(x), max(x.size, y.size))
        parts = [x[i : i + each] for i in range(0, len(x), each)]
        moved.append(jnp.concatenate([_conv(part, dkernel, strides, pads) for part in parts]))
    return y, functools.reduce(jnp.add, moved)


_by_parts.defjvp(_derivative, symbolic_zeros=True)


def _at_once(batch: int, numbers: int) -> int:
    """As many examples as fit into the caches; all of them where several devices share them."""
    if numbers <= LARGE or jax.device_count() > 1:
        return batch
    parts = min(MOST_PARTS, batch, math.ceil(numbers / PART))
    return math.ceil(batch / parts)
