"""Rules of structure.py: operations that look entries up by their place."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.prune.labels import Block, Called, State, without
from kd_jax.prune.structure import Graph, fixed
from kd_jax.prune.structure_rules_elementwise import aligned
from kd_jax.prune.structure_rules_parts import picked


def gather(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """Axes that are taken whole keep their labels; those that are looked up in are fixed."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    state = graph.single(ins[0], *range(len(ins[0].shape)))
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    looked_up = gone | {a for a, n in enumerate(sizes) if n != state.shape[a]}
    for axis in looked_up:
        graph.freeze_axis(state, axis, eqn, "is looked up in")
    for block in ins[1].blocks:
        graph.freeze(block.ids, eqn, "tells where to look")
    kept = [a for a in range(len(state.shape)) if a not in gone]
    places = dict(zip(kept, numbers.offset_dims, strict=True))
    blocks = [b.zeros().moved(places) for b in without(state.blocks, looked_up)]
    shape = tuple(eqn.outvars[0].aval.shape)
    return [State(shape, tuple(blocks), data=any(s.data for s in ins))]


def dynamic_slice(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called | list[State]:
    """Like a slice where the place is known; else axes that it doesn't take whole are fixed."""
    sizes = eqn.params["slice_sizes"]
    state, starts = ins[0], [s.const for s in ins[1:]]
    part = [a for a, n in enumerate(sizes) if n != state.shape[a]]
    if not any(math.isnan(starts[a]) for a in part):
        low = [min(max(int(starts[a]), 0), state.shape[a] - sizes[a]) for a in part]
        bounds = [(0, n) for n in state.shape]
        for a, start in zip(part, low, strict=True):
            bounds[a] = (start, start + sizes[a])
        return picked(graph, state, bounds, eqn)
    state = graph.single(state, *part)
    for axis in part:
        graph.freeze_axis(state, axis, eqn, "is cut out at a place that isn't known")
    out = fixed(eqn)[0]
    blocks = without(state.blocks, part)
    return [dataclasses.replace(out, blocks=blocks, data=any(s.data for s in ins))]


def dynamic_update_slice(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """Axes that are not replaced whole are fixed."""
    whole, part = ins[:2]
    axes = [a for a, n in enumerate(part.shape) if n != whole.shape[a]]
    pair = [graph.single(s, *axes) for s in (whole, part)]
    for state in pair:
        for axis in axes:
            graph.freeze_axis(state, axis, eqn, "is replaced in part")
    apart = [dataclasses.replace(s, blocks=without(s.blocks, axes)) for s in pair]
    apart = [dataclasses.replace(s, shape=_ones(s.shape, axes)) for s in apart]
    blocks = tuple(
        Block(x, ids, np.where(one == other, one, np.nan))
        for x, ids, (one, other) in aligned(graph, eqn, apart)
    )
    return [State(whole.shape, blocks, data=any(s.data for s in ins))]


def _ones(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


RULES = {
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
}
