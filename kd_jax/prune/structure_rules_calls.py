"""Rules of structure.py: equations that hold programs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kd_jax.prune.labels import Block, Called, Program, State, without
from kd_jax.prune.structure import Graph, not_understood
from kd_jax.prune.structure_rules_elementwise import combined
from kd_jax.prune.structure_rules_shape import dropped


def inside(graph: Graph, closed: Any, ins: Sequence[State]) -> Program:
    """The program in a parameter of an equation, with its constants or without."""
    return graph.analyse(getattr(closed, "jaxpr", closed), getattr(closed, "consts", ()), ins)


def call(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called:
    """jit, remat and the like."""
    names = ("jaxpr", "call_jaxpr")
    program = inside(graph, next(eqn.params[n] for n in names if n in eqn.params), ins)
    return Called(program.outs, (program,))


def custom_jvp(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called:
    """The function and its own derivative, which is a program of arguments and tangents.

    That of a relu calls relu, whose derivative does again: it ends after the second."""
    program = inside(graph, eqn.params["call_jaxpr"], ins)
    if graph.derivatives == 2:
        return Called(program.outs, (program,))
    still = [not _has_tangent(v.aval) for v in eqn.invars]
    jaxpr, consts, zeros = eqn.params["jvp_jaxpr_fun"].call_wrapped(*still)
    # A tangent is cut as its argument is, and zero there.
    moving = [
        dataclasses.replace(s, blocks=tuple(_zero(b) for b in s.blocks), const=np.nan)
        for s, fixed in zip(ins, still, strict=True)
        if not fixed
    ]
    graph.derivatives += 1
    derivative = graph.analyse(jaxpr, consts, [*ins, *moving])
    graph.derivatives -= 1
    count = len(program.outs)
    for out, *others in zip(
        program.outs, derivative.outs[:count], _tangents(derivative, zeros, count), strict=True
    ):
        combined(graph, eqn, [out, *(other for other in others if other is not None)], None)
    return Called(program.outs, (program, derivative), facts=(still, zeros))


def _tangents(derivative: Program, zeros: Sequence[bool], count: int) -> list[State | None]:
    given = iter(derivative.outs[count:])
    return [None if zero else next(given) for zero in zeros]


def _zero(block: Block) -> Block:
    return dataclasses.replace(block, value=np.zeros(block.ids.shape))


def _has_tangent(aval: Any) -> bool:
    return bool(jnp.issubdtype(aval.dtype, jnp.inexact))


def scan(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called:
    """What is carried is cut alike at every turn."""
    consts, carried = scan_counts(eqn)
    first = consts + carried
    given, before, along = ins[:consts], list(ins[consts:first]), []
    before = [dataclasses.replace(s, data=True) for s in before]
    for state in ins[first:]:
        state = graph.single(state, 0)
        graph.freeze_axis(state, 0, eqn, "is an axis that a scan works along")
        along.append(dropped(dataclasses.replace(state, blocks=without(state.blocks, [0])), [0]))
    for _ in range(4):  # what is known of the values only shrinks
        program = inside(graph, eqn.params["jaxpr"], [*given, *before, *along])
        pairs = list(zip(before, program.outs[:carried], strict=True))
        after = [_either(graph, eqn, pair) for pair in pairs]
        if all(_same(a, b) for a, b in zip(before, after, strict=True)):
            break
        before = after
    else:
        return _stuck(graph, eqn, ins)
    stacked = [_stacked(s, eqn.params["length"]) for s in program.outs[carried:]]
    return Called([*program.outs[:carried], *stacked], (program,))


def _stuck(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called:
    return Called(not_understood(graph, eqn, ins))


def scan_counts(eqn: Any) -> tuple[int, int]:
    """(constants, carried values) among a scan's operands."""
    if "ft_in" in eqn.params:  # jax 0.12
        parts = eqn.params["ft_in"].unpack()
        return len(parts[0]), len(parts[1])
    return eqn.params["num_consts"], eqn.params["num_carry"]


def _either(graph: Graph, eqn: Any, states: Sequence[State]) -> State:
    """Cut alike; of values only those that all have."""
    alike = lambda *v: np.where(np.all([x == v[0] for x in v], axis=0), v[0], np.nan)  # noqa: E731
    return combined(graph, eqn, states, alike)


def _same(a: State, b: State) -> bool:
    values = lambda s: [(b.axes, b.value) for b in s.blocks]  # noqa: E731
    equal = lambda x, y: x[0] == y[0] and np.array_equal(x[1], y[1], equal_nan=True)  # noqa: E731
    return len(a.blocks) == len(b.blocks) and all(map(equal, values(a), values(b)))


def _stacked(state: State, length: int) -> State:
    places = {a: a + 1 for a in range(len(state.shape))}
    blocks = tuple(b.moved(places) for b in state.blocks)
    return dataclasses.replace(state, shape=(length, *state.shape), blocks=blocks)


def cond(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called:
    """The results of all branches are cut alike."""
    programs = tuple(inside(graph, branch, ins[1:]) for branch in eqn.params["branches"])
    results = zip(*(program.outs for program in programs), strict=True)
    return Called([_either(graph, eqn, states) for states in results], programs)


CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint")

RULES = {
    **dict.fromkeys(CALLS, call),
    "custom_jvp_call": custom_jvp,
    "scan": scan,
    "cond": cond,
}
