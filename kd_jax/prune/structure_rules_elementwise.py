"""Rules of structure.py: operations on each entry by itself."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kd_jax.prune.labels import UNKNOWN, Block, Called, State, without
from kd_jax.prune.structure import Graph

erf = np.vectorize(math.erf, otypes=[float])


def _root(x: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(x)


def _select(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    """The case that `which` names; where that is unknown, what all of them are."""
    same = np.all([case == cases[0] for case in cases], axis=0)
    known = np.where(np.isnan(which), 0, which).astype(int)
    chosen = np.choose(known, cases)
    return np.where(np.isnan(which), np.where(same, cases[0], UNKNOWN), chosen)


def _multiply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) | (y == 0), 0.0, x * y)


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & (y != 0), 0.0, x / y)  # unknown divisors are not zero


# What a primitive makes of entries that are known. None: nothing is known of the result.
VALUE: dict[str, Callable | None] = {
    **{"neg": np.negative, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "abs": np.abs},
    **{"exp": np.exp, "exp2": np.exp2, "log": np.log, "expm1": np.expm1, "log1p": np.log1p},
    **{"sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "atan": np.arctan},
    **{"sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh},
    **{"sqrt": np.sqrt, "cbrt": np.cbrt, "square": np.square, "rsqrt": _root},
    **{"erf": erf, "erfc": lambda x: 1 - erf(x), "logistic": lambda x: 1 / (1 + np.exp(-x))},
    **{"add": np.add, "add_any": np.add, "sub": np.subtract, "mul": _multiply, "div": _divide},
    **{"max": np.maximum, "min": np.minimum, "pow": np.power, "atan2": np.arctan2},
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal},
    **{"gt": np.greater, "ge": np.greater_equal, "is_finite": np.isfinite},
    **{"select_n": _select, "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high)},
    **dict.fromkeys(["stop_gradient", "copy", "reduce_precision"], np.positive),
    **dict.fromkeys(["acos", "acosh", "atanh", "digamma", "lgamma", "erf_inv", "round", "rem"]),
    **dict.fromkeys(["nextafter", "not", "and", "or", "xor", "population_count", "clz"]),
    **dict.fromkeys(["shift_left", "shift_right_logical", "shift_right_arithmetic"]),
    **dict.fromkeys(["real", "imag", "conj", "complex", "igamma", "igammac"]),
    **dict.fromkeys(["bessel_i0e", "bessel_i1e", "regularized_incomplete_beta"]),
    **dict.fromkeys(["integer_pow", "convert_element_type", "bitcast_convert_type"]),
}


def elementwise(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """Operands that are combined entry by entry are cut alike."""
    return [combined(graph, eqn, ins, _function(eqn))] * len(eqn.outvars)


def combined(graph: Graph, eqn: Any, ins: Sequence[State], function: Callable | None) -> State:
    """The state of function(*ins), entry by entry; without a function, of unknown values."""
    shape = tuple(max((s.shape[a] for s in ins if s.shape), default=1) for a in _axes(ins))
    blocks = []
    for axes, ids, values in aligned(graph, eqn, ins):
        blocks.append(Block(axes, ids, _value(function, values)))
    const = float(_value(function, [np.asarray(s.const) for s in ins]))
    return State(shape, tuple(blocks), const, any(s.data for s in ins))


def _axes(ins: Sequence[State]) -> range:
    return range(max(len(s.shape) for s in ins))


def _function(eqn: Any) -> Callable | None:
    name = eqn.primitive.name
    if name == "integer_pow":
        return lambda x: np.power(x, float(eqn.params["y"]))
    if name == "convert_element_type":
        kind = np.dtype(eqn.params["new_dtype"]).kind if eqn.params["new_dtype"] else "f"
        return np.trunc if kind in "iu" else (lambda x: x != 0) if kind == "b" else np.positive
    return VALUE[name]


def _value(function: Callable | None, values: list[np.ndarray]) -> np.ndarray:
    if function is None:
        return np.full(np.broadcast_shapes(*(v.shape for v in values)), UNKNOWN)
    with np.errstate(all="ignore"):
        result = np.asarray(function(*values), float)
    result = np.where(np.isfinite(result), result, UNKNOWN)
    if function in (_multiply, _divide, _select):  # may be known though an operand isn't
        return result
    return np.where(np.any([np.isnan(v) for v in values], axis=0), UNKNOWN, result)


def aligned(
    graph: Graph, eqn: Any, ins: Sequence[State]
) -> list[tuple[tuple[int, ...], np.ndarray, list[np.ndarray]]]:
    """Unites the operands' labels index by index: (axes, units, what each operand is when they
    are cut), for each block of the result. An operand's axis of size 1 says nothing."""
    ins = _split_alike(graph, ins)
    groups: dict[tuple[int, ...], list[Block]] = {}
    for state in ins:
        for block in state.blocks:
            groups.setdefault(tuple(sorted(block.axes)), []).append(block)
    result = []
    for key, found in groups.items():
        axes = found[0].axes
        if any(_is_fixed(state, key) for state in ins):
            for block in found:
                graph.freeze(block.ids, eqn, "meets an axis of fixed size")
            continue
        arranged = [[_arranged(b, axes) for b in s.blocks if set(b.axes) == set(key)] for s in ins]
        for other in (b for blocks in arranged for b in blocks):
            graph.units.unite(found[0].ids, other.ids)
            if not any(state.data for state in ins):
                graph.alike.append((found[0].ids, other.ids))
        unknown = [np.full(found[0].ids.shape, s.const) for s in ins]
        values = [b[0].value if b else u for b, u in zip(arranged, unknown, strict=True)]
        result.append((axes, found[0].ids, values))
    return result


