"""The small network that says which units of another each input goes through."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_jax.models.layers import as_float, dense

Array = jax.Array
LAST = "saliency"  # its last layer


class Gater(nn.Module):
    """A hidden layer with ReLU, and a saliency for each unit. It computes in float32.

    Attributes:
      hidden: units of its hidden layer.
      units: of the network that is gated.
    """

    hidden: int
    units: int

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """[B, ...] -> [B, units]."""
        x = as_float(inputs, jnp.float32, "a gater")
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(dense(self.hidden, jnp.float32, "hidden")(x))
        return dense(self.units, jnp.float32, LAST)(x)
