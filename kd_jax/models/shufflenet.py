"""ShuffleNet V1 and V2, as students for 32x32 images, and V2 for ImageNet."""

import dataclasses
import itertools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_jax.errors import require, require_finite
from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    avg_pool,
    channel_shuffle,
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
class ShuffleNetV1(ModelConfig):
    """Three stages of grouped 1x1 and depthwise 3x3 convolutions with shuffled channels.

    Zhang et al., "ShuffleNet", 2018, https://arxiv.org/abs/1707.01083. The form is that of the
    distillation benchmarks (Tian et al. 2020, https://arxiv.org/abs/1910.10699), which differs
    from the paper: a 1x1 stem without pooling, a ReLU after the depthwise convolution too.
    """

    channels: tuple[int, int, int] = (240, 480, 960)
    """Channels of each stage, the paper's for 3 groups."""
    blocks: tuple[int, int, int] = (4, 8, 4)
    """Blocks of each stage."""
    groups: int = 3
    """Groups of the 1x1 convolutions."""
    width: float = 1.0
    """Multiplies `channels` and the stem's 24, rounded so that groups and bottlenecks divide."""

    def __post_init__(self):
        require_positive(channels=self.channels, blocks=self.blocks, width=self.width)
        require_depth(blocks=self.blocks)
        require_positive(groups=self.groups)
        require_finite(self)  # here, for channels are reckoned from it at once
        sizes = self.sizes()
        bad = [b for a, b in itertools.pairwise(sizes) if b <= a]
        require(
            not bad,
            f"channels={self.channels} in multiples of 4 groups, groups={self.groups}: each stage "
            "must have more than the one before",
        )

    def sizes(self) -> tuple[int, ...]:
        """Channels of stem and stages: multiples of 4 groups, as the bottleneck has a quarter."""
        step = 4 * self.groups
        return tuple(step * max(1, round(c * self.width / step)) for c in (24, *self.channels))

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return ShuffleNetV1Module(self, checked_classes(classes), dtype)

    def tiny(self) -> "ShuffleNetV1":
        step = 4 * self.groups
        channels = (3 * step, 4 * step, 5 * step)
        return dataclasses.replace(self, channels=channels, blocks=(2, 1, 1), width=1.0)


class ShuffleUnitV1(nn.Module):
    """[B, H, W, C] -> (after the last ReLU, before it). With stride 2 the pooled input is
    concatenated, otherwise it is added."""

    channels: int
    stride: int
    groups_in: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        out = self.channels - x.shape[-1] if self.stride == 2 else self.channels
        inner = out // 4
        y = conv(inner, 1, self.dtype, "conv1", groups=self.groups_in)(x)
        y = channel_shuffle(nn.relu(norm(train, self.dtype, "norm1")(y)), self.groups_in)
        y = conv(inner, 3, self.dtype, "conv2", stride=self.stride, groups=inner)(y)
        y = nn.relu(norm(train, self.dtype, "norm2")(y))
        y = conv(out, 1, self.dtype, "conv3", groups=self.groups)(y)
        y = norm(train, self.dtype, "norm3")(y)
        if self.stride == 2:
            pre = jnp.concatenate([y, avg_pool(x, 3, 2, padding=1)], axis=-1)
        else:
            pre = x + y
        return nn.relu(pre), pre


class ShuffleNetV1Module(nn.Module):
    """Features on 32x32 images: stem [B, 32, 32, 24], stage1 [B, 16, 16, 240], stage2
    [B, 8, 8, 480], stage3 [B, 4, 4, 960], each stageI_pre before its last ReLU, pooled [B, 960]."""

    config: ShuffleNetV1
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        stem, *stages = config.sizes()
        x = images(inputs, self.dtype, "ShuffleNetV1")
        x = conv(stem, 1, self.dtype, "stem_conv")(x)
        x = nn.relu(norm(train, self.dtype, "stem_norm")(x))
        features: Features = {"stem": x}
        for i, channels in enumerate(stages, start=1):
            for j in range(config.blocks[i - 1]):
                # The stem has too few channels to group the first convolution that reads it.
                groups_in = 1 if i == 1 and j == 0 else config.groups
                x, features[f"stage{i}_pre"] = ShuffleUnitV1(
                    channels=channels,
                    stride=1 if j else 2,
                    groups_in=groups_in,
                    groups=config.groups,
                    dtype=self.dtype,
                    name=f"stage{i}_block{j}",
                )(x, train)
            features[f"stage{i}"] = x
        features["pooled"] = global_pool(x)
        return dense(self.classes, self.dtype, "classifier")(features["pooled"]), features


