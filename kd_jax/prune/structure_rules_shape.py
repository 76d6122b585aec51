"""Rules of structure.py: operations that move, merge and split axes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.prune.labels import Block, Called, State
from kd_jax.prune.structure import Graph, not_understood


def transpose(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    (state,) = ins
    order = eqn.params["permutation"]
    places = {old: new for new, old in enumerate(order)}
    blocks = tuple(b.moved(places) for b in state.blocks)
    shape = tuple(state.shape[a] for a in order)
    return [dataclasses.replace(state, shape=shape, blocks=blocks)]


def squeeze(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    return [dropped(ins[0], eqn.params["dimensions"])]


def dropped(state: State, axes: Sequence[int]) -> State:
    """Without axes that no block labels."""
    left = [a for a in range(len(state.shape)) if a not in axes]
    places = {old: new for new, old in enumerate(left)}
    blocks = tuple(b.moved(places) for b in state.blocks)
    shape = tuple(state.shape[a] for a in left)
    return dataclasses.replace(state, shape=shape, blocks=blocks)


def broadcast_in_dim(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """New axes are free."""
    state, *_ = ins
    shape, dims = tuple(eqn.params["shape"]), eqn.params["broadcast_dimensions"]
    blocks = [b.moved(dict(enumerate(dims))) for b in state.blocks]
    kept = {d for a, d in enumerate(dims) if state.shape[a] == shape[d]}
    new = [(a, n) for a, n in enumerate(shape) if n > 1 and a not in kept]
    blocks += [graph.free(a, n, state.const) for a, n in new]
    return [State(shape, tuple(blocks), state.const, state.data)]


def reshape(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called | list[State]:
    """Merged axes repeat the labels; an axis that is split keeps labels on its parts together."""
    if eqn.params.get("dimensions") is not None:
        return not_understood(graph, eqn, ins)
    state, shape = graph.simplified(ins[0]), tuple(eqn.params["new_sizes"])
    pairs = runs(state.shape, shape)
    for block in state.blocks:
        if len(block.axes) > 1 and not any(set(block.axes) <= set(old) for old, _ in pairs):
            graph.collapse(block, _carrier(graph, state, block, [old for old, _ in pairs]))
    state = graph.simplified(state)
    blocks: list[Block] = []
    for old, new in pairs:
        inside = [b for b in state.blocks if set(b.axes) & set(old)]
        block = _one_of(graph, eqn, inside, state.data)
        if block is not None:
            wide = [_spread(x, block.axes, old, state.shape) for x in (block.ids, block.value)]
            sizes = [shape[a] for a in new]
            blocks += graph.joint(Block(tuple(new), *(x.reshape(sizes) for x in wide)))
    return [State(shape, tuple(blocks), state.const, state.data)]


def runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The least groups of axes, sizes of 1 left out, that hold the same entries."""
    left = [(a, n) for a, n in enumerate(old) if n != 1]
    right = [(a, n) for a, n in enumerate(new) if n != 1]
    found = []
    while left and right:
        ins, outs = [left.pop(0)], [right.pop(0)]
        size = lambda pairs: math.prod(n for _, n in pairs)  # noqa: E731
        while size(ins) != size(outs):
            smaller = (ins, left) if size(ins) < size(outs) else (outs, right)
            smaller[0].append(smaller[1].pop(0))
        found.append(([a for a, _ in ins], [a for a, _ in outs]))
    return found


def _carrier(graph: Graph, state: State, block: Block, merged: Sequence[list[int]]) -> int:
    """The first axis of a block that isn't merged with another of fixed size: of the channels that
    become places (pixel shuffle) those that stay channels."""

    def alone(axis: int) -> bool:
        (run,) = (run for run in merged if axis in run)
        others = [state.of(a) for a in run if a not in block.axes]
        return not any(other is None or graph.units.bound(other.ids) for other in others)

    return next((a for a in block.axes if alone(a)), block.axes[0])


def _one_of(graph: Graph, eqn: Any, blocks: list[Block], data: bool) -> Block | None:
    """The block that a merged axis keeps, of those with parameters: the first (heads, not what is
    in them); of a kernel the longest (channels, not its window). The others are kept whole."""
    if len(blocks) < 2:
        return blocks[0] if blocks else None
    bound = [b for b in blocks if graph.units.bound(b.ids)] or blocks
    chosen = bound[0] if data else max(bound, key=lambda b: b.ids.size)
    for block in blocks:
        if block is not chosen:
            graph.freeze(block.ids, eqn, "is merged with another axis that is cut")
    return chosen


def _spread(array: np.ndarray, axes: Sequence[int], run: list[int], shape: Any) -> np.ndarray:
    """The array of a block repeated over all axes of a run."""
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    array = array.transpose(order)
    index = tuple(slice(None) if a in axes else None for a in run)
    return np.broadcast_to(array[index], [shape[a] for a in run])


RULES = {
    "transpose": transpose,
    "squeeze": squeeze,
    "broadcast_in_dim": broadcast_in_dim,
    "reshape": reshape,
}
