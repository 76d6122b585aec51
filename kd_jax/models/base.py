"""What every model family has in common: a config that builds a Linen module."""

import dataclasses
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """An architecture as data. Each family is a subclass; its fields are flags."""

    def build(self, classes: int, dtype: Any) -> nn.Module:
        """The module: `module(inputs, train) -> (logits [B, classes], {name: feature})`.

        Parameters are float32; `dtype` is what it computes in. Logits come in `dtype`.
        """
        raise NotImplementedError

    def tiny(self) -> "ModelConfig":
        """The smallest member of the family that still has every kind of its layers."""
        raise NotImplementedError
