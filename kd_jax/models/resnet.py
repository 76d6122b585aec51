"""ResNet-18 to ResNet-152, with a stem for ImageNet or for 32x32 images."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax

from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    checked_classes,
    conv,
    dense,
    global_pool,
    images,
    max_pool,
    norm,
    require_depth,
    require_positive,
    scaled,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class ResNet(ModelConfig):
    """Four stages of basic (ResNet-18, -34) or bottleneck (-50, -101, -152) blocks.

    He et al., "Deep Residual Learning for Image Recognition", 2016,
    https://arxiv.org/abs/1512.03385, table 1. As in torchvision, and other than in the paper, a
    bottleneck has its stride in the 3x3 convolution ("v1.5").
    """

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Blocks of each stage: (2,2,2,2), (3,4,6,3), (3,4,23,3) or (3,8,36,3)."""
    bottleneck: bool = True
    """1x1, 3x3, 1x1 convolutions with four times the channels at the end, or two 3x3."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """cifar: 3x3, stride 1, no pooling. imagenet: 7x7, stride 2, and 3x3 max pooling, stride 2."""
    width: float = 1.0
    """Multiplies the 64, 128, 256 and 512 channels of the stages, and the stem's 64."""

    def __post_init__(self):
        require_positive(blocks=self.blocks, width=self.width)
        require_depth(blocks=self.blocks)

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return ResNetModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "ResNet":
        return dataclasses.replace(self, blocks=(2, 1, 1, 1), width=1 / 16)


class ResidualBlock(nn.Module):
    """[B, H, W, C] -> (after the last ReLU, before it); `channels` are those it ends with."""

    channels: int
    bottleneck: bool
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        inner = self.channels // 4 if self.bottleneck else self.channels
        plan = [(inner, 3, self.stride), (inner, 3, 1)]
        if self.bottleneck:
            plan = [(inner, 1, 1), (inner, 3, self.stride), (self.channels, 1, 1)]
        y = x
        for i, (channels, kernel, stride) in enumerate(plan, start=1):
            y = nn.relu(y) if i > 1 else y
            y = conv(channels, kernel, self.dtype, f"conv{i}", stride=stride)(y)
            y = norm(train, self.dtype, f"norm{i}")(y)
        if self.stride != 1 or x.shape[-1] != self.channels:
            x = conv(self.channels, 1, self.dtype, "shortcut_conv", stride=self.stride)(x)
            x = norm(train, self.dtype, "shortcut_norm")(x)
        pre = x + y
        return nn.relu(pre), pre


class ResNetModule(nn.Module):
    """Features: stem (after its pooling, where it has one), stage1 to stage4 and each one's
    stageI_pre before its last ReLU, pooled [B, C]. The stages' places are S, S/2, S/4, S/8 of
    the stem's S."""

    config: ResNet
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        imagenet = config.stem == "imagenet"
        x = images(inputs, self.dtype, "ResNet")
        kernel, stride = (7, 2) if imagenet else (3, 1)
        x = conv(scaled(64, config.width), kernel, self.dtype, "stem_conv", stride=stride)(x)
        x = nn.relu(norm(train, self.dtype, "stem_norm")(x))
        x = max_pool(x, 3, 2, padding=1) if imagenet else x
        features: Features = {"stem": x}
        for i, blocks in enumerate(config.blocks, start=1):
            channels = scaled(64 * 2 ** (i - 1), config.width) * (4 if config.bottleneck else 1)
            for j in range(blocks):
                stride = 2 if i > 1 and j == 0 else 1
                block = ResidualBlock(
                    channels, config.bottleneck, stride, self.dtype, name=f"stage{i}_block{j}"
                )
                x, features[f"stage{i}_pre"] = block(x, train)
            features[f"stage{i}"] = x
        features["pooled"] = global_pool(x)
        return dense(self.classes, self.dtype, "classifier")(features["pooled"]), features
