"""What goes into each layer, found by tracing: the inputs that a network multiplies with a
parameter, whatever library it is written in. And criteria that weigh weights by it."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend import core

from kd_jax.errors import UsageError
from kd_jax.prune.criteria import DataCriterion
from kd_jax.prune.evidence import Evidence
from kd_jax.tree import Tree, map_named, named_leaves, path_name, traceable

Array = jax.Array
PRODUCTS = ("dot_general", "conv_general_dilated")
# What leaves a parameter what it is, but for its values: masks, casts, scales.
ELEMENTWISE = (
    *("convert_element_type", "select_n", "add", "sub", "mul", "copy", "copy_p", "stop_gradient"),
    *("optimization_barrier", "pvary", "sharding_constraint"),
)
Heard = Callable[[str, Any, Array, Array, int], None]


def input_squares(function: Callable[[Tree], Any], params: Tree) -> dict[str, Array]:
    """{parameter: the sum of the squares of the inputs that each of its entries is multiplied
    with}, of the shape of the parameter, over a batch and, in convolutions, all places.

    `function` is of the parameters and has the batch inside. Parameters whose products are not
    seen, as those inside a scan, are missing.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    found: dict[str, Array] = {}

    def heard(name: str, eqn: Any, weights: Array, inputs: Array, place: int) -> None:
        def product(w: Array) -> Array:
            pair = (w, inputs**2) if place == 0 else (inputs**2, w)
            return eqn.primitive.bind(*pair, **eqn.params)

        # A product is linear: its derivative by a weight sums what that is multiplied with.
        out, pullback = jax.vjp(product, weights)
        (squares,) = pullback(jnp.ones_like(out))
        found[name] = found.get(name, 0) + squares.astype(jnp.float32)

    closed = jax.make_jaxpr(function)(params)
    leaves = jax.tree.leaves(params)
    labels = dict(zip(closed.jaxpr.invars, names, strict=True))
    _run(closed.jaxpr, closed.consts, leaves, labels, heard)
    return found


def _run(
    jaxpr: Any, consts: Any, inputs: list[Any], labels: dict[Any, str], heard: Heard
) -> tuple[list[Any], list[str | None]]:
    """Evaluates a jaxpr and tells of each product with a labelled variable; (values, labels) of
    its results."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
    read = lambda v: v.val if isinstance(v, core.Literal) else values[v]  # noqa: E731
    label = lambda v: None if isinstance(v, core.Literal) else labels.get(v)  # noqa: E731
    for eqn in jaxpr.eqns:
        given, names = [read(v) for v in eqn.invars], [label(v) for v in eqn.invars]
        inner = _inner(eqn)
        said: list[str | None] = [None] * len(eqn.outvars)
        if inner is not None:
            own = {v: name for v, name in zip(inner[0].invars, names, strict=True) if name}
            results, said = _run(*inner, given, own, heard)
        else:
            if eqn.primitive.name in PRODUCTS:
                for place, name in enumerate(names):
                    if name is not None:
                        heard(name, eqn, given[place], given[1 - place], place)
            results = eqn.primitive.bind(*given, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
            said = [_passed_on(eqn, names, given, out) for out in results]
        values |= zip(eqn.outvars, results, strict=True)
        labels |= {v: name for v, name in zip(eqn.outvars, said, strict=True) if name}
    return [read(v) for v in jaxpr.outvars], [label(v) for v in jaxpr.outvars]


def _passed_on(eqn: Any, names: list[str | None], given: list[Any], out: Any) -> str | None:
    """The parameter that a result still is."""
    known = {name for name in names if name is not None}
    if len(known) != 1 or eqn.primitive.name not in ELEMENTWISE:
        return None
    shapes = {jnp.shape(x) for x, name in zip(given, names, strict=True) if name}
    return known.pop() if shapes == {jnp.shape(out)} else None


def _inner(eqn: Any) -> tuple[Any, Any] | None:
    """(jaxpr, its constants) of a call that runs it once, as it is."""
    if eqn.primitive.name in ("scan", "while", "cond"):
        return None
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = eqn.params.get(name)
        if inner is not None:
            return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
    return None


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
