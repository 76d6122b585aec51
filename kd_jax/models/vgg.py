"""VGG-8 to VGG-19, with the heads that CIFAR and ImageNet papers use."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax

from kd_jax.errors import require
from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    adaptive_pool,
    checked_classes,
    conv,
    dense,
    global_pool,
    images,
    max_pool,
    norm,
    require_depth,
    require_fraction,
    require_positive,
    scaled,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class VGG(ModelConfig):
    """Five stages of 3x3 convolutions with 64, 128, 256, 512 and 512 channels.

    Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    2015, https://arxiv.org/abs/1409.1556, table 1, columns A, B, D and E. VGG-8, one convolution
    a stage, is the student of Tian et al. 2020, https://arxiv.org/abs/1910.10699.
    """

    convs: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    """Convolutions of each stage: (1,1,1,1,1), (1,1,2,2,2), (2,2,2,2,2), (2,2,3,3,3) or
    (2,2,4,4,4) for VGG-8, 11, 13, 16 and 19."""
    batch_norm: bool = True
    """Batch norm after every convolution. Convolutions keep their bias with it, as everywhere."""
    pools: int = 5
    """How many of the stages end with 2x2 max pooling. 5 is the paper's; distillation benchmarks
    have 3 on 32x32, so that the last two stages see 4x4 places."""
    head: Literal["linear", "fc512", "fc4096"] = "linear"
    """linear: global mean and one linear layer. fc512: one hidden layer (with batch norm if there
    is any) in between, as Li et al. 2017 have it on CIFAR, https://arxiv.org/abs/1608.08710.
    fc4096: the paper's two hidden layers on all places of the last map."""
    places: int = 0
    """fc4096: places a side to which the last map is pooled first, so that its layers fit images of
    any size, as in torchvision (7); 0: the map as it is."""
    dropout: float = 0.5
    """Fraction dropped after each hidden layer of the fc4096 head in training."""
    width: float = 1.0
    """Multiplies all channels and the units of the head."""

    def __post_init__(self):
        require_positive(convs=self.convs, width=self.width)
        require_depth(convs=self.convs)
        require_fraction(dropout=self.dropout)
        require(0 <= self.pools <= 5, f"pools={self.pools}: there are 5 stages; use 0 to 5")
        require(self.places >= 0, f"places={self.places}: use 0 or more")

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return VGGModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "VGG":
        return dataclasses.replace(self, convs=(1, 1, 1, 1, 1), width=1 / 16)


class VGGModule(nn.Module):
    """Features: stem, the first stage's maps, and stage1 to stage4, the others', each before its
    pooling; stageI_pre, before its last ReLU; pooled, what the last linear layer sees.

    The first stage goes by the name of the stem so that stages of the same number fit those of
    the residual networks, as in the distillation benchmarks.
    """

    config: VGG
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        x = images(inputs, self.dtype, "VGG", least=2**config.pools)
        features: Features = {}
        for i, convs in enumerate(config.convs):
            stage = f"stage{i}" if i else "stem"
            channels = scaled(min(64 * 2**i, 512), config.width)
            for j in range(convs):
                x = conv(channels, 3, self.dtype, f"{stage}_conv{j}", bias=True)(x)
                if config.batch_norm:
                    x = norm(train, self.dtype, f"{stage}_norm{j}")(x)
                pre, x = x, nn.relu(x)
                if i and j == convs - 1:
                    features[f"{stage}_pre"] = pre
            features[stage] = x
            x = max_pool(x, 2, 2) if i < config.pools else x
        features["pooled"] = self.head(x, train)
        x = features["pooled"]
        if config.head == "fc4096":
            x = nn.Dropout(config.dropout, deterministic=not train, name="drop2")(x)
        return dense(self.classes, self.dtype, "classifier")(x), features

    def head(self, x: Array, train: bool) -> Array:
        """[B, H, W, C] -> [B, U], what the classifier sees."""
        config = self.config
        if config.head == "linear":
            return global_pool(x)
        if config.head == "fc512":
            x = dense(scaled(512, config.width), self.dtype, "dense1")(global_pool(x))
            return nn.relu(norm(train, self.dtype, "norm1")(x) if config.batch_norm else x)
        units = scaled(4096, config.width)
        x = adaptive_pool(x, config.places) if config.places else x
        x = nn.relu(dense(units, self.dtype, "dense1")(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(config.dropout, deterministic=not train, name="drop1")(x)
        return nn.relu(dense(units, self.dtype, "dense2")(x))
