"""Rules of convert.py: operations that work entry by entry."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kd_jax.export.graph import Graph
from kd_jax.export.tensors import Dim, Tensor, Unsupported
from kd_jax.products import bind

Names = list[str]
Make = Callable[[Graph, Names, Any], str]


def common(ins: Sequence[Tensor]) -> tuple[int, ...]:
    """The order that most of what is no constant is held in already."""
    rank = max(len(x.shape) for x in ins)
    moving = [x for x in ins if x.array is None and len(x.shape) == rank]
    large = lambda x: sum(d != 1 for d in x.held)  # noqa: E731
    return max(moving, key=large).order if moving else tuple(range(rank))


def met(shapes: Sequence[Sequence[Dim]]) -> tuple[Dim, ...]:
    """What shapes that differ in ones alone broadcast to."""
    return tuple(next((d for d in dims if d != 1), 1) for dims in zip(*shapes, strict=True))


def elementwise(make: Make) -> Callable[[Graph, Any, list[Tensor]], Tensor]:
    """The rule of an operation; `make` writes its nodes and says their result's name."""

    def rule(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
        out = eqn.outvars[0].aval
        if all(x.array is not None for x in ins):
            arrays = np.broadcast_arrays(*(x.plain for x in ins))
            array = np.asarray(bind(eqn, arrays)[0])
            return Tensor(out.shape, array.dtype, tuple(range(array.ndim)), array.shape, array)
        folded = _folded(graph, eqn, ins)
        if folded is not None:
            return folded
        order = common(ins)
        ins = [graph.ordered(x, order) if x.shape else x for x in ins]
        held = met([x.held for x in ins if x.shape]) if order else ()
        name = make(graph, [graph.name_of(x) for x in ins], eqn)
        return Tensor(tuple(out.shape), np.dtype(out.dtype), order, held, name=name)

    return rule


def _folded(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor | None:
    """A product that nothing else reads, with a factor or a summand of each channel in it."""
    op = eqn.primitive.name
    if op not in ("add", "sub", "mul", "div"):
        return None
    for place in (0, 1) if op in ("add", "mul") else (0,):
        x, c = ins[place], ins[1 - place]
        product = x.product
        if product is None or x.name or c.array is None or graph.uses[eqn.invars[place]] != 1:
            continue
        others = [d for a, d in enumerate(c.plain.shape) if a != product.axis]
        if all(d == 1 for d in others):
            channels = product.kernel.shape[1 if product.op == "MatMul" else 0]
            v = np.broadcast_to(c.plain.reshape(-1), channels)
            made = {
                "add": product.shifted,
                "sub": lambda v, shifted=product.shifted: shifted(-v),
                "mul": product.scaled,
                "div": lambda v, scaled=product.scaled: scaled(1 / v),
            }[op](v)
            return Tensor(x.shape, x.dtype, x.order, x.held, product=made)
    return None


def _op(op: str, **attributes: Any) -> Make:
    return lambda graph, names, eqn: graph.node(op, names, **attributes)


def _negated(op: str) -> Make:
    return lambda graph, names, eqn: graph.node("Not", [graph.node(op, names)])


def _kind(eqn: Any) -> np.dtype:
    return np.dtype(eqn.invars[0].aval.dtype)


def _number(graph: Graph, eqn: Any, value: float) -> str:
    return graph.constant(np.asarray(value, _kind(eqn)))


def _logical(of_bools: str, of_integers: str) -> Make:
    def make(graph: Graph, names: Names, eqn: Any) -> str:
        return graph.node(of_bools if _kind(eqn).kind == "b" else of_integers, names)

    return make


def _max(graph: Graph, names: Names, eqn: Any) -> str:
    zero = _number(graph, eqn, 0)
    if zero in names and np.issubdtype(_kind(eqn), np.floating):
        return graph.node("Relu", [n for n in names if n != zero] or [zero])
    return graph.node("Max", names)


def _round(graph: Graph, names: Names, eqn: Any) -> str:
    if int(eqn.params["rounding_method"]) == 1:  # to the even one
        return graph.node("Round", names)
    size = graph.node("Abs", names)
    up = graph.node("Floor", [graph.node("Add", [size, _number(graph, eqn, 0.5)])])
    return graph.node("Mul", [graph.node("Sign", names), up])


def _clamp(graph: Graph, names: Names, eqn: Any) -> str:
    low, x, high = names
    return graph.node("Min", [graph.node("Max", [x, low]), high])


def _select(graph: Graph, names: Names, eqn: Any) -> str:
    which, *cases = names
    if len(cases) != 2 or _kind(eqn).kind != "b":
        raise Unsupported("select_n", "among more than two")
    return graph.node("Where", [which, cases[1], cases[0]])


def _power(graph: Graph, names: Names, eqn: Any) -> str:
    return graph.node("Pow", [*names, _number(graph, eqn, eqn.params["y"])])


def _finite(graph: Graph, names: Names, eqn: Any) -> str:
    strange = [graph.node(op, names) for op in ("IsInf", "IsNaN")]
    return graph.node("Not", [graph.node("Or", strange)])


def _erfc(graph: Graph, names: Names, eqn: Any) -> str:
    return graph.node("Sub", [_number(graph, eqn, 1), graph.node("Erf", names)])


def _log1p(graph: Graph, names: Names, eqn: Any) -> str:
    return graph.node("Log", [graph.node("Add", [*names, _number(graph, eqn, 1)])])


def _expm1(graph: Graph, names: Names, eqn: Any) -> str:
    return graph.node("Sub", [graph.node("Exp", names), _number(graph, eqn, 1)])


def _rsqrt(graph: Graph, names: Names, eqn: Any) -> str:
    return graph.node("Reciprocal", [graph.node("Sqrt", names)])


def _square(graph: Graph, names: Names, eqn: Any) -> str:
    return graph.node("Mul", [*names, *names])


def convert(graph: Graph, eqn: Any, ins: list[Tensor]) -> Tensor:
    return graph.cast(ins[0], eqn.params["new_dtype"])


SIMPLE = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "min": "Min", "neg": "Neg"},
    **{"exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "sqrt": "Sqrt"},
    **{"abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "erf": "Erf"},
    **{"sin": "Sin", "cos": "Cos", "pow": "Pow", "eq": "Equal", "lt": "Less", "gt": "Greater"},
    **{"le": "LessOrEqual", "ge": "GreaterOrEqual"},
}
MAKES: dict[str, Make] = {
    **{name: _op(op) for name, op in SIMPLE.items()},
    "max": _max,
    "ne": _negated("Equal"),
    "rem": _op("Mod", fmod=1),
    "and": _logical("And", "BitwiseAnd"),
    "or": _logical("Or", "BitwiseOr"),
    "xor": _logical("Xor", "BitwiseXor"),
    "not": _logical("Not", "BitwiseNot"),
    "round": _round,
    "clamp": _clamp,
    "select_n": _select,
    "integer_pow": _power,
    "is_finite": _finite,
    "erfc": _erfc,
    "log1p": _log1p,
    "expm1": _expm1,
    "rsqrt": _rsqrt,
    "square": _square,
}
RULES = {
    **{name: elementwise(make) for name, make in MAKES.items()},
    "convert_element_type": convert,
}
