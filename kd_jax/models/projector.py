"""What brings a student's maps to a teacher's width, where it stays in the network."""

from typing import Any

import flax.linen as nn
import jax

from kd_jax.models.layers import conv, norm

Array = jax.Array


class Projector(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1, each with batch norm and ReLU.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", 2022,
    https://arxiv.org/abs/2203.14001.

    Attributes:
      inner: channels of the first two.
      width: channels of what comes out.
    """

    inner: int
    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B, H, W, C] -> [B, H, W, width]."""
        for i, (width, kernel) in enumerate(((self.inner, 1), (self.inner, 3), (self.width, 1))):
            x = conv(width, kernel, self.dtype, f"conv{i}")(x)
            x = nn.relu(norm(train, self.dtype, f"norm{i}")(x))
        return x
