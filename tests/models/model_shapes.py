"""What a model of the table makes of its usual inputs, traced without computing anything."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import cost, tree
from kd_jax.models import MODELS, ModelConfig

MNIST = ("lenet", "mlp", "lstm")


def usual_inputs(name: str) -> tuple[int, tuple[int, ...]]:
    """(classes, shape of one image in a batch) that a model of this name is published for."""
    if name.startswith(MNIST):
        return 10, (1, 28, 28, 1)
    if "imagenet" in name or name.startswith("deit"):
        return 1000, (1, 224, 224, 3)
    return 100, (1, 32, 32, 3)


@functools.cache
def trace(
    config: ModelConfig, classes: int, shape: tuple[int, ...], dtype=jnp.float32, train=False
):
    """((logits, features), variables) as shapes."""
    module = config.build(classes, dtype)
    key = jax.eval_shape(lambda: jax.random.key(0))
    init = lambda k, x: module.init_with_output({"params": k, "dropout": k}, x, train)  # noqa: E731
    return jax.eval_shape(init, key, jax.ShapeDtypeStruct(shape, jnp.float32))


def traced(name: str):
    """`trace` of a model of the table on its usual inputs."""
    return trace(MODELS[name], *usual_inputs(name))


def drawn(shapes):
    """Variables of these shapes with values of a trained network's size, drawn without compiling
    an initialiser: batch norm's are neither 0 nor 1."""
    generator = np.random.default_rng(0)

    def draw(name, leaf):
        if name.endswith("kernel"):
            value = generator.normal(size=leaf.shape) / np.prod(leaf.shape[:-1]) ** 0.5
        elif name.endswith(("scale", "var")):
            value = generator.uniform(0.5, 1.5, size=leaf.shape)
        else:
            value = 0.1 * generator.normal(size=leaf.shape)
        return jnp.asarray(value, leaf.dtype)

    return tree.map_named(draw, shapes)


FAST_COMPILE = {"xla_backend_optimization_level": 0}


def evaluate(module, variables, inputs):
    """(logits, features) in evaluation, compiled as fast as it goes."""
    run = functools.partial(module.apply, train=False)
    return jax.jit(run, compiler_options=FAST_COMPILE)(variables, inputs)


def count_params(config: ModelConfig, classes: int, shape: tuple[int, ...]) -> int:
    return tree.count(trace(config, classes, shape)[1]["params"])


def count_macs(config: ModelConfig, classes: int, shape: tuple[int, ...]) -> int:
    module = config.build(classes, jnp.float32)
    variables = trace(config, classes, shape)[1]
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    return cost.macs(lambda v, x: module.apply(v, x, train=False), variables, inputs)
