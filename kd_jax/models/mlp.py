"""Multi-layer perceptrons: LeNet-300-100 and the MNIST networks of the first distillation paper."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    as_float,
    checked_classes,
    dense,
    require_depth,
    require_fraction,
    require_positive,
    scaled,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class MLP(ModelConfig):
    """Dense layers with ReLU between them; any input is flattened.

    (300, 100) is LeNet-300-100: LeCun et al., "Gradient-Based Learning Applied to Document
    Recognition", 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf.
    (1200, 1200) and (800, 800) are teacher and student in Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531, section 3.
    """

    widths: tuple[int, ...] = (300, 100)
    """Units of each hidden layer."""
    width: float = 1.0
    """Factor of all of them."""
    dropout: float = 0.0
    """Fraction of the units of every hidden layer dropped in training."""
    input_dropout: float = 0.0
    """Fraction of the inputs dropped in training."""

    def __post_init__(self):
        require_positive(widths=self.widths, width=self.width)
        require_depth(widths=len(self.widths))
        require_fraction(dropout=self.dropout, input_dropout=self.input_dropout)

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return MLPModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "MLP":
        return dataclasses.replace(self, widths=(8,) * len(self.widths), width=1.0)


class MLPModule(nn.Module):
    """Features: stageI, hidden layer I after its ReLU [B, width · widths[I-1]]; stageI_pre, before
    it; pooled, the last of them."""

    config: MLP
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        x = as_float(inputs.reshape(inputs.shape[0], -1), self.dtype, "MLP")
        x = nn.Dropout(self.config.input_dropout, deterministic=not train, name="input_drop")(x)
        init = nn.initializers.glorot_uniform()
        features: Features = {}
        last = x
        for i, width in enumerate(self.config.widths, start=1):
            pre = dense(scaled(width, self.config.width), self.dtype, f"dense{i}", init)(x)
            last = nn.relu(pre)
            features |= {f"stage{i}_pre": pre, f"stage{i}": last}
            x = nn.Dropout(self.config.dropout, deterministic=not train, name=f"drop{i}")(last)
        features["pooled"] = last
        return dense(self.classes, self.dtype, "classifier", init)(x), features
