"""Which weights matter: scores of every entry of every parameter. Higher is kept longer."""

import dataclasses
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kd_jax.tree import Tree, map_named

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Criterion:
    """`criterion(params, grads, key) -> scores`, a tree congruent with params.

    Attributes:
      score: the function itself, pure and jit-able.
      needs_grads: whether it reads the gradients, those of the step before; else they are None.
    """

    score: Callable[[Tree, Tree | None, Array], Tree]
    needs_grads: bool = False

    def __call__(self, params: Tree, grads: Tree | None, key: Array) -> Tree:
        return self.score(params, grads, key)


def magnitude(params: Tree, grads: Tree | None, key: Array) -> Tree:
    """|w|.

    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks",
    2015, https://arxiv.org/abs/1506.02626.
    """
    del grads, key
    return jax.tree.map(jnp.abs, params)


def random(params: Tree, grads: Tree | None, key: Array) -> Tree:
    """Uniform in [0, 1), a function of (key, parameter's name, shape): the control for all others.

    A layer's scores don't change when another layer is added or renamed.
    """
    del grads

    def score(name: str, w: Array) -> Array:
        layer_key = jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
        return jax.random.uniform(layer_key, w.shape)

    return map_named(score, params)


CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion(magnitude),
    "random": Criterion(random),
}
