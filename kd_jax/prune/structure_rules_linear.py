"""Rules of structure.py: operations that sum over axes, or compare along them."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kd_jax.prune.labels import Block, Called, State, without
from kd_jax.prune.structure import Graph, not_understood
from kd_jax.prune.structure_rules_elementwise import aligned
from kd_jax.prune.structure_rules_shape import dropped


def contracted(
    graph: Graph, eqn: Any, left: State, right: State, pairs: Iterable[tuple[int, int]]
) -> None:
    """Unites axes that are multiplied and summed over, where the products are zero when cut."""
    if left.data != right.data:
        graph.kernels += [b.ids for b in (right if left.data else left).blocks]
    for a, b in pairs:
        one, other = left.of(a), right.of(b)
        if left.data != right.data:
            graph.contracted += [b.ids for b in (other if left.data else one,) if b is not None]
        if one is None and other is None:
            continue
        if one is None or other is None:
            graph.freeze((one or other).ids, eqn, "is summed with an axis of fixed size")  # type: ignore[union-attr]
            continue
        graph.units.unite(one.ids, other.ids)
        zero = (one.value == 0) | (other.value == 0)
        graph.freeze(one.ids[~zero], eqn, "is summed over, and not zero when cut")


def dot_general(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    (contract, batch) = eqn.params["dimension_numbers"]
    left = graph.single(ins[0], *contract[0], *batch[0])
    right = graph.single(ins[1], *contract[1], *batch[1])
    contracted(graph, eqn, left, right, zip(*contract, strict=True))
    shape = tuple(eqn.outvars[0].aval.shape)
    shared = [_only(s, dims) for s, dims in zip((left, right), batch, strict=True)]
    blocks = [
        Block(axes, ids, np.where((one == 0) | (other == 0), 0.0, np.nan))
        for axes, ids, (one, other) in aligned(graph, eqn, shared)
    ]
    place = len(batch[0])
    for state, summed, beside in zip((left, right), contract, batch, strict=True):
        rest = [a for a in range(len(state.shape)) if a not in (*summed, *beside)]
        places = {a: place + i for i, a in enumerate(rest)}
        blocks += [b.zeros().moved(places) for b in without(state.blocks, [*summed, *beside])]
        place += len(rest)
    return [State(shape, tuple(blocks), data=left.data or right.data)]


def _only(state: State, axes: Sequence[int]) -> State:
    """Nothing but these axes, in this order."""
    places = {a: i for i, a in enumerate(axes)}
    blocks = tuple(b.moved(places) for b in state.blocks if b.axes[0] in places)
    return dataclasses.replace(state, shape=tuple(state.shape[a] for a in axes), blocks=blocks)


def conv(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called | list[State]:
    params = eqn.params
    if params["batch_group_count"] != 1:
        return not_understood(graph, eqn, ins)
    (batch, feature, *places), (out, into, *window), (out_batch, out_feature, *_) = params[
        "dimension_numbers"
    ]
    left = graph.single(ins[0], *range(len(ins[0].shape)))
    right = graph.single(ins[1], *range(len(ins[1].shape)))
    for state, axes in ((left, places), (right, window)):
        for axis in axes:
            graph.freeze_axis(state, axis, eqn, "slid along" if state is left else "")
    groups = params["feature_group_count"]
    contracted(graph, eqn, left, right, [(feature, into)] * (groups == 1))
    if groups > 1:
        _grouped(graph, eqn, (left, feature), (right, into, out), groups)
    blocks = [b.zeros().moved({batch: out_batch}) for b in left.blocks if b.axes == (batch,)]
    blocks += [b.zeros().moved({out: out_feature}) for b in right.blocks if b.axes == (out,)]
    shape = tuple(eqn.outvars[0].aval.shape)
    return [State(shape, tuple(blocks), data=left.data or right.data)]


def _grouped(
    graph: Graph, eqn: Any, inputs: tuple[State, int], kernel: tuple[State, int, int], groups: int
) -> None:
    """Whole groups are cut where they are many and narrow (depthwise convolutions); else the same
    channels of every group."""
    (left, feature), (right, into, out) = inputs, kernel
    labels = [left.of(feature), right.of(into), right.of(out)]
    x, k, y = ((b.ids, b.value == 0) if b else None for b in labels)
    width = left.shape[feature] // groups
    whole = groups >= width
    if x is None or y is None or (k is None and width > 1 and not whole):
        for block in labels:
            if block is not None:
                graph.freeze(block.ids, eqn, "is summed with an axis of fixed size")
        return
    rows, results = x[0].reshape(groups, -1), y[0].reshape(groups, -1)
    if whole:
        graph.units.unite(np.broadcast_to(rows[:, :1], rows.shape), rows)
        graph.units.unite(np.broadcast_to(rows[:, :1], results.shape), results)
        if k is not None:
            graph.freeze(k[0], eqn, "is inside a group that is cut as a whole")
        return
    graph.units.unite(np.broadcast_to(rows[:1], rows.shape), rows)
    graph.units.unite(np.broadcast_to(results[:1], results.shape), results)
    if k is not None:
        graph.units.unite(rows[0], k[0])
        zero = k[1] | x[1].reshape(groups, -1).all(axis=0)
        graph.freeze(k[0][~zero], eqn, "is summed over, and not zero when cut")
        graph.contracted.append(k[0])


def reduce_(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """A sum needs zeros along its axes; the largest, the least and products need all entries."""
    name, axes = eqn.primitive.name, eqn.params["axes"]
    state = graph.simplified(ins[0])
    partly = [a for b in state.blocks for a in b.axes if a in axes and not set(b.axes) <= set(axes)]
    state = graph.single(state, *partly)
    for block in state.blocks:
        if set(block.axes) & set(axes):
            off = block.value != 0 if name == "reduce_sum" else np.ones(block.ids.shape, bool)
            graph.freeze(block.ids[off], eqn, f"is reduced by {name}, and not zero when cut")
    return [dropped(_after(name, state, axes), axes)] * len(eqn.outvars)


def _after(name: str, state: State, axes: Sequence[int]) -> State:
    blocks = without(state.blocks, axes)
    keeps = name in ("reduce_max", "reduce_min")
    blocks = tuple(b if keeps else b.zeros() for b in blocks)
    if not name.startswith("reduce_") or name in ("reduce_and", "reduce_or", "reduce_xor"):
        blocks = tuple(dataclasses.replace(b, value=np.full(b.ids.shape, np.nan)) for b in blocks)
    return dataclasses.replace(state, blocks=blocks, const=float("nan"))


def reduce_window(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called | list[State]:
    """Pooling: axes that it slides along are fixed; zeros stay zeros."""
    params = eqn.params
    if len(ins) != 1 or "window_dimensions" not in params:
        return not_understood(graph, eqn, ins)
    shape = tuple(eqn.outvars[0].aval.shape)
    names = ("window_strides", "base_dilation", "window_dilation")
    dims = zip(
        params["window_dimensions"],
        params["padding"],
        *(params.get(name) or (1,) * len(shape) for name in names),
        strict=True,
    )
    slid = [a for a, d in enumerate(dims) if d != (1, (0, 0), 1, 1, 1)]
    return _along(graph, eqn, ins, slid, shape)


def along_axis(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """Running sums and sorting: the axis is fixed."""
    names = ("axis", "dimension")
    axis = next(eqn.params[name] for name in names if name in eqn.params)
    return _along(graph, eqn, ins, [axis], tuple(eqn.outvars[0].aval.shape))


def _along(
    graph: Graph, eqn: Any, ins: Sequence[State], axes: Sequence[int], shape: tuple[int, ...]
) -> list[State]:
    ins = [graph.single(s, *axes) for s in ins]
    for state in ins:
        for axis in axes:
            graph.freeze_axis(state, axis, eqn, f"is an axis that {eqn.primitive.name} works along")
    apart = [dataclasses.replace(s, blocks=without(s.blocks, axes)) for s in ins]
    keeps = len(ins) == 1 and eqn.primitive.name in KEEP_ZEROS
    value = lambda v: np.where((v == 0) & keeps, 0.0, np.nan)  # noqa: E731
    blocks = tuple(Block(x, ids, value(v[0])) for x, ids, v in aligned(graph, eqn, apart))
    return [State(shape, blocks, data=any(s.data for s in ins))] * len(eqn.outvars)


def top_k(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    last = len(ins[0].shape) - 1
    return _along(graph, eqn, ins, [eqn.params.get("axis", last)], eqn.outvars[0].aval.shape)


REDUCTIONS = ("sum", "max", "min", "prod", "and", "or", "xor")
POOLS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min")
ALONG = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort")
KEEP_ZEROS = {*POOLS, *ALONG} - {"cumlogsumexp"}

RULES = {
    **dict.fromkeys([f"reduce_{name}" for name in REDUCTIONS], reduce_),
    **dict.fromkeys(["argmax", "argmin"], reduce_),
    **dict.fromkeys(POOLS, reduce_window),
    **dict.fromkeys(ALONG, along_axis),
    "dot_general": dot_general,
    "conv_general_dilated": conv,
    "top_k": top_k,
}
