"""Rules of convert.py: the same entries in another shape, some of them, or put together."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.export.graph import Graph
from kd_jax.export.rules_elementwise import common
from kd_jax.export.tensors import Dim, Tensor, Unsupported, constant


def reshape(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    out, x = eqn.outvars[0].aval, graph.whole(ins[0])
    return graph.tensor("Reshape", [graph.name_of(x), graph.sizes(out.shape, infer=True)], out)


def broadcast(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    """New axes are ones until something needs them written out."""
    shape, axes = tuple(eqn.outvars[0].aval.shape), eqn.params["broadcast_dimensions"]
    x = graph.ordered(ins[0], range(len(ins[0].shape)))
    held: list[Dim] = [1] * len(shape)
    for axis, size in zip(axes, x.held, strict=True):
        held[axis] = size
    order = tuple(range(len(shape)))
    if x.array is not None:
        return Tensor(shape, x.dtype, order, tuple(held), array=x.array.reshape(held))
    name, new = graph.name_of(x), [a for a in order if a not in axes]
    name = graph.node("Unsqueeze", [name, graph.integers(new)]) if new else name
    return Tensor(shape, x.dtype, order, tuple(held), name=name)


def transpose(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    """No entry moves: axes get other names."""
    (x,), turn = ins, list(eqn.params["permutation"])
    order, shape = tuple(turn.index(a) for a in x.order), tuple(x.shape[a] for a in turn)
    if x.array is not None:
        return dataclasses.replace(x, shape=shape, order=order)
    return Tensor(shape, x.dtype, order, x.held, name=graph.name_of(x))


def squeeze(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    return squeezed(graph, ins[0], eqn.params["dimensions"])


def squeezed(graph: Graph, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Without these axes of size 1."""
    left = [a for a in range(len(x.shape)) if a not in axes]
    order = tuple(left.index(a) for a in x.order if a in left)
    held = tuple(d for a, d in zip(x.order, x.held, strict=True) if a in left)
    shape = tuple(x.shape[a] for a in left)
    if x.array is not None:
        return Tensor(shape, x.dtype, order, held, array=x.array.reshape(held))
    places = [x.order.index(a) for a in axes]
    name = graph.node("Squeeze", [graph.name_of(x), graph.integers(places)])
    return Tensor(shape, x.dtype, order, held, name=name)


def concatenate(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    order = common(ins)
    names = [graph.name_of(graph.expanded(graph.ordered(x, order))) for x in ins]
    axis = order.index(eqn.params["dimension"])
    return graph.tensor("Concat", names, eqn.outvars[0].aval, order, axis=axis)


def cut(
    graph: Graph,
    x: Tensor,
    starts: Sequence[int],
    limits: Sequence[Dim],
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The entries from `starts` to `limits`."""
    x, strides = graph.expanded(x), strides or [1] * len(starts)
    given = zip(range(len(starts)), starts, limits, strides, x.shape, strict=True)
    some = [(a, s, e, t) for a, s, e, t, d in given if (s, t) != (0, 1) or (e is not d and e != d)]
    if not some:
        return x
    if not all(isinstance(v, int) for one in some for v in one):
        raise Unsupported("slice", "of part of the batch")
    axes, *bounds = zip(*some, strict=True)
    size = list(x.shape)
    for axis, start, end, step in some:
        size[axis] = -(-(end - start) // step)
    first, last, step = (graph.integers(values) for values in bounds)
    places = graph.integers([x.order.index(a) for a in axes])
    name = graph.node("Slice", [graph.name_of(x), first, last, places, step])
    held = tuple(size[a] for a in x.order)
    return Tensor(tuple(size), x.dtype, x.order, held, name=name)


def sliced(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    params = eqn.params
    return cut(graph, ins[0], params["start_indices"], params["limit_indices"], params["strides"])


def pad(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    (x, value), config = ins, eqn.params["padding_config"]
    if any(interior for _, _, interior in config):
        raise Unsupported("pad", "between entries")
    if any(low < 0 or high < 0 for low, high, _ in config):
        size = lambda a: x.shape[a] + min(config[a][1], 0)  # noqa: E731
        less = [max(-low, 0) for low, _, _ in config]
        x = cut(graph, x, less, [size(a) for a in range(len(config))])
    x = graph.expanded(x)
    pads = [max(config[a][i], 0) for i in (0, 1) for a in x.order]
    names = [graph.name_of(x), graph.integers(pads), graph.name_of(graph.cast(value, x.dtype))]
    return graph.tensor("Pad", names, eqn.outvars[0].aval, x.order)


def split(graph: Graph, eqn: Any, ins: list[Tensor]) -> list[Tensor]:
    return _parts(graph, ins[0], eqn.params["axis"], [int(s) for s in eqn.params["sizes"]])


def unstack(graph: Graph, eqn: Any, ins: list[Tensor]) -> list[Tensor]:
    axis = eqn.params["axis"]
    parts = _parts(graph, ins[0], axis, [1] * ins[0].shape[axis])
    return [squeezed(graph, part, [axis]) for part in parts]


def stack(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    axis = graph.integers([eqn.params["axis"]])
    names = [graph.node("Unsqueeze", [graph.name_of(graph.whole(x)), axis]) for x in ins]
    return graph.tensor("Concat", names, eqn.outvars[0].aval, axis=eqn.params["axis"])


def _parts(graph: Graph, x: Tensor, axis: int, sizes: list[int]) -> list[Tensor]:
    x = graph.expanded(x)
    if len(sizes) == 1:
        return [x]
    given = [graph.name_of(x), graph.integers(sizes)]
    names = graph.node("Split", given, len(sizes), axis=x.order.index(axis))
    found = []
    for name, size in zip(names, sizes, strict=True):
        shape = tuple(size if a == axis else d for a, d in enumerate(x.shape))
        found.append(Tensor(shape, x.dtype, x.order, tuple(shape[a] for a in x.order), name=name))
    return found


def reverse(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    axes, x = eqn.params["dimensions"], graph.expanded(ins[0])
    last, far = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
    places = [x.order.index(a) for a in axes]
    bounds = [graph.integers(values) for values in (last, far, places, last)]
    return graph.tensor("Slice", [graph.name_of(x), *bounds], eqn.outvars[0].aval, x.order)


def iota(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    """0, 1, ... along an axis; alike along all others."""
    del ins
    out, axis = eqn.outvars[0].aval, eqn.params["dimension"]
    shape, size = tuple(out.shape), out.shape[axis]
    held = tuple(size if a == axis else 1 for a in range(len(shape)))
    if isinstance(size, int):
        return constant(np.arange(size, dtype=out.dtype).reshape(held), shape)
    ends = [graph.constant(np.asarray(n, np.int64)) for n in (0, 1)]
    count = graph.node("Squeeze", [graph.sizes([size]), graph.integers([0])])
    name = graph.node("Range", [ends[0], count, ends[1]])
    others = [a for a in range(len(shape)) if a != axis]
    name = graph.node("Unsqueeze", [name, graph.integers(others)]) if others else name
    order = tuple(range(len(shape)))
    return graph.cast(Tensor(shape, np.dtype(np.int64), order, held, name=name), out.dtype)


RULES = {
    "reshape": reshape,
    "broadcast_in_dim": broadcast,
    "transpose": transpose,
    "squeeze": squeeze,
    "concatenate": concatenate,
    "slice": sliced,
    "pad": pad,
    "split": split,
    "stack": stack,
    "unstack": unstack,
    "rev": reverse,
    "iota": iota,
}
