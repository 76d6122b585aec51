"""Small networks, data and batches that the tests of training share, so that they also share
compiled programs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.batch import Batch
from kd_jax.data import Dataset, load
from kd_jax.datasets import Data, Spec
from kd_jax.forward import Model, from_apply, from_linen

SPEC = Spec(name="tiny", classes=3, mean=(0.0,), std=(1.0,), size=(1, 1))


@functools.cache
def digits() -> Dataset:
    """64 digits to train on, 24 to validate and 24 to test."""
    return load(Data(train_limit=64, test_limit=24))


class Perceptron(nn.Module):
    """One hidden layer of 8 and its normalisation, over flattened inputs. It starts from sines: a
    random initialisation takes longer to compile than all the rest."""

    width: int = 8

    @nn.compact
    def __call__(self, inputs, train):
        x = inputs.reshape(inputs.shape[0], -1)
        x = nn.Dense(self.width, kernel_init=sines, name="hidden")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = nn.relu(x)
        return nn.Dense(10, kernel_init=sines, name="classifier")(x), {"hidden": x}


class ConvNet(nn.Module):
    """A convolution, its normalisation, a mean over places and a dense layer."""

    @nn.compact
    def __call__(self, inputs, train):
        x = nn.Conv(6, (3, 3), use_bias=False, kernel_init=sines, name="conv")(inputs)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = jnp.mean(nn.relu(x), axis=(1, 2))
        return nn.Dense(10, kernel_init=sines, name="classifier")(x)


def sines(key, shape, dtype=jnp.float32):
    """Numbers in ±0.5 that differ from one another and from seed to seed."""
    phase = jax.random.key_data(key)[0].astype(jnp.float32) / 2.0**32
    places = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    return (jnp.sin(1.7 * places + 6 * phase) / 2).astype(dtype)


@functools.cache
def perceptron(width: int = 8) -> Model:
    return from_linen(Perceptron(width))


@functools.cache
def convnet() -> Model:
    return from_linen(ConvNet())


def two_layers() -> tuple[Model, dict]:
    """tanh of a dense layer, less a running mean, and a dense layer: 4 -> 3 -> 3, written out so
    that a test can do the same in NumPy. (Model, variables)."""
    wave = lambda n, *shape: jnp.asarray(np.sin(np.arange(1, n + 1)).reshape(shape), jnp.float32)  # noqa: E731
    variables = {
        "params": {
            "first": {"kernel": wave(12, 4, 3), "bias": wave(3, 3) / 4},
            "second": {"kernel": wave(9, 3, 3), "bias": wave(3, 3) / 2},
        },
        "statistics": {"mean": jnp.zeros(3)},
    }

    def apply(variables, inputs, train):
        first, second = variables["params"]["first"], variables["params"]["second"]
        hidden = jnp.tanh(inputs @ first["kernel"] + first["bias"][None])
        running = variables["statistics"]["mean"]
        mean = jnp.mean(hidden, axis=0) if train else running
        logits = (hidden - mean[None]) @ second["kernel"] + second["bias"][None]
        return logits, {"statistics": {"mean": 0.9 * running + 0.1 * mean}}

    return from_apply(apply, variables), variables


def linear(scale: float = 1.0) -> tuple[Model, dict]:
    """inputs [B, 4] @ kernel [4, 3]. (Model, variables)."""
    kernel = scale * jnp.asarray(np.cos(np.arange(12)).reshape(4, 3), jnp.float32)
    variables = {"params": {"kernel": kernel}}
    return from_apply(lambda v, x, train: x @ v["params"]["kernel"], variables), variables


def batch(examples: int = 5, first: int = 0) -> Batch:
    """Examples of 4 numbers in 3 classes."""
    ids = np.arange(first, first + examples)
    inputs = np.cos(np.arange(4 * first, 4 * (first + examples), dtype=np.float32) ** 1.5)
    return Batch(
        ids=jnp.asarray(ids, jnp.int32),
        inputs=jnp.asarray(inputs.reshape(examples, 4), jnp.float32),
        labels=jnp.asarray(ids % 3, jnp.int32),
        weights=jnp.ones(examples, jnp.float32),
    )


def differences(a, b) -> list[str]:
    """Names of the leaves of two trees of one structure that are not the same bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    return [jax.tree_util.keystr(p) for (p, x), y in pairs if not np.array_equal(x, y)]
