"""The layers that the convolutional families share, with the padding and the initial values of
the PyTorch benchmarks, so that a run starts where theirs did."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_jax.convolution import convolve
from kd_jax.errors import require
from kd_jax.platform import platform

Array = jax.Array
Features = dict[str, Array]
DEEPEST = 1500  # blocks, or layers; He et al. 2016 train one of 1,202 layers

# He et al., "Delving Deep into Rectifiers", 2015, https://arxiv.org/abs/1502.01852, eq. 14.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Variance 1 / (3 fan_in), which is what torch.nn.Linear starts from.
linear_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv(
    features: int,
    kernel: int,
    dtype: Any,
    name: str,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    padding: int | None = None,
) -> nn.Conv:
    """A square convolution, padded by kernel // 2 on every side unless told otherwise.

    "SAME" would pad an even image on one side only when the stride is 2, and differ from the
    networks whose results are compared with.
    """
    padding = kernel // 2 if padding is None else padding
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=padding,
        feature_group_count=groups,
        use_bias=bias,
        dtype=dtype,
        kernel_init=he_normal,
        conv_general_dilated=convolve,
        name=name,
    )


def norm(train: bool, dtype: Any, name: str) -> nn.BatchNorm:
    """Batch norm over the whole batch, across devices too: under jit the mean is a global one."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )


def dense(
    features: int, dtype: Any, name: str, init: Any = linear_uniform, bias: bool = True
) -> nn.Dense:
    """A linear layer; its bias starts at zero."""
    return nn.Dense(features, use_bias=bias, dtype=dtype, kernel_init=init, name=name)


def global_pool(x: Array) -> Array:
    """[B, H, W, C] -> [B, C], the mean over all places."""
    return jnp.mean(x, axis=(1, 2))


def max_pool(x: Array, window: int, stride: int, padding: int = 0) -> Array:
    """Max pooling of [B, H, W, C]; padding never wins.

    On a CPU windows that lie side by side are axes of their own, of the same largest numbers: three
    quarters of a forward pass of LeNet-5 went into XLA's windows, and two fifths of a step. Of
    those that are the largest together the first one has the gradient, on every platform.
    """
    if platform() == "cpu" and window == stride and not padding:
        b, h, w, c = x.shape
        h, w = h // window, w // window
        return _largest(x[:, : h * window, : w * window].reshape(b, h, window, w, window, c))
    return nn.max_pool(x, (window, window), (stride, stride), _both_sides(padding))


@jax.custom_jvp
def _largest(tiles: Array) -> Array:
    """[B, H, window, W, window, C] -> [B, H, W, C].

    Not by the derivative of jnp.max, which asks which entries equal the largest. Where a compiler
    computes them anew for that, rounded otherwise, none does, and it divides by zero.
    """
    return jnp.max(tiles, axis=(2, 4))


@_largest.defjvp
def _largest_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (tiles,), (moved,) = primals, tangents
    # The place of the first one in the order of reading, by comparing: there is one, however they
    # are rounded here. What is no number is the largest, as for jnp.max.
    window = tiles.shape[2]
    small = jnp.int8 if window**2 < 128 else jnp.int32
    most = tiles[:, :, 0, :, 0]
    place = jnp.zeros(most.shape, small)
    for k in range(1, window**2):
        other = tiles[:, :, k // window, :, k % window]
        larger = ~((most >= other) | jnp.isnan(most))
        most = jnp.where(larger, other, most)
        place = jnp.where(larger, jnp.asarray(k, small), place)
    place = jax.lax.optimization_barrier(place)  # once a window, not once an entry
    places = jnp.arange(window**2, dtype=small).reshape(1, 1, window, 1, window, 1)
    own = jnp.where(places == place[:, :, None, :, None], moved, 0)
    return most, jnp.sum(own, axis=(2, 4))


def avg_pool(x: Array, window: int, stride: int, padding: int = 0) -> Array:
    """Average pooling of [B, H, W, C]; padding counts as zeros, as in PyTorch."""
    return nn.avg_pool(x, (window, window), (stride, stride), _both_sides(padding))


def adaptive_pool(x: Array, places: int) -> Array:
    """[B, H, W, C] -> [B, places, places, C]: place i of a side of n is the mean of those from
    floor(i n / places) up to, not including, ceil((i + 1) n / places), as in PyTorch."""
    for axis in (1, 2):
        n = x.shape[axis]
        if n != places:
            ends = [(i * n // places, -(-(i + 1) * n // places)) for i in range(places)]
            parts = [jax.lax.slice_in_dim(x, *pair, axis=axis) for pair in ends]
            x = jnp.concatenate([jnp.mean(p, axis, keepdims=True) for p in parts], axis)
    return x


def _both_sides(padding: int) -> Any:
    """The padding of height and width. (Flax annotates it as a string, and takes pairs.)"""
    return [(padding, padding)] * 2


def scaled(channels: int, width: float) -> int:
    """A number of channels times the width multiplier, at least 1."""
    return max(1, round(channels * width))


def images(inputs: Array, dtype: Any, model: str, least: int = 1) -> Array:
    """The inputs in the compute dtype, once they are seen to be images this model can take.

    Raises UsageError unless they are float [B, H, W, C] with H and W at least `least`.
    """
    require(
        inputs.ndim == 4,
        f"inputs of shape {inputs.shape}: {model} takes images [batch, height, width, channels]",
    )
    require(
        min(inputs.shape[1:3]) >= least,
        f"inputs of shape {inputs.shape}: {model} pools them to nothing; "
        f"height and width must be at least {least}",
    )
    return as_float(inputs, dtype, model)


def as_float(inputs: Array, dtype: Any, model: str) -> Array:
    """The inputs in the compute dtype. Raises UsageError if they are not floating point."""
    require(
        bool(jnp.issubdtype(inputs.dtype, jnp.floating)),
        f"inputs of dtype {inputs.dtype}: {model} takes floats; prepare the batch first",
    )
    return inputs.astype(dtype)


def checked_classes(classes: int) -> int:
    """The number of classes. Raises UsageError below 1."""
    require(classes >= 1, f"classes={classes}: a model needs at least 1 class")
    return classes


def channel_shuffle(x: Array, groups: int) -> Array:
    """[B, H, W, C]: channel c of group g moves to place c * groups + g, so that the groups of the
    next convolution each see all of these."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, groups, channels // groups)
    return x.swapaxes(3, 4).reshape(batch, height, width, channels)


def require_positive(**fields: float | Sequence[float]) -> None:
    """Raises UsageError unless each field's value (or each of its values) is above zero."""
    for name, value in fields.items():
        values = list(value) if isinstance(value, Sequence) else [value]
        require(all(v > 0 for v in values), f"{name}={value}: use a value above 0")


def require_depth(**fields: int | Sequence[int]) -> None:
    """Raises UsageError where a network has more blocks, or layers, than anybody can wait for: they
    are traced one by one, and take memory long before they are given an array."""
    for name, value in fields.items():
        count = sum(value) if isinstance(value, Sequence) else value
        require(count <= DEEPEST, f"{name}={value}: use {DEEPEST} or fewer")


def require_fraction(**fields: float) -> None:
    """Raises UsageError unless each field is a probability below 1, as dropout needs."""
    for name, value in fields.items():
        require(0 <= value < 1, f"{name}={value}: use a fraction from 0 up to, not including, 1")
