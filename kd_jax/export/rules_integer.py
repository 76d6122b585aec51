"""The rule of convert.py for products of integers: in ONNX, the product of an input and a kernel
that are quantised and turned to numbers again, which runtimes compute in integers."""

import dataclasses
from typing import Any

import numpy as np

from kd_jax.export.graph import Graph
from kd_jax.export.rules_linear import conv_attributes
from kd_jax.export.tensors import Integers, Product, Tensor, Unsupported
from kd_jax.products import inner
from kd_jax.quantize.integer import PRODUCT

LOWEST, HIGHEST = -128, 127  # of int8


def product(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    """See kd_jax.quantize.integer for what it computes."""
    if eqn.params["name"] != PRODUCT:
        raise Unsupported(eqn.params["name"])
    x, kernel, *steps = ins
    if kernel.array is None or any(c.array is None for c in steps):
        raise Unsupported(PRODUCT, "of weights that are no constants")
    scale, zero, low, high, of_weights, *_ = (c.plain for c in steps)
    if scale.size != 1:
        raise Unsupported(PRODUCT, "of inputs that have more than one scale")
    scale, zero, low, high = (v.reshape(()) for v in (scale, zero, low, high))
    x = _within(graph, x, scale * (low - zero), scale * (high - zero), (low, high))
    write = {"dot_general": _dot, "conv_general_dilated": _conv}
    body = inner(eqn)[0].eqns
    own = next(e for e in body if e.primitive.name in write)
    pads = next((e.params["padding_config"] for e in body if e.primitive.name == "pad"), None)
    made, order = write[own.primitive.name](graph, own, x, kernel, pads)
    channels = made.kernel.shape[1 if made.op == "MatMul" else 0]
    factor = np.broadcast_to((scale * of_weights).reshape(-1), channels).astype(np.float32)
    whole = Integers(scale.astype(np.float32), zero.astype(np.int8), factor)
    form = dataclasses.replace(made, integers=whole)
    shape = tuple(eqn.outvars[0].aval.shape)
    held = tuple(shape[a] for a in order)
    return Tensor(shape, np.dtype(np.float32), order, held, product=form)


def _within(graph: Graph, x: Tensor, least: Any, most: Any, codes: tuple[Any, Any]) -> Tensor:
    """Where a grid has fewer integers than int8, what lies beyond is brought to its ends before."""
    if tuple(int(c) for c in codes) == (LOWEST, HIGHEST):
        return x
    ends = [graph.constant(np.asarray(v, np.float32)) for v in (least, most)]
    name = graph.node("Clip", [graph.name_of(x), *ends])
    return Tensor(x.shape, x.dtype, x.order, x.held, name=name)


def _dot(graph: Graph, eqn: Any, x: Tensor, kernel: Tensor, pads: Any) -> Any:
    del pads
    (left, right), _ = eqn.params["dimension_numbers"]
    if len(left) != 1 or len(kernel.shape) != 2:
        raise Unsupported(PRODUCT, "that sums over more than one axis, or has more than one left")
    free = [a for a in range(len(x.shape)) if a not in left]
    x = graph.ordered(graph.expanded(x), (*free, *left))
    matrix = graph.ordered(graph.expanded(kernel), (*right, 1 - right[0])).array
    assert matrix is not None
    rank = len(eqn.outvars[0].aval.shape)
    made = Product("MatMul", graph.name_of(x), matrix, None, rank - 1, {})
    return made, tuple(range(rank))


def _conv(graph: Graph, eqn: Any, x: Tensor, kernel: Tensor, pads: Any) -> Any:
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    places = numbers.lhs_spec[2:]
    around = [pads[a][:2] if pads else (0, 0) for a in places]
    if min(p for pair in around for p in pair) < 0:
        raise Unsupported(PRODUCT, "of inputs that lose their borders")
    x = graph.ordered(graph.expanded(x), numbers.lhs_spec)
    whole = graph.ordered(graph.expanded(kernel), numbers.rhs_spec).array
    assert whole is not None
    attributes = conv_attributes(params, around, whole.shape)
    order = tuple(numbers.out_spec)
    return Product("Conv", graph.name_of(x), whole, None, order[1], attributes), order


RULES = {"jit": product, "pjit": product}
