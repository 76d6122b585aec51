"""Rules of convert.py: products, sums over axes, and windows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.export.graph import Graph
from kd_jax.export.tensors import Product, Tensor, Unsupported


def conv(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    """ONNX wants channels before places: results are held so, and what works entry by entry leaves
    them so."""
    params, out = eqn.params, eqn.outvars[0].aval
    numbers, pads = params["dimension_numbers"], params["padding"]
    plain = all(d == 1 for d in params["lhs_dilation"]) and params["batch_group_count"] == 1
    if not plain or min(p for pair in pads for p in pair) < 0:
        raise Unsupported("conv_general_dilated", "of spread inputs, or of a grouped batch")
    x, kernel = (graph.cast(x, np.float32) for x in ins)  # of integers, exact below 2**24
    x = graph.ordered(graph.expanded(x), numbers.lhs_spec)
    kernel = graph.ordered(graph.expanded(kernel), numbers.rhs_spec)
    attributes = conv_attributes(params, pads, kernel.held)
    order = tuple(numbers.out_spec)
    if kernel.array is None:
        names = [graph.name_of(x), graph.name_of(kernel)]
        made = graph.tensor("Conv", names, _float(out), order, **attributes)
    else:
        product = Product("Conv", graph.name_of(x), kernel.array, None, order[1], attributes)
        made = _pending(product, out, order)
    return graph.cast(made, out.dtype)


def conv_attributes(params: Any, pads: Sequence[Any], kernel: Sequence[Any]) -> dict[str, Any]:
    """Of ONNX's Conv, from those of JAX's; `pads`: (before, after) along each place; `kernel`: its
    shape [O, I, ...]."""
    return {
        "strides": list(params["window_strides"]),
        "pads": [low for low, _ in pads] + [high for _, high in pads],
        "dilations": list(params["rhs_dilation"]),
        "group": params["feature_group_count"],
        "kernel_shape": [int(d) for d in kernel[2:]],
    }


def dot(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    out = eqn.outvars[0].aval
    kind = np.float32 if np.issubdtype(out.dtype, np.floating) else np.int32
    x, y = (graph.expanded(graph.cast(x, kind)) for x in ins)
    free = [_rest(x, (*c, *b)) for x, c, b in ((x, left, left_batch), (y, right, right_batch))]
    one = len(left) == 1 and not left_batch
    if one and y.array is not None and len(y.shape) == 2:
        return _with_kernel(graph, x, free[0], left, y, (*free[1], *right), out, turned=False)
    if one and x.array is not None and len(x.shape) == 2:
        return _with_kernel(graph, y, free[1], right, x, (*free[0], *left), out, turned=True)
    x = graph.ordered(x, (*left_batch, *free[0], *left))
    y = graph.ordered(y, (*right_batch, *right, *free[1]))
    names, batch = [graph.name_of(x), graph.name_of(y)], [x.shape[a] for a in left_batch]
    if (len(free[0]), len(left), len(free[1])) != (1, 1, 1):
        names = _matrices(graph, x, y, batch, left, names)
        made = graph.node("MatMul", names)
        made = graph.node("Reshape", [made, graph.sizes(out.shape, infer=True)])
        order = tuple(range(len(out.shape)))
        return Tensor(tuple(out.shape), np.dtype(out.dtype), order, tuple(out.shape), name=made)
    return graph.cast(graph.tensor("MatMul", names, _like(out, kind)), out.dtype)


def _with_kernel(
    graph: Graph,
    x: Tensor,
    free: Sequence[int],
    summed: Sequence[int],
    kernel: Tensor,
    axes: tuple[int, ...],
    out: Any,
    turned: bool,
) -> Tensor:
    """Of a constant matrix, whose (kept, summed) axes are `axes`; `turned`: its own comes first in
    the result."""
    x = graph.ordered(x, (*free, *summed))
    rank = len(out.shape)
    order = (*range(1, rank), 0) if turned else tuple(range(rank))
    matrix = graph.ordered(kernel, axes[::-1]).array
    assert matrix is not None
    if not np.issubdtype(out.dtype, np.floating) or rank == 1:
        names = [graph.name_of(x), graph.constant(matrix)]
        return graph.cast(graph.tensor("MatMul", names, _like(out, matrix.dtype), order), out.dtype)
    return _pending(Product("MatMul", graph.name_of(x), matrix, None, order[-1], {}), out, order)


def _pending(product: Product, out: Any, order: tuple[int, ...]) -> Tensor:
    shape = tuple(out.shape)
    held = tuple(shape[a] for a in order)
    return Tensor(shape, product.kernel.dtype, order, held, product=product)


def _matrices(
    graph: Graph, x: Tensor, y: Tensor, batch: list[Any], summed: Sequence[int], names: list[str]
) -> list[str]:
    """Both as [batch..., rows, columns]."""
    inner = math.prod(x.held[len(x.held) - len(summed) :])
    rows = math.prod(x.held[len(batch) : len(x.held) - len(summed)])
    columns = math.prod(y.held[len(batch) + len(summed) :])
    shapes = ([*batch, rows, inner], [*batch, inner, columns])
    return [
        graph.node("Reshape", [name, graph.sizes(shape, infer=True)])
        for name, shape in zip(names, shapes, strict=True)
    ]


def _rest(x: Tensor, taken: Sequence[int]) -> tuple[int, ...]:
    return tuple(a for a in range(len(x.shape)) if a not in taken)


class _like:
    """The form of a result in another type."""

    def __init__(self, out: Any, dtype: Any) -> None:
        self.shape, self.dtype = out.shape, np.dtype(dtype)


def _float(out: Any) -> _like:
    return _like(out, np.float32)


def reduced(op: str):
    """Of a sum, a largest and the like over axes."""

    def rule(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
        axes, out = eqn.params["axes"], eqn.outvars[0].aval
        x = graph.expanded(ins[0])
        logical = x.dtype.kind == "b"
        x = graph.cast(x, np.int32) if logical else x
        places = [x.order.index(a) for a in axes]
        left = [a for a in x.order if a not in axes]
        order = [a - sum(b < a for b in axes) for a in left]
        names = [graph.name_of(x), graph.integers(places)]
        made = graph.tensor(op, names, _like(out, x.dtype), order, keepdims=0)
        return graph.cast(made, out.dtype)

    return rule


def argument(op: str):
    def rule(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
        (axis,), out, x = eqn.params["axes"], eqn.outvars[0].aval, graph.whole(ins[0])
        like = _like(out, np.int64)
        made = graph.tensor(op, [graph.name_of(x)], like, axis=axis, keepdims=0)
        return graph.cast(made, out.dtype)

    return rule


def cumulated(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    x, axis = graph.whole(ins[0]), np.asarray(eqn.params["axis"], np.int64)
    names = [graph.name_of(x), graph.constant(axis)]
    return graph.tensor("CumSum", names, eqn.outvars[0].aval, reverse=int(eqn.params["reverse"]))


def window(op: str):
    """Of the largest of a window, or, as its mean times its size, its sum."""

    def rule(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
        params, out, x = eqn.params, eqn.outvars[0].aval, graph.expanded(ins[0])
        size, strides, pads = (
            params[name] for name in ("window_dimensions", "window_strides", "padding")
        )
        still = [a for a, d in enumerate(size) if (d, strides[a], tuple(pads[a])) == (1, 1, (0, 0))]
        dilated = any(d != 1 for d in params["base_dilation"])
        if dilated or len(still) < 2 or (op != "MaxPool" and max(params["window_dilation"]) > 1):
            raise Unsupported(eqn.primitive.name, "of spread inputs, or along more axes")
        channels = x.order[1] if x.order[1] in still[1:] else still[-1]
        places = [a for a in range(len(size)) if a not in (still[0], channels)]
        order = (still[0], channels, *places)
        of = lambda values: [int(values[a]) for a in places]  # noqa: E731
        attributes: dict[str, Any] = {"kernel_shape": of(size), "strides": of(strides)}
        attributes["pads"] = of([p[0] for p in pads]) + of([p[1] for p in pads])
        if op == "MaxPool":
            attributes["dilations"] = of(params["window_dilation"])
        else:
            attributes["count_include_pad"] = 1
        made = graph.tensor(op, [graph.name_of(graph.ordered(x, order))], out, order, **attributes)
        if op == "MaxPool":
            return made
        count = graph.constant(np.asarray(math.prod(size), np.dtype(out.dtype)))
        return graph.tensor("Mul", [made.name, count], out, order)

    return rule


RULES = {
    "conv_general_dilated": conv,
    "dot_general": dot,
    "reduce_sum": reduced("ReduceSum"),
    "reduce_max": reduced("ReduceMax"),
    "reduce_min": reduced("ReduceMin"),
    "reduce_prod": reduced("ReduceProd"),
    "reduce_and": reduced("ReduceMin"),
    "reduce_or": reduced("ReduceMax"),
    "argmax": argument("ArgMax"),
    "argmin": argument("ArgMin"),
    "cumsum": cumulated,
    "reduce_window_max": window("MaxPool"),
    "reduce_window_sum": window("AveragePool"),
}