def _is_fixed(state: State, axes: tuple[int, ...]) -> bool:
    """Whether an operand has these axes at full size, and no labels there."""
    return any(state.shape and state.shape[a] > 1 and state.of(a) is None for a in axes)


def _arranged(block: Block, axes: tuple[int, ...]) -> Block:
    order = [block.axes.index(a) for a in axes]
    return Block(axes, block.ids.transpose(order), block.value.transpose(order))


def _split_alike(graph: Graph, ins: Sequence[State]) -> list[State]:
    """The states once each joint block of one is a block of all; what isn't is collapsed."""
    ins = [graph.simplified(s) for s in ins]
    joint = {tuple(sorted(b.axes)) for s in ins for b in s.blocks if len(b.axes) > 1}
    for axes in joint:
        full = [s for s in ins if s.shape and any(s.shape[a] > 1 for a in axes)]
        have = [any(set(b.axes) == set(axes) for b in s.blocks) for s in full]
        if not all(have):
            ins = [graph.single(s, *axes) if s.shape else s for s in ins]
    return ins


def free_result(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """Random numbers: axes of any size."""
    out = eqn.outvars[0].aval
    keys = len(ins[0].shape) if ins else 0  # one draw for each key
    sizes = [(a, n) for a, n in enumerate(out.shape) if n > 1 and a >= keys]
    return [State(tuple(out.shape), tuple(graph.free(a, n) for a, n in sizes), data=False)]


def iota(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """Counts along one axis, which is fixed; the others are free."""
    out = free_result(graph, eqn, ())[0]
    return [State(out.shape, without(out.blocks, [eqn.params["dimension"]]), data=False)]


def each_alone(graph: Graph, eqn: Any, ins: Sequence[State]) -> list[State]:
    """What passes all of its operands on as they are."""
    return list(ins)


def no_axes(graph: Graph, eqn: Any, ins: Sequence[State]) -> Called | list[State]:
    """Handling of random keys: fixed sizes throughout."""
    for state in ins:
        for block in state.blocks:
            graph.freeze(block.ids, eqn, "is part of a random key")
    shapes = [tuple(v.aval.shape) for v in eqn.outvars]
    return [State(shape, data=any(s.data for s in ins)) for shape in shapes]


KEYS = ("random_seed", "random_split", "random_fold_in", "random_wrap", "random_unwrap")

RULES = {
    **dict.fromkeys(VALUE, elementwise),
    **dict.fromkeys(KEYS, no_axes),
    "optimization_barrier": each_alone,
    "random_bits": free_result,
    "iota": iota,
}
