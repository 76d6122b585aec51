"""MobileNetV2: for ImageNet, for 32x32 images, and the half-width student of the benchmarks."""

import dataclasses
from typing import Any, Literal

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
)

Array = jax.Array

CHANNELS = (16, 24, 32, 64, 96, 160, 320)
STAGE_ENDS = {1: "stage1", 2: "stage2", 4: "stage3", 6: "stage4"}


@dataclasses.dataclass(frozen=True)
class MobileNetV2(ModelConfig):
    """Seven groups of inverted residuals with linear bottlenecks.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018,
    https://arxiv.org/abs/1801.04381, table 2.
    """

    width: float = 1.0
    """Multiplies all channels; those of the last convolution only above 1."""
    repeats: tuple[int, int, int, int, int, int, int] = (1, 2, 3, 4, 3, 3, 1)
    """Blocks of each group."""
    strides: tuple[int, int, int, int, int, int, int, int] = (1, 1, 1, 2, 2, 1, 2, 1)
    """Strides of the stem and of each group's first block. The default is for 32x32; ImageNet's
    are 2,1,2,2,2,1,2,1 and those of the distillation benchmarks on 32x32 2,1,1,2,2,1,2,1."""
    expansion: int = 6
    """Channels inside a block over those of its input; the first group always has 1."""
    divisor: int = 8
    """Channels are rounded to multiples of it."""
    rounding: Literal["nearest", "down"] = "nearest"
    """nearest: as in the paper's own code, never below 90 %. down: as in the distillation
    benchmarks (with divisor 1)."""
    activation: Literal["relu6", "relu"] = "relu6"
    """The paper's is relu6; the distillation benchmarks have relu."""
    expand_first: bool = False
    """A 1x1 convolution in the first group too, though it expands nothing, as the distillation
    benchmarks have it."""
    last: int = 1280
    """Channels of the last convolution."""
    dropout: float = 0.0
    """Fraction dropped before the classifier in training (0.2 in torchvision)."""

    def __post_init__(self):
        require_positive(width=self.width, repeats=self.repeats, expansion=self.expansion)
        require_depth(repeats=self.repeats)
        require_positive(divisor=self.divisor, last=self.last)
        require_fraction(dropout=self.dropout)
        require(set(self.strides) <= {1, 2}, f"strides={self.strides}: every stride must be 1 or 2")

    def channels(self, channels: int, width: float) -> int:
        """`channels` times `width`, as a multiple of the divisor."""
        exact, step = channels * width, self.divisor
        if self.rounding == "down":
            return max(step, int(exact) // step * step)
        rounded = max(step, int(exact + step / 2) // step * step)
        return rounded + step if rounded < 0.9 * exact else rounded

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return MobileNetV2Module(self, checked_classes(classes), dtype)

    def tiny(self) -> "MobileNetV2":
        repeats = (1, 2, 1, 1, 1, 1, 1)  # one block with a shortcut
        return dataclasses.replace(self, width=0.1, repeats=repeats, expansion=2, last=32)


class InvertedResidual(nn.Module):
    """[B, H, W, C] -> [B, H/stride, W/stride, channels]; the sum with its input where the shapes
    agree. Expanded channels are filtered one by one, and no activation follows the last conv."""

    channels: int
    expansion: int
    stride: int
    activation: str
    dtype: Any
    expand: bool

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        act = getattr(nn, self.activation)
        inner = x.shape[-1] * self.expansion
        y = x
        if self.expand:
            y = conv(inner, 1, self.dtype, "expand_conv")(y)
            y = act(norm(train, self.dtype, "expand_norm")(y))
        depthwise = conv(
            inner, 3, self.dtype, "depthwise_conv", stride=self.stride, groups=y.shape[-1]
        )
        y = act(norm(train, self.dtype, "depthwise_norm")(depthwise(y)))
        y = conv(self.channels, 1, self.dtype, "project_conv")(y)
        y = norm(train, self.dtype, "project_norm")(y)
        return x + y if self.stride == 1 and x.shape[-1] == self.channels else y


class MobileNetV2Module(nn.Module):
    """Features: stem; stage1 to stage4, the outputs of groups 1, 2, 4 and 6 counted from 0, which
    are linear (so there is no other pre-activation); pooled [B, last]."""

    config: MobileNetV2
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        act = getattr(nn, config.activation)
        x = images(inputs, self.dtype, "MobileNetV2")
        stem = config.channels(32, config.width)
        x = conv(stem, 3, self.dtype, "stem_conv", stride=config.strides[0])(x)
        x = act(norm(train, self.dtype, "stem_norm")(x))
        features: Features = {"stem": x}
        for i, (channels, repeats) in enumerate(zip(CHANNELS, config.repeats, strict=True)):
            for j in range(repeats):
                x = InvertedResidual(
                    channels=config.channels(channels, config.width),
                    expansion=config.expansion if i else 1,
                    stride=config.strides[i + 1] if j == 0 else 1,
                    activation=config.activation,
                    dtype=self.dtype,
                    expand=bool(i) or config.expand_first,
                    name=f"group{i}_block{j}",
                )(x, train)
            if i in STAGE_ENDS:
                features[STAGE_ENDS[i]] = x
        last = config.channels(config.last, max(1.0, config.width))
        x = conv(last, 1, self.dtype, "last_conv")(x)
        x = act(norm(train, self.dtype, "last_norm")(x))
        features["pooled"] = x = global_pool(x)
        x = nn.Dropout(config.dropout, deterministic=not train, name="drop")(x)
        return dense(self.classes, self.dtype, "classifier")(x), features
