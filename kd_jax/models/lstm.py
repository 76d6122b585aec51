"""An LSTM classifier for sequences, tokens, and images read row by row."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_jax.errors import require
from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    as_float,
    checked_classes,
    dense,
    require_depth,
    require_fraction,
    require_positive,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class LSTM(ModelConfig):
    """Layers of LSTM cells; the classifier reads the last state.

    Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997,
    https://doi.org/10.1162/neco.1997.9.8.1735, with the forget gate of Gers et al. 2000.
    """

    units: int = 128
    """Units of each layer, before `width`."""
    layers: int = 1
    """Layers."""
    vocabulary: int = 0
    """Number of different tokens, for integer inputs [B, T]; 0 for floating-point inputs."""
    embedding: int = 128
    """Features of a token, before `width`; unused without a vocabulary."""
    dropout: float = 0.0
    """Fraction dropped from the inputs of every layer but the first, and of the classifier, in
    training."""
    width: float = 1.0
    """Multiplies `units` and `embedding`."""

    def __post_init__(self):
        require_positive(units=self.units, layers=self.layers, width=self.width)
        require_depth(layers=self.layers)
        require_positive(embedding=self.embedding)
        require_fraction(dropout=self.dropout)
        require(self.vocabulary >= 0, f"vocabulary={self.vocabulary}: use 0 (none) or a size")

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return LSTMModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "LSTM":
        return dataclasses.replace(self, units=8, embedding=8, width=1.0)


class LSTMModule(nn.Module):
    """`inputs`: floats [B, T, F]; integers [B, T] if there is a vocabulary; or images
    [B, H, W, C], read as H rows of W * C values.

    Features: stem [B, T, F], what the first layer sees; stageI [B, T, U], the outputs of layer I;
    pooled [B, U], the last of the last.
    """

    config: LSTM
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        x = self.sequence(inputs)
        units = max(1, round(config.units * config.width))
        features: Features = {"stem": x}
        for i in range(1, config.layers + 1):
            if i > 1:
                x = nn.Dropout(config.dropout, deterministic=not train, name=f"drop{i}")(x)
            cell = nn.OptimizedLSTMCell(units, dtype=self.dtype, name=f"cell{i}")
            # The carry is float32 whatever the compute dtype, as long sums of small terms need it.
            outputs: Any = nn.RNN(cell, name=f"layer{i}")(x)
            x = outputs.astype(self.dtype)
            features[f"stage{i}"] = x
        features["pooled"] = x = x[:, -1]
        x = nn.Dropout(config.dropout, deterministic=not train, name="drop_last")(x)
        return dense(self.classes, self.dtype, "classifier")(x), features

    def sequence(self, inputs: Array) -> Array:
        """[B, T, F] in the compute dtype. Raises UsageError for inputs that do not fit."""
        vocabulary = self.config.vocabulary
        if vocabulary:
            require(
                inputs.ndim == 2 and bool(jnp.issubdtype(inputs.dtype, jnp.integer)),
                f"inputs {inputs.dtype}{list(inputs.shape)}: with vocabulary={vocabulary} the "
                "LSTM takes integer tokens [batch, time]; use vocabulary=0 for anything else",
            )
            features = max(1, round(self.config.embedding * self.config.width))
            return nn.Embed(vocabulary, features, dtype=self.dtype, name="embedding")(inputs)
        require(
            inputs.ndim in (3, 4),
            f"inputs of shape {inputs.shape}: the LSTM takes [batch, time, features] or images; "
            "set vocabulary for tokens [batch, time]",
        )
        x = inputs.reshape(*inputs.shape[:2], -1)
        return as_float(x, self.dtype, "LSTM")
