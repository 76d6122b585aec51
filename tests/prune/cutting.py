"""Cuts a random part of a network and compares what is left with the full network whose units are
zero."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import tree
from kd_jax.prune import shrink, trace, zeroed

FAST = {"xla_backend_optimization_level": 0}


def random_variables(model, shape, dtype, generator):
    """All leaves random, statistics too, of the size that keeps activations near 1."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))

    def draw(name, leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return np.zeros(leaf.shape, leaf.dtype)
        if name.endswith("var"):
            return generator.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        scale = max(1, np.prod(leaf.shape[:-1])) ** 0.5 if len(leaf.shape) > 1 else 1
        return (generator.normal(size=leaf.shape) / scale).astype(leaf.dtype)

    return tree.map_named(draw, shapes)


def random_inputs(shape, dtype, generator):
    if dtype == "int32":
        return jnp.asarray(generator.integers(0, 7, shape), dtype)
    return jnp.asarray(generator.normal(size=shape), dtype)


def random_units(structure, generator, left=0.6):
    """{group: units}: of each group this share, at random."""
    size = lambda group: max(1, round(left * group.size))  # noqa: E731
    return {g.name: generator.permutation(g.size)[: size(g)] for g in structure.groups}


def cut_at_random(model, shape, dtype="float32", seed=0):
    """(structure, kept, the full network's variables, with zeros, and inputs; shrink's results)."""
    generator = np.random.default_rng(seed)
    structure = trace(model, shape, dtype)
    kept = random_units(structure, generator)
    variables = random_variables(model, shape, dtype, generator)
    inputs = random_inputs(shape, dtype, generator)
    full = zeroed(variables, structure, kept)
    return structure, kept, full, inputs, shrink(model, variables, structure, kept)


def logits(model, variables, inputs):
    run = lambda variables, inputs: model.forward(variables, inputs)[0].logits  # noqa: E731
    return jax.jit(run, compiler_options=FAST)(variables, inputs)


def share_left(variables, smaller):
    return tree.count(smaller["params"]) / tree.count(variables["params"])
