"""What a criterion may look at when masks change: the weights, and the stage's own loss on a few of
its own batches."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.prune.granularity import STRUCTURES, Granularity
from kd_jax.tree import Tree, count

Array = jax.Array
ROOM = 2**26  # numbers that the gradients of single examples may take at once


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Of one network, at one change of masks. Functions are pure and can be differentiated.

    Attributes:
      params: tree of arrays; zero where masks are False, unless pruned weights go on learning.
      masks: tree like params, of the layers that may be pruned; None elsewhere.
      key: for criteria that draw at random; of this stage, seed and step.
      losses: params -> the stage's loss as training computes it, one function a scoring batch. Its
        gradient is dense: also that of weights which are masked.
      inputs, targets: float32 [B, ...] and [B, K] of each scoring batch, as training shows them.
      network: (params, collections, inputs, train) -> logits [B, K].
      collections: {name: tree}, such as batch statistics.
      shape: of one example's inputs.
      learned: {layer: what the criterion has trained}, of those that learn.
      structure: what one decision will remove.
    """

    params: Tree
    masks: Tree
    key: Array
    losses: tuple[Callable[[Tree], Array], ...] = ()
    inputs: tuple[Array, ...] = ()
    targets: tuple[Array, ...] = ()
    network: Callable[..., Array] | None = None
    collections: dict[str, Tree] = dataclasses.field(default_factory=dict)
    shape: tuple[int, ...] = ()
    learned: dict[str, Array] = dataclasses.field(default_factory=dict)
    structure: Granularity = STRUCTURES["weights"]

    def gradient(self) -> Tree:
        """Of the mean loss of the scoring batches, dense."""
        return mean([jax.grad(loss)(self.params) for loss in self.losses])

    def logits(self, params: Tree, inputs: Array, train: bool) -> Array:
        """[B, K] in float32."""
        assert self.network is not None
        said = self.network(params, self.collections, inputs, train)
        return said.astype(jnp.float32)

    def mean_of_examples(self, of_example: Callable[[Array, Array], Tree]) -> Tree:
        """The mean of of_example(inputs [1, ...], targets [1, K]), a tree like params, over all
        examples of the scoring batches; as many at a time as there is room for."""
        inputs, targets = (jnp.concatenate(x)[:, None] for x in (self.inputs, self.targets))
        total, room = len(inputs), max(1, ROOM // count(self.params))
        size = max(n for n in range(1, total + 1) if total % n == 0 and n <= room)
        parts = [x.reshape(total // size, size, *x.shape[1:]) for x in (inputs, targets)]

        def add(so_far: Tree, part: Any) -> tuple[Tree, None]:
            each = jax.vmap(of_example)(*part)
            return jax.tree.map(lambda s, x: s + jnp.sum(x, axis=0), so_far, each), None

        summed, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, self.params), tuple(parts))
        return jax.tree.map(lambda s: s / total, summed)


def mean(trees: list[Tree]) -> Tree:
    """Of trees of arrays, leaf by leaf."""
    return jax.tree.map(lambda *xs: sum(xs[1:], start=xs[0]) / len(xs), *trees)
