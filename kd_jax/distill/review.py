"""Distillation by review: each stage of the teacher teaches the student's same and later ones."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.errors import require
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class ReviewKD(FeatureTerm):
    """Σ over taps of HCL(A_i, F_t,i), A_i fused of the student's features i and all deeper ones.

    From the deepest on, x = a_1 ⊙ conv1x1(F_s,i) + a_2 ⊙ up(x of the deeper), with attention a =
    sigmoid(conv1x1 of both) [B, H, W, 2], and A_i = conv3x3(x) in the teacher's width; convolutions
    but the attention's have batch norm. HCL, the hierarchical context loss, is the mean of squared
    differences, of the whole map and pooled to 4x4, 2x2 and 1x1, weighted 1, ½, ¼, ⅛.

    Chen et al., "Distilling Knowledge via Knowledge Review", 2021,
    https://arxiv.org/abs/2104.09044. The teacher's stages are read before their activations. The
    weight grows over 20 epochs, here with every step. It is of the pair: 5 for ResNet-32x4 → 8x4
    and ShuffleNet-V1 and for Wide ResNets (the default), 8 for ResNet-32x4 → ShuffleNet-V2, 0.6 for
    ResNet-56 → 20, 1 for ResNet-110 → 32.

    Attributes:
      width: at most so many channels where features are fused; otherwise the deepest one's.
    """

    about: ClassVar[str] = "each stage of the teacher from all deeper ones of the student, fused"

    width: int = 512
    weight: float = 5.0
    warmup: float = 20.0

    kind: ClassVar[str] = "stages_pooled"
    teacher_kind: ClassVar[str] = "pre_pooled"

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        for pair in pairs:
            for f, who in zip(pair, ("student", "teacher"), strict=True):
                shape = tuple(f.shape)
                require(
                    len(shape) in (2, 4),
                    f"{who}-taps: one is of shape {shape}, and this loss needs maps [batch, height,"
                    " width, channels] or vectors [batch, channels]",
                )
        middle = min(self.width, pairs[-1][0].shape[-1])
        made = {}
        for i, (f_s, f_t) in enumerate(pairs):
            keys = jax.random.split(jax.random.fold_in(key, i), 3)
            made[f"fusion{i}"] = {
                "enter": init_kaiming(keys[0], 1, f_s.shape[-1], middle),
                "leave": init_kaiming(keys[1], 3, middle, f_t.shape[-1]),
            }
            if i < len(pairs) - 1:
                attention = connect.init_conv(keys[2], (1, 1), 2 * middle, 2, bias=True)
                made[f"fusion{i}"]["attention"] = attention
        return made

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """Without params, the features as they are."""
        total, deeper = jnp.zeros(()), None
        for i in reversed(range(len(pairs))):
            f_s, f_t = (as_map(f) for f in floats(*pairs[i]))
            if params:
                f_s, deeper = fuse(params[f"fusion{i}"], f_s, deeper, f_t.shape[1:3])
            total = total + hcl(f_s, f_t)
        return total


def init_kaiming(key: Array, window: int, inputs: int, outputs: int) -> Tree:
    """The authors' initial values, uniform in ±√(3 / fan_in)."""
    made = connect.init_conv_norm(key, window, inputs, outputs)
    return {**made, "conv": {"kernel": 3**0.5 * made["conv"]["kernel"]}}


def as_map(features: Array) -> Array:
    return features[:, None, None, :] if features.ndim == 2 else features


def fuse(
    params: Tree, features: Array, deeper: Array | None, size: tuple[int, ...]
) -> tuple[Array, Array]:
    """(in the teacher's width, to be fused with the next shallower), both of the teacher's size."""
    x = connect.conv_norm(params["enter"], features)
    if deeper is not None:
        y = nearest(deeper, x.shape[1:3])
        a = jax.nn.sigmoid(connect.conv(params["attention"], jnp.concatenate([x, y], axis=-1)))
        x = x * a[..., :1] + y * a[..., 1:]
    x = nearest(x, size)
    return connect.conv_norm(params["leave"], x), x


def nearest(x: Array, size: tuple[int, ...]) -> Array:
    """[B, H, W, C] at another size, place i taken from ⌊i·H/height⌋."""
    for axis, length in zip((1, 2), size, strict=True):
        if x.shape[axis] != length:
            x = jnp.take(x, jnp.arange(length) * x.shape[axis] // length, axis=axis)
    return x


def hcl(f_s: Array, f_t: Array) -> Array:
    """The hierarchical context loss [B] of two maps of one size."""
    square = lambda a, b: jnp.mean((a - b) ** 2, axis=(1, 2, 3))  # noqa: E731
    loss, weight, weights = square(f_s, f_t), 1.0, 1.0
    for size in (4, 2, 1):
        if size < f_s.shape[1]:
            weight /= 2
            weights += weight
            pooled = (connect.pool_to(f, size, size) for f in (f_s, f_t))
            loss = loss + weight * square(*pooled)
    return loss / weights
