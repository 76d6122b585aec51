"""Where a program multiplies something with one of its arguments, found by tracing, whatever
library it is written in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from kd_jax.convolution import convolve
from kd_jax.platform import equations
from kd_jax.tree import named_leaves

PRODUCTS = ("dot_general", "conv_general_dilated")
# What runs the program inside it once, as it is.
CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call")
CALLS = (*CALLS, "checkpoint", "remat2")
COPIES = ("convert_element_type", "copy", "copy_p", "optimization_barrier", "stop_gradient")

Product = Callable[[str, Any, list[Any], int], Any]
"""(an argument's name, the equation, its operands, the argument's place among them) -> the result,
or None for what the equation itself makes of them."""
Keeps = Callable[[Any], bool]
"""Whether what an equation makes of an argument still is that argument."""


def run(
    program: Any,
    arguments: Sequence[Any],
    names: Mapping[int, str],
    product: Product,
    keeps: Keeps,
) -> list[Any]:
    """The results of a program, as jax.make_jaxpr gives it, whose products with the arguments that
    have names, by their place, are left to `product`. Those inside a loop or a branch are not
    seen."""
    labels = {var: names[i] for i, var in enumerate(program.jaxpr.invars) if i in names}
    results, _ = _run(program.jaxpr, program.consts, arguments, labels, product, keeps)
    return results


def forward(
    model: Any, product: Product, variables: Any, inputs: Any, train: bool = False, key: Any = None
) -> Any:
    """`model.forward`, whose products with its variables, by their names (`params/Dense_0/kernel`),
    are left to `product`."""
    run_ = lambda variables, inputs, key: model.forward(variables, inputs, train, key)  # noqa: E731
    program, form = equations(run_, variables, inputs, key, return_shape=True)
    leaves, rest = named_leaves(variables), jax.tree.leaves((inputs, key))
    keeps = lambda eqn: eqn.primitive.name in COPIES  # noqa: E731
    names = dict(enumerate(leaves))
    results = run(program, [*leaves.values(), *rest], names, product, keeps)
    return jax.tree.unflatten(jax.tree.structure(form), results)


def _run(
    jaxpr: Any,
    consts: Sequence[Any],
    arguments: Sequence[Any],
    labels: dict[Any, str],
    product: Product,
    keeps: Keeps,
) -> tuple[list[Any], list[str | None]]:
    """(values, names) of the results."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))
    read = lambda v: v.val if isinstance(v, Literal) else values[v]  # noqa: E731
    name = lambda v: None if isinstance(v, Literal) else labels.get(v)  # noqa: E731
    for eqn in jaxpr.eqns:
        given, known = [read(v) for v in eqn.invars], [name(v) for v in eqn.invars]
        if eqn.primitive.name in CALLS and any(known):
            program, own = inner(eqn), zip(inner(eqn)[0].invars, known, strict=True)
            results, said = _run(*program, given, {v: n for v, n in own if n}, product, keeps)
        else:
            results = _product(eqn, given, known, product) or bind(eqn, given)
            # Of as many results as operands each is of its own.
            own = lambda of, i: of[i : i + 1] if len(of) == len(results) else of  # noqa: B023, E731
            said = [
                _still(eqn, own(given, i), own(known, i), out, keeps)
                for i, out in enumerate(results)
            ]
        values |= zip(eqn.outvars, results, strict=True)
        labels |= {v: n for v, n in zip(eqn.outvars, said, strict=True) if n}
    return [read(v) for v in jaxpr.outvars], [name(v) for v in jaxpr.outvars]


def _product(
    eqn: Any, given: list[Any], known: list[str | None], product: Product
) -> list[Any] | None:
    if eqn.primitive.name not in PRODUCTS:
        return None
    made = [product(n, eqn, given, place) for place, n in enumerate(known) if n is not None]
    return next(([result] for result in made if result is not None), None)


def _still(
    eqn: Any, given: list[Any], known: list[str | None], out: Any, keeps: Keeps
) -> str | None:
    """The argument that a result still is."""
    some = {n for n in known if n is not None}
    if len(some) != 1 or not keeps(eqn):
        return None
    shapes = {jnp.shape(x) for x, n in zip(given, known, strict=True) if n}
    return some.pop() if shapes == {jnp.shape(out)} else None


def inner(eqn: Any) -> tuple[Any, Sequence[Any]]:
    """(the program that a call runs, its constants)."""
    inner = next(
        eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params
    )
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """The results of an equation for these operands."""
    return applied(eqn.primitive, values, eqn.params)


def applied(primitive: Any, values: Sequence[Any], params: Mapping[str, Any]) -> list[Any]:
    """The results of a primitive; of a convolution as it suits the device."""
    if primitive.name == "conv_general_dilated":
        return [convolve(*values, **params)]
    found = primitive.bind(*values, **primitive.get_bind_params(dict(params)))
    return found if primitive.multiple_results else [found]
