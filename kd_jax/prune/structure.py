"""Which channels hang together: labels on every axis of every array that a network computes.

Each index of each axis of each parameter starts as a unit of its own. Walking through the jaxpr
of the forward pass, a rule for each primitive says which units are one and the same, because the
program would not fit together if one were cut without the other. What is left apart can be cut.

A unit may be cut only if the result equals that of the network whose parameters are zero there.
So each label also carries what the entries are once its unit is cut: 0 after a kernel, a bias, a
norm's scale and a ReLU; ½ after a sigmoid; NaN where it isn't known. A sum over an axis, for
example, needs zeros.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal

from kd_jax.prune.labels import UNKNOWN, Block, Called, Node, Note, Program, State
from kd_jax.prune.units import FROZEN, Units


class Graph:
    """All units and what ties them. `rules` are the rules by primitive (structure_rules.py)."""

    def __init__(self, rules: dict[str, Callable]):
        self.rules = rules
        self.units = Units()
        self.leaves: dict[str, dict[int, np.ndarray]] = {}
        self.kernels: list[np.ndarray] = []  # axes of parameters that inputs are multiplied by
        self.contracted: list[np.ndarray] = []  # those of them that are summed over
        self.alike: list[tuple[np.ndarray, np.ndarray]] = []  # axes of parameters, side by side
        self.notes: list[Note] = []
        self.segments: list[np.ndarray] = []
        self.derivatives = 0  # how many the program at hand is inside of
        self._joint: list[Block] = []

    def leaf(self, name: str, shape: tuple[int, ...], zero: bool) -> State:
        """The state of a leaf of the variables; the same at every call. With `zero`, cutting a
        unit means that its entries here are zero (parameters, not statistics)."""
        if name not in self.leaves:
            sizes = [(a, n) for a, n in enumerate(shape) if n > 1]
            self.leaves[name] = {a: self.units.fresh(n, bound=True) for a, n in sizes}
        value = 0.0 if zero else UNKNOWN
        axes = self.leaves[name].items()
        blocks = tuple(Block((a,), ids, np.full(len(ids), value)) for a, ids in axes)
        return State(shape, blocks, data=False)

    def free(self, axis: int, size: int, value: float = UNKNOWN) -> Block:
        """An axis that may be cut to whatever it is combined with."""
        return Block((axis,), self.units.fresh(size), np.full(size, value))

    def constant(self, value: Any) -> State:
        """A constant of the program; an axis along which it doesn't change is free."""
        shape = tuple(np.shape(value))
        try:
            array = np.asarray(value).astype(np.float64)
        except (TypeError, ValueError):  # a random key
            return State(shape, data=False)
        flat = array.reshape(-1)
        const = float(flat[0]) if flat.size and (flat == flat[0]).all() else UNKNOWN
        free = [a for a, n in enumerate(shape) if n > 1 and (array == array.take([0], a)).all()]
        return State(shape, tuple(self.free(a, shape[a], const) for a in free), const, data=False)

    def analyse(self, jaxpr: Any, consts: Sequence[Any], ins: Sequence[State]) -> Program:
        """Walks through a program whose arguments have these states."""
        const_states = [self.constant(c) for c in consts]
        known = dict(zip(jaxpr.constvars, const_states, strict=True))
        known |= zip(jaxpr.invars, ins, strict=True)
        read = lambda v: self.constant(v.val) if isinstance(v, Literal) else known[v]  # noqa: E731
        nodes = []
        for eqn in jaxpr.eqns:
            operands = tuple(read(v) for v in eqn.invars)
            result = self.rules.get(eqn.primitive.name, not_understood)(self, eqn, operands)
            called = result if isinstance(result, Called) else Called(result)
            if [s.shape for s in called.outs] != [tuple(s.shape) for s in fixed(eqn)]:
                called = Called(not_understood(self, eqn, operands))
            nodes.append(Node(eqn, operands, tuple(called.outs), called.inner, called.facts))
            known |= zip(eqn.outvars, called.outs, strict=True)
        outs = tuple(read(v) for v in jaxpr.outvars)
        return Program(jaxpr, tuple(consts), tuple(const_states), tuple(ins), tuple(nodes), outs)

    # Freezing

    def freeze(self, ids: np.ndarray, eqn: Any, reason: str) -> None:
        """These units are never cut; with a reason, it is noted."""
        roots = np.unique(self.units.find(ids))
        roots = roots[roots != FROZEN]
        if len(roots):
            if reason and self.units.bound(roots):
                self.notes.append(Note(*where(eqn), reason, self.held_by(roots)))
            self.units.unite(roots, np.zeros_like(roots))

    def freeze_axis(self, state: State, axis: int, eqn: Any, reason: str) -> None:
        block = state.of(axis)
        if block is not None:
            self.freeze(block.ids, eqn, reason)

    def held_by(self, roots: np.ndarray) -> tuple[str, ...]:
        """The parameters' axes with one of these units."""
        marked = self.units.marked(roots)
        axes = ((name, a, ids) for name, leaf in self.leaves.items() for a, ids in leaf.items())
        return tuple(f"{name}:{a}" for name, a, ids in axes if marked[self.units.find(ids)].any())

    # Labels of several axes at once

    def joint(self, block: Block) -> tuple[Block, ...]:
        """A block of several axes, in the fewest that tell the same; it is settled at the end."""
        blocks = self.simple(block)
        self._joint += [b for b in blocks if len(b.axes) > 1]
        return blocks

    def simple(self, block: Block) -> tuple[Block, ...]:
        """Without the axes along which its units don't change; () where all are frozen."""
        roots = self.units.find(block.ids)
        if not roots.any():
            return ()
        axes, ids, value = block.axes, block.ids, block.value
        while len(axes) > 1:
            same = [i for i in range(len(axes)) if (roots == roots.take([0], axis=i)).all()]
            if not same:
                break
            i = min(same, key=lambda i: roots.shape[i])
            steady = (value == value.take([0], axis=i)).all(axis=i)
            value = np.where(steady, value.take(0, axis=i), UNKNOWN)
            roots, ids = roots.take(0, axis=i), ids.take(0, axis=i)
            axes = axes[:i] + axes[i + 1 :]
        return (Block(axes, ids, value),)

    def collapse(self, block: Block, carrier: int) -> None:
        """One axis of a block carries its units from here on; the others have a fixed size."""
        i = block.axes.index(carrier)
        rows = np.moveaxis(block.ids, i, 0).reshape(block.ids.shape[i], -1)
        self.units.unite(np.broadcast_to(rows[:, :1], rows.shape), rows)

    def single(self, state: State, *axes: int) -> State:
        """The state once each of these axes is labelled alone, or not at all.

        Of a split axis the first part then carries the labels: heads of an attention, groups of
        a norm."""
        for block in state.blocks:
            if len(block.axes) > 1 and set(axes) & set(block.axes):
                for rest in self.simple(block):
                    if len(rest.axes) > 1:
                        self.collapse(rest, rest.axes[0])
        return self.simplified(state)

    def simplified(self, state: State) -> State:
        blocks = tuple(b for block in state.blocks for b in self.simple(block))
        return dataclasses.replace(state, blocks=blocks)

    def settle(self) -> None:
        """Blocks that are still joint (a channel shuffle) get labels on their longest axis, so
        that what is left of them is rectangular."""
        for block in self._joint:
            for rest in self.simple(block):
                if len(rest.axes) > 1:
                    longest = int(np.argmax(rest.ids.shape))
                    self.collapse(rest, rest.axes[longest])


def not_understood(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """Every unit of every operand is kept."""
    for state in ins:
        for block in state.blocks:
            graph.freeze(block.ids, eqn, f"{eqn.primitive.name} isn't understood")
    return fixed(eqn)


def fixed(eqn: Any) -> list[State]:
    """Results of which nothing is known."""
    return [State(tuple(getattr(v.aval, "shape", ()))) for v in eqn.outvars]


def where(eqn: Any) -> tuple[str, str]:
    """(primitive, `module/path file.py:line`) of an equation; the outputs have none."""
    if eqn is None:
        return "", "outputs"
    frames = eqn.source_info.traceback.frames if eqn.source_info.traceback else []
    libraries = ("/jax/_src/", "/jax/numpy/", "/flax/", "/jax/extend/")
    ours = (f for f in frames if not any(part in f.file_name for part in libraries))
    frame = next(ours, None)
    line = f"{frame.file_name.rsplit('/', 1)[-1]}:{frame.line_num}" if frame else ""
    return eqn.primitive.name, f"{eqn.source_info.name_stack} {line}".strip()
