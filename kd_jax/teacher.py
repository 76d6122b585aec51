"""The teacher: frozen, in evaluation mode, and outside every gradient. This is the one place
where its outputs pass."""

import jax

from kd_jax.forward import Model, Outputs, Variables

Array = jax.Array


def teach(model: Model, variables: Variables, inputs: Array) -> Outputs:
    """The teacher's outputs on prepared inputs [B, ...]."""
    outputs, _ = model.forward(variables, inputs, train=False)
    return jax.lax.stop_gradient(outputs)
