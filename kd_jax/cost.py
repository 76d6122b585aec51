"""What a function computes, counted: multiply-accumulates, read from its jaxpr."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import Jaxpr

from kd_jax.platform import equations
from kd_jax.products import COPIES, run
from kd_jax.tree import named_leaves

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One place in the program that multiplies and adds."""

    name: str
    """Where it is: the stack of names around it, module path included for Linen modules."""
    primitive: str
    """dot_general or conv_general_dilated."""
    shape: tuple[int, ...]
    """Its output's shape."""
    macs: int
    """Multiply-accumulates of all its turns."""
    times: int = 1
    """How often it runs in one call of the function."""
    note: str = ""
    """Why the count may be wrong, if so."""


def macs(function: Callable, *example_shapes: Any) -> int:
    """Multiply-accumulates (MACs) of function(*example_shapes).

    The convention: one MAC is one multiplication and addition of a dot_general or a
    conv_general_dilated, and FLOPs = 2 MACs. Biases, normalisation, activations, softmax,
    pooling and elementwise arithmetic are not counted. Multiplications by a convolution's zero
    padding are, as in every published count; those by the zeros that a transposed convolution
    (or the gradient of a strided one) puts between its inputs are not.

    A scan counts its body once for each step, a cond its costliest branch; a shard_map counts
    the work of all its devices. How often a while loop turns is not in the program: its body
    counts once, and a warning says so.

    Args:
      function: any function JAX can trace. Sizes are those of the shapes given, batch included.
      example_shapes: its arguments, as trees of arrays or of jax.ShapeDtypeStruct.
    """
    rows = mac_table(function, *example_shapes)
    for note in {row.note for row in rows if row.note}:
        warnings.warn(note, stacklevel=2)
    return sum(row.macs for row in rows)


def mac_table(function: Callable, *example_shapes: Any) -> list[Row]:
    """A row for each dot product and convolution of function(*example_shapes), in program order.

    Counted as in `macs`, whose result is their sum. Only the costliest branch of a cond has rows.
    """
    return list(_rows(equations(function, *example_shapes).jaxpr, 1, "", ""))


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.aval.shape)


def _rows(jaxpr: Jaxpr, times: int, prefix: str, note: str) -> Iterator[Row]:
    for eqn in jaxpr.eqns:
        name = "/".join(part for part in (prefix, str(eqn.source_info.name_stack)) if part)
        primitive = eqn.primitive.name
        if primitive in _COUNT:
            yield Row(name, primitive, _shape(eqn.outvars[0]), times * eqn_macs(eqn), times, note)
        elif primitive == "cond":
            branches = [list(_rows(b.jaxpr, times, name, note)) for b in eqn.params["branches"]]
            yield from max(branches, key=lambda rows: sum(row.macs for row in rows))
        elif primitive == "while":
            again = f"{name or 'a while loop'}: unknown number of turns, counted once"
            for key in ("cond_jaxpr", "body_jaxpr"):
                yield from _rows(eqn.params[key].jaxpr, times, name, again)
        else:
            for inner in inner_jaxprs(eqn.params):
                yield from _rows(inner, times * _turns(eqn), name, note)


def by_parameter(function: Callable, params: Any, *others: Any) -> dict[str, int]:
    """{parameter: multiply-accumulates of function(params, *others) with it}, counted as in `macs`;
    those that a loop multiplies with, or nothing does, are missing. Of arrays or their shapes."""
    found: dict[str, int] = {}

    def heard(name: str, eqn: Any, given: list[Any], place: int) -> None:
        del given, place
        found[name] = found.get(name, 0) + eqn_macs(eqn)

    def traced(params: Any, *others: Any) -> Any:
        leaves = named_leaves(params)
        program = equations(function, params, *others)
        keeps = lambda eqn: eqn.primitive.name in COPIES  # noqa: E731
        given = [*leaves.values(), *jax.tree.leaves(others)]
        return run(program, given, dict(enumerate(leaves)), heard, keeps)

    jax.eval_shape(traced, params, *others)
    return found


def eqn_macs(eqn: Any) -> int:
    """Of one equation; 0 of any but dot_general and conv_general_dilated."""
    shapes = map(_shape, (*eqn.invars, *eqn.outvars))
    name = eqn.primitive.name
    return macs_of(name, eqn.params, *shapes) if name in _COUNT else 0


def macs_of(primitive: str, params: dict[str, Any], left: Shape, right: Shape, out: Shape) -> int:
    """Of a dot_general or conv_general_dilated of arrays of these shapes."""
    return _COUNT[primitive](params, left, right, out)


def _turns(eqn: Any) -> int:
    """How often an equation runs the program inside it."""
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    if eqn.primitive.name == "shard_map":
        return math.prod(eqn.params["mesh"].shape[a] for a in eqn.params["newly_manual_axes"])
    return 1


def inner_jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs inside a jit, remat, custom_jvp, custom_vjp, scan, shard_map and the like."""
    for value in params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(part, "jaxpr", part)  # a closed jaxpr's program is its jaxpr
            if isinstance(inner, Jaxpr):
                yield inner


def _dot_macs(params: dict[str, Any], left: Shape, right: Shape, out: Shape) -> int:
    """Every element of the output sums over all contracted positions."""
    del right
    (contracted, _), _ = params["dimension_numbers"]
    return math.prod(out) * math.prod(left[axis] for axis in contracted)


def _conv_macs(params: dict[str, Any], inputs: Shape, kernel: Shape, out: Shape) -> int:
    """Every element of the output sums over the window and the input channels of its group."""
    del inputs
    _, in_channels, *window = params["dimension_numbers"].rhs_spec
    terms = kernel[in_channels] * math.prod(kernel[axis] for axis in window)
    return math.prod(out) * terms // math.prod(params["lhs_dilation"])


_COUNT = {"dot_general": _dot_macs, "conv_general_dilated": _conv_macs}
