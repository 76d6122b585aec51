"""LeNet-5 as Caffe has it, which is the one that the pruning papers prune."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from kd_jax.convolution import convolve
from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    checked_classes,
    dense,
    images,
    max_pool,
    require_positive,
    scaled,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class LeNet(ModelConfig):
    """Two 5x5 convolutions without padding, each followed by 2x2 max pooling, and two dense
    layers: 431,080 parameters on 28x28x1 with 10 classes.

    LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998,
    http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf, in the form of
    https://github.com/BVLC/caffe/tree/master/examples/mnist, which Han et al. 2015
    (https://arxiv.org/abs/1506.02626) and Guo et al. 2016 (https://arxiv.org/abs/1608.04493)
    start from. Other than there, initial weights are Glorot's over fan-in and fan-out.
    """

    width: float = 1.0
    """Multiplies the 20 and 50 channels and the 500 units."""
    conv_relu: bool = False
    """ReLU after each convolution's pooling. Caffe's has none: its only ReLU is in between the
    dense layers."""

    def __post_init__(self):
        require_positive(width=self.width)

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return LeNetModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "LeNet":
        return dataclasses.replace(self, width=0.1)


class LeNetModule(nn.Module):
    """Features: stage1 and stage2, the pooled maps [B, h, w, C]; stage3, the dense layer after
    its ReLU, and stage3_pre before it [B, 500]; pooled, the same as stage3."""

    config: LeNet
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        del train  # it has neither dropout nor batch norm
        # 16 -> 12 -> 6 -> 2 -> 1: anything smaller has no place left after the second pooling.
        x = images(inputs, self.dtype, "LeNet", least=16)
        init = nn.initializers.glorot_uniform()
        features: Features = {}
        for i, channels in enumerate((20, 50), start=1):
            x = nn.Conv(
                scaled(channels, self.config.width),
                (5, 5),
                padding="VALID",
                dtype=self.dtype,
                kernel_init=init,
                conv_general_dilated=convolve,
                name=f"conv{i}",
            )(x)
            x = max_pool(x, 2, 2)
            x = nn.relu(x) if self.config.conv_relu else x
            features[f"stage{i}"] = x
        x = x.reshape(x.shape[0], -1)
        pre = dense(scaled(500, self.config.width), self.dtype, "dense1", init)(x)
        x = nn.relu(pre)
        features |= {"stage3_pre": pre, "stage3": x, "pooled": x}
        return dense(self.classes, self.dtype, "classifier", init)(x), features
