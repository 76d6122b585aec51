"""Evaluates a program at smaller shapes, equation by equation. It is traced like any function."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from kd_jax.products import applied
from kd_jax.prune.labels import Block, Node, Program, State
from kd_jax.prune.structure import Graph
from kd_jax.prune.structure_rules_calls import scan_counts


class Sizes:
    """What is left of every axis, if of the variables' leaves only these indices are.

    Raises:
      ValueError: a unit is kept in one place and cut in another.
    """

    def __init__(self, graph: Graph, indices: dict[str, dict[int, Any]]):
        self._graph = graph
        cut, left = [], [np.zeros(1, int)]
        for leaf, axes in graph.leaves.items():
            for axis, ids in axes.items():
                index = indices.get(leaf, {}).get(axis, np.arange(len(ids)))
                left.append(graph.units.find(ids[index]))
                cut.append(graph.units.find(np.delete(ids, index)))
        self._alive = ~graph.units.marked(np.concatenate(cut))
        if not self._alive[np.concatenate(left)].all():
            raise ValueError("these shapes tie channels that were cut to others that were kept")

    def along(self, block: Block | None, axis: int, full: int) -> int:
        """What is left of an axis of this size."""
        for rest in self._graph.simple(block) if block is not None and block.ids.size else ():
            if axis in rest.axes:
                alive = self._alive[self._graph.units.find(rest.ids)]
                if len(rest.axes) > 1 and not alive.all():
                    raise ValueError("what is left of an array is not rectangular")
                return int(alive.sum()) if len(rest.axes) == 1 else full
        return full

    def shape(self, state: State) -> tuple[int, ...]:
        """The shape of what is left of an array."""
        return tuple(self.along(state.of(a), a, n) for a, n in enumerate(state.shape))


def run(program: Program, sizes: Sizes, arguments: Sequence[Any]) -> list[Any]:
    """The results of a program for arguments of the smaller shapes."""
    jaxpr = program.jaxpr
    known: dict[Any, Any] = dict(zip(jaxpr.invars, arguments, strict=True))
    consts = zip(jaxpr.constvars, program.consts, program.const_states, strict=True)
    known |= {var: _constant(value, state, sizes) for var, value, state in consts}

    def read(var: Any, state: State) -> Any:
        return _constant(var.val, state, sizes) if isinstance(var, Literal) else known[var]

    for node in program.nodes:
        operands = [read(v, s) for v, s in zip(node.eqn.invars, node.ins, strict=True)]
        results = _evaluate(node, sizes, operands)
        for result, state in zip(results, node.outs, strict=True):
            if jnp.shape(result) != sizes.shape(state):
                raise ValueError(f"{node.eqn.primitive.name} gives {jnp.shape(result)}")
        known |= zip(node.eqn.outvars, results, strict=True)
    return [read(v, s) for v, s in zip(jaxpr.outvars, program.outs, strict=True)]


def _constant(value: Any, state: State, sizes: Sizes) -> Any:
    """A constant that doesn't change along an axis is cut anywhere."""
    shape = sizes.shape(state)
    return value if shape == state.shape else value[tuple(slice(n) for n in shape)]


