"""What brings a student's features to the teacher's shapes: small layers as pure functions of their
parameters. They exist in training alone, so that batch norm has no running statistics."""

import math

import jax
import jax.numpy as jnp

from kd_jax.convolution import convolve
from kd_jax.errors import require
from kd_jax.tree import Tree

Array = jax.Array


def init_dense(key: Array, inputs: int, outputs: int, bias: bool = True) -> Tree:
    """A linear layer [inputs] -> [outputs], with torch.nn.Linear's initial values."""
    return init_conv(key, (), inputs, outputs, bias)


def init_conv(
    key: Array, window: tuple[int, ...], inputs: int, outputs: int, bias: bool = False
) -> Tree:
    """A convolution's kernel [*window, inputs, outputs], uniform in ±1/√fan_in as torch has it."""
    shape = (*window, inputs, outputs)
    bound = math.prod(shape[:-1]) ** -0.5
    draw = lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)  # noqa: E731
    keys = jax.random.split(key)
    params = {"kernel": draw(keys[0], shape)}
    return params | ({"bias": draw(keys[1], (outputs,))} if bias else {})


def init_norm(channels: int) -> Tree:
    """Batch norm: scale 1 and bias 0."""
    return {"scale": jnp.ones((channels,)), "bias": jnp.zeros((channels,))}


def init_conv_norm(key: Array, window: int, inputs: int, outputs: int) -> Tree:
    """A square convolution and the batch norm after it."""
    conv = init_conv(key, (window, window), inputs, outputs)
    return {"conv": conv, "norm": init_norm(outputs)}


def init_widths(key: Array, pairs: list[tuple[Array, Array]]) -> Tree:
    """1x1 convolutions to the teacher's width, for those of the pairs of maps that differ in it."""
    made = {}
    for i, (f_s, f_t) in enumerate(pairs):
        inputs, outputs = f_s.shape[-1], f_t.shape[-1]
        if inputs != outputs:
            made[f"width{i}"] = init_conv(jax.random.fold_in(key, i), (1, 1), inputs, outputs)
    return made


def reduced(channels: int, reduction: int) -> int:
    """The teacher's channels over a field `reduction`. Raises UsageError where that leaves none."""
    require(
        1 <= reduction <= channels,
        f"reduction {reduction}: between 1 and the teacher's {channels} channels",
    )
    return channels // reduction


def widen(params: Tree, i: int, x: Array) -> Array:
    """Map i, in the teacher's width."""
    return conv(params[f"width{i}"], x) if f"width{i}" in params else x


def dense(params: Tree, x: Array) -> Array:
    """[..., inputs] -> [..., outputs]."""
    y = x @ params["kernel"].astype(x.dtype)
    return _biased(params, y)


def conv(params: Tree, x: Array, stride: int = 1, padding: int | str | None = None) -> Array:
    """[B, H, W, inputs] -> [B, H', W', outputs]; padded by half the window or as told."""
    kernel = params["kernel"].astype(x.dtype)
    if padding is None or isinstance(padding, int):
        sides = [kernel.shape[0] // 2 if padding is None else padding] * 2
        padding = [tuple(sides)] * 2  # type: ignore[assignment]
    y = convolve(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return _biased(params, y)


def double(params: Tree, x: Array) -> Array:
    """Transposed convolution with stride 2, [B, H, W, inputs] -> [B, 2H, 2W, outputs]."""
    y = jax.lax.conv_transpose(
        x,
        params["kernel"].astype(x.dtype),
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return _biased(params, y)


def _biased(params: Tree, y: Array) -> Array:
    if "bias" not in params:
        return y
    return y + params["bias"].astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))


def norm(params: Tree, x: Array, epsilon: float = 1e-5) -> Array:
    """Batch norm of [B, ..., C] by the statistics of the batch, all devices' together."""
    axes = tuple(range(x.ndim - 1))
    x32 = x.astype(jnp.float32)
    mean = jnp.mean(x32, axes, keepdims=True)
    variance = jnp.mean((x32 - mean) ** 2, axes, keepdims=True)
    shape = (1,) * (x.ndim - 1) + (-1,)
    scale, bias = params["scale"].reshape(shape), params["bias"].reshape(shape)
    return ((x32 - mean) * jax.lax.rsqrt(variance + epsilon) * scale + bias).astype(x.dtype)


def conv_norm(params: Tree, x: Array) -> Array:
    """[B, H, W, inputs] -> [B, H, W, outputs], before any activation."""
    return norm(params["norm"], conv(params["conv"], x))


def same_size(a: Array, b: Array) -> tuple[Array, Array]:
    """Two maps, the larger pooled to the smaller."""
    height, width = min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2])
    return pool_to(a, height, width), pool_to(b, height, width)


def pool_to(x: Array, height: int, width: int) -> Array:
    """Adaptive average pooling of [B, H, W, C] to [B, height, width, C], as torch has it: place i
    is the mean over rows ⌊iH/height⌋ to ⌈(i+1)H/height⌉."""
    for axis, size in ((1, height), (2, width)):
        if x.shape[axis] != size:
            spelled = "bhwc,hi->biwc" if axis == 1 else "bhwc,wi->bhic"
            x = jnp.einsum(spelled, x, _bins(x, axis, size))
    return x


def _bins(x: Array, axis: int, size: int) -> Array:
    """[length, size], the share of each place of the input in each of the output."""
    length = x.shape[axis]
    places, bins = jnp.arange(length)[:, None], jnp.arange(size)[None]
    first, last = bins * length // size, -(-(bins + 1) * length // size)
    inside = ((places >= first) & (places < last)).astype(x.dtype)
    return inside / jnp.sum(inside, axis=0, keepdims=True)
