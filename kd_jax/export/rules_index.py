"""Rules of convert.py: entries picked by numbers, put in by numbers, and sorted out."""

from typing import Any

import numpy as np

from kd_jax.export.graph import Graph
from kd_jax.export.rules_shape import cut, squeezed
from kd_jax.export.tensors import Tensor, Unsupported


def gather(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    """A window at one place that is known, or whole rows along one axis."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    x, index = ins
    if getattr(numbers, "operand_batching_dims", ()):
        raise Unsupported("gather", "with an index for each example")
    if index.array is not None and len(index.shape) == 1:
        starts = [0] * len(x.shape)
        for axis, start in zip(numbers.start_index_map, index.entries, strict=True):
            starts[axis] = int(np.clip(start, 0, x.shape[axis] - sizes[axis]))
        limits = [s + n if s else n for s, n in zip(starts, sizes, strict=True)]
        return squeezed(graph, cut(graph, x, starts, limits), numbers.collapsed_slice_dims)
    return _rows(graph, eqn, x, index)


def _rows(graph: Graph, eqn: Any, x: Tensor, index: Tensor) -> Tensor:
    numbers, out = eqn.params["dimension_numbers"], eqn.outvars[0].aval
    along = tuple(numbers.start_index_map)
    rest = [n for a, n in enumerate(eqn.params["slice_sizes"]) if a not in along]
    others = [n for a, n in enumerate(x.shape) if a not in along]
    if len(along) != 1 or tuple(numbers.collapsed_slice_dims) != along or rest != others:
        raise Unsupported("gather", "along several axes at once")
    x, (axis,), rank = graph.whole(x), along, len(index.shape) - 1
    index = squeezed(graph, graph.whole(index), [rank])
    name = graph.node("Gather", [graph.name_of(x), graph.name_of(index)], axis=axis)
    # ONNX puts the index's axes in the place of the one that is picked along.
    offset, free = list(numbers.offset_dims), iter(range(len(out.shape)))
    own = [a for a in free if a not in offset]
    order = (*offset[:axis], *own, *offset[axis:])
    held = tuple(out.shape[a] for a in order)
    return Tensor(tuple(out.shape), np.dtype(out.dtype), order, held, name=name)


def scatter(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    """Single entries that take the place of others."""
    numbers = eqn.params["dimension_numbers"]
    axes = tuple(range(len(ins[0].shape)))
    single = not numbers.update_window_dims and tuple(numbers.inserted_window_dims) == axes
    if not single or tuple(numbers.scatter_dims_to_operand_dims) != axes:
        raise Unsupported(eqn.primitive.name, "of more than single entries")
    x, index, new = (graph.whole(x) for x in ins)
    names = [graph.name_of(t) for t in (x, graph.cast(index, np.int64), new)]
    return graph.tensor("ScatterND", names, eqn.outvars[0].aval)


def top(graph: Graph, eqn: Any, ins: list[Tensor]) -> list[Tensor]:
    x, (values, places) = graph.whole(ins[0]), eqn.outvars
    axis = eqn.params.get("axis", len(x.shape) - 1)
    given = [graph.name_of(x), graph.integers([eqn.params["k"]])]
    names = graph.node("TopK", given, 2, axis=axis)
    shape = tuple(values.aval.shape)
    made = (x.dtype, tuple(range(len(shape))), shape)
    index = Tensor(shape, np.dtype(np.int64), *made[1:], name=names[1])
    return [Tensor(shape, *made, name=names[0]), graph.cast(index, places.aval.dtype)]


RULES = {"gather": gather, "scatter": scatter, "top_k": top}