def _evaluate(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    states = (*node.ins, *node.outs)
    rule = EVALUATE.get(node.eqn.primitive.name)
    same = all(sizes.shape(s) == s.shape for s in states)
    if rule is None or (same and not node.inner):
        return bind(node, operands)
    return rule(node, sizes, operands)


def bind(node: Node, operands: Sequence[Any], **changed: Any) -> Sequence[Any]:
    """Applies an equation's primitive, with some parameters changed."""
    return applied(node.eqn.primitive, operands, {**node.eqn.params, **changed})


def _shaped(parameter: str) -> Callable:
    """A primitive that is told the shape of its result."""

    def rule(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
        return bind(node, operands, **{parameter: sizes.shape(node.outs[0])})

    return rule


def _slice(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    start = list(node.eqn.params["start_indices"])
    limit = list(node.eqn.params["limit_indices"])
    whole, shape = sizes.shape(node.ins[0]), sizes.shape(node.outs[0])
    for axis, full in enumerate(node.ins[0].shape):
        if axis in node.facts:
            start[axis] = sizes.along(node.facts[axis], axis, start[axis])
            limit[axis] = start[axis] + shape[axis]
        elif (start[axis], limit[axis]) == (0, full):
            limit[axis] = whole[axis]
    return bind(node, operands, start_indices=tuple(start), limit_indices=tuple(limit))


def _dynamic_slice(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    operands = list(operands)
    for axis, before in (node.facts or {}).items():
        start = sizes.along(before, axis, before.ids.shape[before.axes.index(axis)])
        operands[1 + axis] = jnp.asarray(start, operands[1 + axis].dtype)
    return bind(node, operands, slice_sizes=sizes.shape(node.outs[0]))


def _split(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    axis = node.eqn.params["axis"]
    return bind(node, operands, sizes=tuple(sizes.shape(s)[axis] for s in node.outs))


def _pad(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    config = list(node.eqn.params["padding_config"])
    for axis, (low, high) in node.facts.items():
        ends = (sizes.along(b, axis, b.ids.size) for b in (low, high))
        config[axis] = (*ends, 0)
    return bind(node, operands, padding_config=tuple(config))


def _conv(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    numbers = node.eqn.params["dimension_numbers"]
    channels = operands[0].shape[numbers.lhs_spec[1]]
    groups = channels // operands[1].shape[numbers.rhs_spec[1]]
    return bind(node, operands, feature_group_count=groups)


def _gather(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    shape = operands[0].shape
    pairs = zip(node.eqn.params["slice_sizes"], node.ins[0].shape, shape, strict=True)
    taken = tuple(new if size == full else size for size, full, new in pairs)
    return bind(node, operands, slice_sizes=taken)


def _random_bits(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    keys = len(node.ins[0].shape)
    return bind(node, operands, shape=sizes.shape(node.outs[0])[keys:])


def _call(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    return run(node.inner[0], sizes, operands)


def _remat(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    kept = {name: node.eqn.params[name] for name in ("policy", "prevent_cse")}
    return jax.checkpoint(lambda *x: run(node.inner[0], sizes, x), **kept)(*operands)


def _custom_jvp(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    """The function keeps its own derivative (that of relu at 0 is 0), and this one its own."""
    if len(node.inner) == 1:
        return run(node.inner[0], sizes, operands)
    program, derivative = node.inner
    still, zeros = node.facts

    @jax.custom_jvp
    def function(*x: Any) -> list[Any]:
        return run(program, sizes, x)

    @function.defjvp
    def _(x: Any, tangents: Any) -> tuple[list[Any], list[Any]]:
        moving = [t for t, fixed in zip(tangents, still, strict=True) if not fixed]
        results = run(derivative, sizes, [*x, *moving])
        outs, given = results[: len(zeros)], iter(results[len(zeros) :])
        pairs = zip(outs, zeros, strict=True)
        return outs, [_no_tangent(out) if zero else next(given) for out, zero in pairs]

    return function(*operands)


def _no_tangent(out: Any) -> Any:
    inexact = jnp.issubdtype(out.dtype, jnp.inexact)
    return jnp.zeros_like(out) if inexact else np.zeros(out.shape, jax.dtypes.float0)


def _scan(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    if not node.inner:
        return bind(node, operands)
    consts, carried = scan_counts(node.eqn)
    given, first = operands[:consts], operands[consts : consts + carried]

    def turn(before: Any, along: Any) -> tuple[list[Any], list[Any]]:
        results = run(node.inner[0], sizes, [*given, *before, *along])
        return list(results[:carried]), list(results[carried:])

    kept = {name: node.eqn.params[name] for name in ("length", "reverse", "unroll")}
    after, stacked = jax.lax.scan(turn, list(first), list(operands[consts + carried :]), **kept)
    return [*after, *stacked]


def _cond(node: Node, sizes: Sizes, operands: list[Any]) -> Sequence[Any]:
    index, *rest = operands
    branches = [lambda *x, p=program: run(p, sizes, x) for program in node.inner]
    return jax.lax.switch(index, branches, *rest)


EVALUATE: dict[str, Callable] = {
    **dict.fromkeys(["jit", "pjit", "closed_call", "core_call"], _call),
    **dict.fromkeys(["remat", "remat2", "checkpoint"], _remat),
    "broadcast_in_dim": _shaped("shape"),
    "iota": _shaped("shape"),
    "reshape": _shaped("new_sizes"),
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "split": _split,
    "pad": _pad,
    "conv_general_dilated": _conv,
    "gather": _gather,
    "random_bits": _random_bits,
    "custom_jvp_call": _custom_jvp,
    "scan": _scan,
    "cond": _cond,
}