@dataclasses.dataclass(frozen=True)
class ShuffleNetV2(ModelConfig):
    """Three stages of units that work on half of the channels and shuffle both halves.

    Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", 2018,
    https://arxiv.org/abs/1807.11164, table 5.
    """

    channels: tuple[int, int, int, int] = (116, 232, 464, 1024)
    """Channels of the stages and of the last convolution. 48,96,192,1024 is the paper's 0.5x,
    176,352,704,1024 its 1.5x and 244,488,976,2048 its 2x."""
    blocks: tuple[int, int, int] = (4, 8, 4)
    """Units of each stage, the one that halves the places included."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """cifar: 1x1 as in the distillation benchmarks. imagenet: 3x3, stride 2, and max pooling."""
    width: float = 1.0
    """Multiplies `channels` and the stem's 24; stages are rounded to even numbers."""

    def __post_init__(self):
        require_positive(channels=self.channels, blocks=self.blocks, width=self.width)
        require_depth(blocks=self.blocks)

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return ShuffleNetV2Module(self, checked_classes(classes), dtype)

    def tiny(self) -> "ShuffleNetV2":
        return dataclasses.replace(self, channels=(8, 16, 32, 32), blocks=(2, 2, 2), width=1.0)


class ShuffleUnitV2(nn.Module):
    """[B, H, W, C] -> (shuffled, the same with its own half before the last ReLU).

    With stride 2 both branches work on all of the input; otherwise the first half passes by.
    """

    channels: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        half = self.channels // 2
        if self.stride == 2:
            left = self.conv_norm(x, x.shape[-1], 3, train, "left_depthwise", groups=x.shape[-1])
            left_pre = self.conv_norm(left, half, 1, train, "left_conv")
            left, right = nn.relu(left_pre), x
        else:
            left, right = x[..., :half], x[..., half:]
            left_pre = left
        right = nn.relu(self.conv_norm(right, half, 1, train, "conv1"))
        right = self.conv_norm(right, half, 3, train, "conv2", groups=half)
        right = self.conv_norm(right, half, 1, train, "conv3")
        pre = channel_shuffle(jnp.concatenate([left_pre, right], axis=-1), 2)
        return channel_shuffle(jnp.concatenate([left, nn.relu(right)], axis=-1), 2), pre

    def conv_norm(
        self, x: Array, channels: int, kernel: int, train: bool, name: str, groups: int = 1
    ) -> Array:
        """A convolution (depthwise ones carry the stride) and its batch norm."""
        stride = self.stride if kernel == 3 else 1
        x = conv(channels, kernel, self.dtype, name, stride=stride, groups=groups)(x)
        return norm(train, self.dtype, f"{name}_norm")(x)


class ShuffleNetV2Module(nn.Module):
    """Features on 32x32 images: stem [B, 32, 32, 24], stage1 [B, 16, 16, 116], stage2
    [B, 8, 8, 232], stage3 [B, 4, 4, 464], each stageI_pre before its last ReLU, pooled [B, 1024].

    stageI_pre comes shuffled, so that stageI is its ReLU; the benchmarks leave it unshuffled.
    """

    config: ShuffleNetV2
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        *stages, last = config.channels
        kernel, stride = (3, 2) if config.stem == "imagenet" else (1, 1)
        x = images(inputs, self.dtype, "ShuffleNetV2")
        x = conv(scaled(24, config.width), kernel, self.dtype, "stem_conv", stride=stride)(x)
        x = nn.relu(norm(train, self.dtype, "stem_norm")(x))
        x = max_pool(x, 3, 2, padding=1) if config.stem == "imagenet" else x
        features: Features = {"stem": x}
        for i, stage in enumerate(stages, start=1):
            channels = 2 * scaled(stage, config.width / 2)
            for j in range(config.blocks[i - 1]):
                unit = ShuffleUnitV2(channels, 1 if j else 2, self.dtype, name=f"stage{i}_block{j}")
                x, features[f"stage{i}_pre"] = unit(x, train)
            features[f"stage{i}"] = x
        x = conv(scaled(last, config.width), 1, self.dtype, "last_conv")(x)
        x = nn.relu(norm(train, self.dtype, "last_norm")(x))
        features["pooled"] = global_pool(x)
        return dense(self.classes, self.dtype, "classifier")(features["pooled"]), features
