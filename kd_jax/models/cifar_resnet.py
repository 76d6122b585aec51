"""Residual networks for 32x32 images: ResNet-20 to ResNet-110, and the 8x4 and 32x4 of the
distillation benchmarks."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_jax.errors import require
from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    checked_classes,
    conv,
    dense,
    global_pool,
    images,
    norm,
    require_depth,
    require_positive,
    scaled,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class CifarResNet(ModelConfig):
    """Three stages of (depth - 2) / 6 basic blocks.

    He et al., "Deep Residual Learning for Image Recognition", 2016,
    https://arxiv.org/abs/1512.03385, section 4.2; widths 32-64-128-256 (8x4, 32x4) from Tian et
    al., "Contrastive Representation Distillation", 2020, https://arxiv.org/abs/1910.10699.
    """

    depth: int = 20
    """Layers with weights on the main path: 6n + 2."""
    widths: tuple[int, int, int, int] = (16, 16, 32, 64)
    """Channels of the stem and of the three stages."""
    width: float = 1.0
    """Multiplies all of `widths`."""
    shortcut: Literal["a", "b"] = "b"
    """What a block whose shape changes adds: a) its input, subsampled and padded with zero
    channels, as the paper does on CIFAR; b) a 1x1 convolution with batch norm of it. b is the
    default because every published distillation result on CIFAR-100 has it."""

    def __post_init__(self):
        require_positive(widths=self.widths, width=self.width)
        require_depth(depth=self.depth)
        require(
            self.depth >= 8 and self.depth % 6 == 2,
            f"depth={self.depth}: use 6n + 2, such as 8, 14, 20, 32, 44, 56 or 110",
        )
        require(
            self.shortcut == "b" or list(self.widths) == sorted(self.widths),
            f"shortcut=a with widths={self.widths}: it can only add channels; use shortcut b",
        )

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return CifarResNetModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "CifarResNet":
        return dataclasses.replace(self, depth=8, width=4 / self.widths[0])


class BasicBlock(nn.Module):
    """[B, H, W, C] -> (after the last ReLU, before it), both [B, H/stride, W/stride, channels]."""

    channels: int
    stride: int
    shortcut: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        residual = x
        y = conv(self.channels, 3, self.dtype, "conv1", stride=self.stride)(x)
        y = nn.relu(norm(train, self.dtype, "norm1")(y))
        y = norm(train, self.dtype, "norm2")(conv(self.channels, 3, self.dtype, "conv2")(y))
        if y.shape != x.shape and self.shortcut == "a":
            residual = subsampled(x, self.stride, self.channels)
        elif y.shape[-1] != x.shape[-1] or self.stride != 1:
            projection = conv(self.channels, 1, self.dtype, "shortcut_conv", stride=self.stride)
            residual = norm(train, self.dtype, "shortcut_norm")(projection(x))
        pre = y + residual
        return nn.relu(pre), pre


def subsampled(x: Array, stride: int, channels: int) -> Array:
    """Every stride-th place of [B, H, W, C], with zero channels on both sides up to `channels`."""
    missing = channels - x.shape[-1]
    before = missing // 2
    return jnp.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(before, missing - before)])


class CifarResNetModule(nn.Module):
    """Features on 32x32 images: stem [B, 32, 32, .], stage1 [B, 32, 32, .], stage2
    [B, 16, 16, .], stage3 [B, 8, 8, .], each stageI_pre before its last ReLU, pooled [B, .]."""

    config: CifarResNet
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        stem, *stages = (scaled(channels, config.width) for channels in config.widths)
        x = images(inputs, self.dtype, "CifarResNet")
        x = conv(stem, 3, self.dtype, "stem_conv")(x)
        x = nn.relu(norm(train, self.dtype, "stem_norm")(x))
        features: Features = {"stem": x}
        for i, channels in enumerate(stages, start=1):
            for j in range((config.depth - 2) // 6):
                stride = 2 if i > 1 and j == 0 else 1
                block = BasicBlock(
                    channels, stride, config.shortcut, self.dtype, name=f"stage{i}_block{j}"
                )
                x, pre = block(x, train)
            features |= {f"stage{i}_pre": pre, f"stage{i}": x}
        features["pooled"] = global_pool(x)
        return dense(self.classes, self.dtype, "classifier")(features["pooled"]), features
