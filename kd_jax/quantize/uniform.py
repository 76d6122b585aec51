"""Numbers on a grid of integers, and gradients through it.

The integer convention, of all that is quantised here: a number x is stood for by an integer

    q = clip(round(x / s) + z, low, high),  and is then  x̂ = s (q − z),

with halves rounded to even. Weights are symmetric: z = 0, and b bits hold −h to h, h = 2^(b−1) − 1
(8 bits: −127 to 127; 2 bits: −1, 0, 1), so that zero stays zero and both signs reach as far. What a
layer is given is affine: b bits hold −2^(b−1) to 2^(b−1) − 1, and z, an integer, is where zero is.
Both as int8 kernels take them; other tools take s = max |x| / 127.5 or unsigned integers.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array
SMALLEST = 1e-12  # a scale of numbers that are all zero must not be
BITS = (2, 8)


@flax.struct.dataclass
class Grid:
    """Where numbers may lie: s (q − z), low <= q <= high. All are float32 and broadcast against the
    numbers; what is integer is held as such floats.

    Attributes:
      scale: s.
      zero: z.
      low, high: the first and the last integer.
    """

    scale: Array
    zero: Array
    low: Array
    high: Array

    @staticmethod
    def symmetric(extent: Array, bits: Array | int) -> "Grid":
        """Of weights between -extent and extent; all scales have the same integers."""
        high = 2.0 ** (jnp.asarray(bits, jnp.float32) - 1) - 1
        scale = jnp.maximum(extent / high, SMALLEST)
        of = lambda x: jnp.broadcast_to(x, (1,) * scale.ndim).astype(jnp.float32)  # noqa: E731
        return Grid(scale, of(0.0), of(-high), of(high))

    @staticmethod
    def affine(least: Array, most: Array, bits: Array | int) -> "Grid":
        """Of inputs between `least` and `most`; the range is widened to have zero in it."""
        half = 2.0 ** (jnp.asarray(bits, jnp.float32) - 1)
        least, most = jnp.minimum(least, 0.0), jnp.maximum(most, 0.0)
        scale = jnp.maximum((most - least) / (2 * half - 1), SMALLEST)
        of = lambda x: jnp.broadcast_to(x, scale.shape).astype(jnp.float32)  # noqa: E731
        zero = jnp.clip(jnp.round(-half - least / scale), -half, half - 1)
        return Grid(scale, zero, of(-half), of(half - 1))

    def codes(self, x: Array) -> Array:
        """The integers of numbers, as floats."""
        return codes(x, self.scale, self.zero, self.low, self.high)

    def values(self, q: Array) -> Array:
        """The numbers of integers."""
        return (q - self.zero) * self.scale

    def __call__(self, x: Array) -> Array:
        """The numbers nearest to these on the grid."""
        return self.values(self.codes(x))

    def data(self) -> dict[str, Array]:
        """As a dictionary, to be kept."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def codes(x: Array, scale: Array, zero: Array, low: Array, high: Array) -> Array:
    return jnp.clip(jnp.round(x / scale) + zero, low, high)


@jax.custom_vjp
def on_grid(x: Array, scale: Array, zero: Array, low: Array, high: Array, gain: Array) -> Array:
    """As Grid.__call__, for training. The gradient goes straight through to x where it lies within
    the grid, and is zero beyond (Bengio, Léonard, Courville, "Estimating or Propagating Gradients
    Through Stochastic Neurons", 2013, https://arxiv.org/abs/1308.3432); that of the scale is

        ∂x̂/∂s = round(x/s) − x/s  within the grid,  low − z or high − z  beyond,

    times `gain`: Esser et al., "Learned Step Size Quantization", 2020,
    https://arxiv.org/abs/1902.08153, where gain = 1/√(N·high), N numbers to a scale.
    """
    del gain
    return (codes(x, scale, zero, low, high) - zero) * scale


def _forward(x: Array, scale: Array, zero: Array, low: Array, high: Array, gain: Array) -> Any:
    q = codes(x, scale, zero, low, high)
    return (q - zero) * scale, (x, scale, zero, low, high, gain, q)


def _backward(kept: Any, g: Array) -> Any:
    x, scale, zero, low, high, gain, q = kept
    place = x / scale + zero
    within = (place >= low) & (place <= high)
    of_scale = jnp.where(within, q - place, q - zero) * g
    axes = tuple(i for i, n in enumerate(scale.shape) if n == 1)
    of_scale = jnp.sum(of_scale, axis=axes, keepdims=True) if scale.ndim else jnp.sum(of_scale)
    none = jnp.zeros_like
    given = (none(zero), none(low), none(high), none(gain))
    return (jnp.where(within, g, 0.0), of_scale * gain, *given)


on_grid.defvjp(_forward, _backward)
