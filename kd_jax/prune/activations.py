"""What goes into each layer, found by tracing: the inputs that a network multiplies with a
parameter, whatever library it is written in. And criteria that weigh weights by it."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from kd_jax.errors import UsageError
from kd_jax.platform import equations
from kd_jax.products import COPIES, bind, run
from kd_jax.prune.criteria import DataCriterion
from kd_jax.prune.evidence import Evidence
from kd_jax.tree import Tree, map_named, named_leaves, traceable

Array = jax.Array
# What leaves a parameter what it is, but for its values: masks, casts, scales.
ELEMENTWISE = (*COPIES, "select_n", "add", "sub", "mul", "pvary", "sharding_constraint")


def input_squares(function: Callable[[Tree], Any], params: Tree) -> dict[str, Array]:
    """{parameter: the sum of the squares of the inputs that each of its entries is multiplied
    with}, of the shape of the parameter, over a batch and, in convolutions, all places.

    `function` is of the parameters and has the batch inside. Parameters whose products are not
    seen, as those inside a scan, are missing.
    """
    found: dict[str, Array] = {}

    def heard(name: str, eqn: Any, given: list[Array], place: int) -> None:
        weights, squares = given[place], given[1 - place] ** 2

        def product(w: Array) -> Array:
            pair = (w, squares) if place == 0 else (squares, w)
            return bind(eqn, pair)[0]

        # A product is linear: its derivative by a weight sums what that is multiplied with.
        out, pullback = jax.vjp(product, weights)
        (sums,) = pullback(jnp.ones_like(out))
        found[name] = found.get(name, 0) + sums.astype(jnp.float32)

    leaves = named_leaves(params)
    keeps = lambda eqn: eqn.primitive.name in ELEMENTWISE  # noqa: E731
    names = dict(enumerate(leaves))
    run(equations(function, params), [*leaves.values()], names, heard, keeps)
    return found


@traceable
class Wanda(DataCriterion):
    """|w|·‖x‖₂, x all values of the input that w is multiplied with; compared within each output.

    Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models",
    2023, https://arxiv.org/abs/2306.11695. Meant for --prune.allocation layer, or structure n_m.
    All layers are scored at once, by the inputs that they have then; the paper prunes one after the
    other and scores by the pruned ones. In evaluation mode.
    """

    within: Literal["output", "layer"] = "output"
    """output: a score is a weight's rank among those of its output, so that each output keeps as
    many; layer: the product itself, compared over the whole layer."""

    def __call__(self, evidence: Evidence) -> Tree:
        squares: dict[str, Array] = {}
        for inputs in evidence.inputs:
            said = lambda p, x=inputs: evidence.logits(p, x, train=False)  # noqa: E731
            for name, more in input_squares(said, evidence.params).items():
                squares[name] = squares.get(name, 0) + more
        layers = named_leaves(evidence.masks)
        missing = [name for name in layers if name not in squares]
        if missing:
            raise UsageError(
                f"criterion Wanda can't see the inputs of {', '.join(missing)}, which the network "
                "multiplies in a loop or not at all: exclude them, or take another criterion"
            )

        def score(name: str, w: Array) -> Array:
            if name not in layers:
                return jnp.abs(w)
            scores = jnp.abs(w) * jnp.sqrt(squares[name])
            return scores if self.within == "layer" else _ranks(scores)

        return map_named(score, evidence.params)


def _ranks(scores: Array) -> Array:
    """The place of each entry among those of its output, the last axis, in [0, 1)."""
    flat = scores.reshape(-1, scores.shape[-1])
    # Of equal scores the later one ranks lower, as the cut would have it.
    order = jnp.argsort(-flat, axis=0, stable=True)
    place = len(flat) - 1 - jnp.argsort(order, axis=0)
    return (place / len(flat)).astype(jnp.float32).reshape(scores.shape)
