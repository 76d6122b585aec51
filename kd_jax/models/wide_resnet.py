"""Wide residual networks, WRN-depth-widen."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

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
    require_fraction,
    require_positive,
    scaled,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class WideResNet(ModelConfig):
    """Three stages of (depth - 4) / 6 pre-activation blocks, with 16, 32 and 64 times `widen`
    channels.

    Zagoruyko & Komodakis, "Wide Residual Networks", 2016, https://arxiv.org/abs/1605.07146.
    """

    depth: int = 16
    """Layers with weights: 6n + 4."""
    widen: int = 2
    """Channels of the stages over those of a plain ResNet."""
    width: float = 1.0
    """Multiplies all channels, the stem's 16 too (which `widen` leaves alone)."""
    dropout: float = 0.0
    """Fraction dropped between a block's two convolutions in training."""

    def __post_init__(self):
        require_positive(widen=self.widen, width=self.width)
        require_depth(depth=self.depth)
        require_fraction(dropout=self.dropout)
        require(
            self.depth >= 10 and self.depth % 6 == 4,
            f"depth={self.depth}: use 6n + 4, such as 10, 16, 22, 28 or 40",
        )

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return WideResNetModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "WideResNet":
        # Two blocks a stage: the second is the only kind whose shortcut is the identity.
        return dataclasses.replace(self, depth=16, widen=min(self.widen, 2), width=0.25)


class PreActivationBlock(nn.Module):
    """[B, H, W, C] -> (the sum, the input after its batch norm and before ReLU).

    Where the channels change, the shortcut is a 1x1 convolution of the activated input.
    """

    channels: int
    stride: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        normed = norm(train, self.dtype, "norm1")(x)
        active = nn.relu(normed)
        y = conv(self.channels, 3, self.dtype, "conv1", stride=self.stride)(active)
        y = nn.relu(norm(train, self.dtype, "norm2")(y))
        y = nn.Dropout(self.dropout, deterministic=not train, name="drop")(y)
        y = conv(self.channels, 3, self.dtype, "conv2")(y)
        if self.stride != 1 or x.shape[-1] != self.channels:
            x = conv(self.channels, 1, self.dtype, "shortcut_conv", stride=self.stride)(active)
        return x + y, normed


class WideResNetModule(nn.Module):
    """Features on 32x32 images: stem [B, 32, 32, .], stage1 [B, 32, 32, .], stage2
    [B, 16, 16, .] and stage3 [B, 8, 8, .], which are sums that no ReLU has seen; stageI_pre,
    the same after the batch norm that follows it; pooled [B, .]."""

    config: WideResNet
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        x = images(inputs, self.dtype, "WideResNet")
        x = conv(scaled(16, config.width), 3, self.dtype, "stem_conv")(x)
        features: Features = {"stem": x}
        for i in (1, 2, 3):
            channels = scaled(16 * 2 ** (i - 1) * config.widen, config.width)
            for j in range((config.depth - 4) // 6):
                stride = 2 if i > 1 and j == 0 else 1
                block = PreActivationBlock(
                    channels, stride, config.dropout, self.dtype, name=f"stage{i}_block{j}"
                )
                x, normed = block(x, train)
                if i > 1 and j == 0:
                    features[f"stage{i - 1}_pre"] = normed
            features[f"stage{i}"] = x
        features["stage3_pre"] = norm(train, self.dtype, "final_norm")(x)
        features["pooled"] = global_pool(nn.relu(features["stage3_pre"]))
        return dense(self.classes, self.dtype, "classifier")(features["pooled"]), features
