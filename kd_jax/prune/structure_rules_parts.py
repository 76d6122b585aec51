"""Rules of structure.py: operations that take arrays apart and put them together."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.prune.labels import UNKNOWN, Block, Called, State, without
from kd_jax.prune.structure import Graph
from kd_jax.prune.structure_rules_elementwise import aligned
from kd_jax.prune.structure_rules_shape import dropped


def slice_(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called | list[State]:
    params = eqn.params
    strides = params["strides"] or (1,) * len(ins[0].shape)
    bounds = list(zip(params["start_indices"], params["limit_indices"], strides, strict=True))
    state = ins[0]
    for axis, (_, _, stride) in enumerate(bounds):
        if stride != 1 and state.of(axis):
            state = graph.single(state, axis)
            graph.freeze_axis(state, axis, eqn, "is cut out in steps")
            state = graph.simplified(state)
    return picked(graph, state, [(start, limit) for start, limit, _ in bounds], eqn)


def picked(graph: Graph, state: State, bounds: Sequence[tuple[int, int]], eqn: Any) -> Called:
    """A part of every axis. The evaluation is told what lies before it, as a state an axis."""
    shape = tuple(eqn.outvars[0].aval.shape)
    blocks, before = [], {}
    for block in state.blocks:
        for axis in block.axes:
            start, limit = bounds[axis]
            if (start, limit) != (0, state.shape[axis]):
                before[axis] = block.take(axis, np.arange(start))
                graph.segments.append(before[axis].ids)
                block = block.take(axis, np.arange(start, limit))
        alone = [a for a in block.axes if shape[a] == 1]
        if len(alone) < len(block.axes) or block.ids.size > 1:
            blocks += graph.joint(block)
        else:
            graph.freeze(block.ids, eqn, "is picked alone")
    out = State(shape, tuple(blocks), state.const, state.data)
    return Called([out], facts=before)


def split(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    (state,) = ins
    axis, sizes = eqn.params["axis"], eqn.params["sizes"]
    ends = np.cumsum(sizes)
    bounds = [(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]
    return [_part(graph, state, axis, start, end, eqn) for start, end in bounds]


def _part(graph: Graph, state: State, axis: int, start: int, end: int, eqn: Any) -> State:
    block = state.of(axis)
    shape = tuple(end - start if a == axis else n for a, n in enumerate(state.shape))
    if block is None:
        return dataclasses.replace(state, shape=shape)
    if end - start == 1 and len(block.axes) == 1:
        graph.freeze(block.take(axis, [start]).ids, eqn, "is picked alone")
        part: tuple[Block, ...] = ()
    else:
        part = graph.joint(block.take(axis, np.arange(start, end)))
    blocks = *without(state.blocks, [axis]), *part
    return dataclasses.replace(state, shape=shape, blocks=blocks)


def unstack(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    (state,) = ins
    axis = eqn.params["axis"]
    parts = [_part(graph, state, axis, i, i + 1, eqn) for i in range(state.shape[axis])]
    return [dropped(part, [axis]) for part in parts]


def stack(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    axis, rank = eqn.params["axis"], len(ins[0].shape)
    places = {a: a + (a >= axis) for a in range(rank)}
    blocks = [
        _alike(axes, ids, values).moved(places) for axes, ids, values in aligned(graph, eqn, ins)
    ]
    shape = tuple(eqn.outvars[0].aval.shape)
    return [State(shape, tuple(blocks), data=any(s.data for s in ins))]


def _alike(axes: tuple[int, ...], ids: np.ndarray, values: list[np.ndarray]) -> Block:
    """Labels of arrays that lie side by side: of their values what all have."""
    same = np.all([v == values[0] for v in values], axis=0)
    return Block(axes, ids, np.where(same, values[0], UNKNOWN))


def concatenate(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    axis = eqn.params["dimension"]
    ins = [graph.single(s, axis) for s in ins]
    parts = []
    for state in ins:
        block = state.of(axis)
        n = state.shape[axis]
        parts.append(block or Block((axis,), np.zeros(n, int), np.full(n, UNKNOWN)))
    along = _joined(axis, parts)
    narrow = [_narrowed(s, axis) for s in ins]
    blocks = [along] if along.ids.any() else []
    blocks += [_alike(*found) for found in aligned(graph, eqn, narrow)]
    return [State(tuple(eqn.outvars[0].aval.shape), tuple(blocks), data=any(s.data for s in ins))]


def _joined(axis: int, parts: Sequence[Block]) -> Block:
    """The labels of one axis, one part after another."""
    ids, value = ([getattr(part, name) for part in parts] for name in ("ids", "value"))
    return Block((axis,), np.concatenate(ids), np.concatenate(value))


def _narrowed(state: State, axis: int) -> State:
    shape = tuple(1 if a == axis else n for a, n in enumerate(state.shape))
    return dataclasses.replace(state, shape=shape, blocks=without(state.blocks, [axis]))


def pad(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called:
    """What is padded with a constant is free. The evaluation is told the new parts of an axis."""
    state, filler = ins
    blocks, parts = list(state.blocks), {}
    for axis, (low, high, inside) in enumerate(eqn.params["padding_config"]):
        if (low, high, inside) == (0, 0, 0):
            continue
        state = graph.single(dataclasses.replace(state, blocks=tuple(blocks)), axis)
        blocks = list(state.blocks)
        block = state.of(axis)
        if block is None:
            continue
        blocks.remove(block)
        if min(low, high) < 0 or inside:
            graph.freeze(block.ids, eqn, "is padded in between, or cropped")
            continue
        lower, upper = (graph.free(axis, n, filler.const) for n in (low, high))
        parts[axis] = (lower, upper)
        graph.segments += [lower.ids, upper.ids]
        blocks.append(_joined(axis, (lower, block, upper)))
    padded = {a for a, config in enumerate(eqn.params["padding_config"]) if any(config)}
    blocks = [b if padded <= set(b.axes) else _filled(b, filler.const) for b in blocks]
    shape = tuple(eqn.outvars[0].aval.shape)
    return Called([State(shape, tuple(blocks), data=state.data)], facts=parts)


def _filled(block: Block, filler: float) -> Block:
    """Some entries at each of its indices are the filler now."""
    return dataclasses.replace(block, value=np.where(block.value == filler, filler, UNKNOWN))


def rev(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    state = ins[0]
    blocks = []
    for block in state.blocks:
        for axis in set(block.axes) & set(eqn.params["dimensions"]):
            block = block.take(axis, np.arange(state.shape[axis])[::-1])
        blocks += graph.joint(block)
    return [dataclasses.replace(state, blocks=tuple(blocks))]


RULES = {
    "slice": slice_,
    "split": split,
    "unstack": unstack,
    "concatenate": concatenate,
    "stack": stack,
    "pad": pad,
    "rev": rev,
}
