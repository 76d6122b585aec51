"""A network as one function of a batch of any size, calls and barriers taken out of it, but for
products of integers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from kd_jax.errors import UsageError
from kd_jax.platform import equations, tracing_for
from kd_jax.products import CALLS, bind, inner
from kd_jax.prune.structure_rules_calls import scan_counts
from kd_jax.quantize.integer import PRODUCT

Array = jax.Array
SIZES = (3, 5)  # of the batches that a network is traced with
SAME = ("copy", "copy_p", "optimization_barrier", "stop_gradient")  # results are the operands


def any_batch(
    function: Callable[[Array], Array], shape: Sequence[int], dtype: Any
) -> Callable[[Array], Array]:
    """The function [B, *shape] -> result, for every B, also a symbolic one.

    It is traced at two sizes of the batch; whatever number differs between the two programs is
    taken to be linear in B. So a function is served too that asks how long its batch is, which
    jax.export's symbolic sizes do not allow. Sums, branches and shapes that are not linear in B are
    told apart by no trace: what comes out is to be compared with the function at other sizes.

    Raises:
      UsageError: the two programs differ in more than that.
    """
    like = [jax.ShapeDtypeStruct((size, *shape), dtype) for size in SIZES]
    with tracing_for("any"):  # a file is read by other runtimes: nothing as it suits XLA:CPU
        first, second = (equations(function, x) for x in like)

    def run(x: Array) -> Array:
        consts = [(c, c) for c in first.consts]
        for a, b in zip(first.consts, second.consts, strict=True):
            _require_same(a.shape == b.shape, "a constant")
        pair = (first.jaxpr, second.jaxpr)
        (result,) = _run(pair, [c for c, _ in consts], [x], x.shape[0])
        return result

    return run


def needed(jaxpr: Any) -> list[bool]:
    """Of each equation, whether a result of the program depends on it."""
    wanted = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    found = []
    for eqn in reversed(jaxpr.eqns):
        found.append(any(v in wanted for v in eqn.outvars))
        if found[-1]:
            wanted |= {v for v in eqn.invars if not isinstance(v, Literal)}
    return found[::-1]


def _run(pair: Any, consts: Sequence[Any], arguments: Sequence[Any], batch: Any) -> list[Any]:
    first, second = pair
    _require_same(len(first.eqns) == len(second.eqns), "the number of operations")
    values = dict(zip((*first.constvars, *first.invars), (*consts, *arguments), strict=True))
    read = lambda v: v.val if isinstance(v, Literal) else values[v]  # noqa: E731
    for one, two, wanted in zip(first.eqns, second.eqns, needed(first), strict=True):
        _require_same(one.primitive is two.primitive, one.primitive.name)
        if wanted:
            results = _results((one, two), [read(v) for v in one.invars], batch)
            values |= zip(one.outvars, results, strict=True)
    return [read(v) for v in first.outvars]


def _results(pair: Any, given: list[Any], batch: Any) -> list[Any]:
    eqn = pair[0]
    if eqn.primitive.name in SAME:
        return given
    if eqn.primitive.name in CALLS:
        (program, consts), (other, _) = (inner(e) for e in pair)
        call = lambda *given: _run((program, other), consts, given, batch)  # noqa: E731
        call.__name__ = eqn.params.get("name", "")
        # A product of integers stays a call, since some forms have a word for it.
        return jax.jit(call)(*given) if call.__name__ == PRODUCT else call(*given)
    if eqn.primitive.name == "scan":
        return _scan(pair, given, batch)
    params = {
        name: _merged(eqn, value, pair[1].params[name], batch) for name, value in eqn.params.items()
    }
    return bind(eqn.replace(params=params), given)


def _scan(pair: Any, given: list[Any], batch: Any) -> list[Any]:
    eqn = pair[0]
    consts, carried = scan_counts(eqn)
    closed = [e.params["jaxpr"] for e in pair]
    fixed, state, along = given[:consts], given[consts:][:carried], given[consts + carried :]

    def turn(state: Any, along: Any) -> Any:
        programs = (closed[0].jaxpr, closed[1].jaxpr)
        outs = _run(programs, closed[0].consts, [*fixed, *state, *along], batch)
        return outs[:carried], outs[carried:]

    how = {name: eqn.params[name] for name in ("length", "reverse")}
    state, stacked = jax.lax.scan(turn, list(state), list(along), **how)
    return [*state, *stacked]


def _merged(eqn: Any, a: Any, b: Any, batch: Any) -> Any:
    """A parameter of an operation, where numbers that differ go with the batch."""
    if isinstance(a, (int, np.integer)) and not isinstance(a, bool):
        slope, rest = divmod(b - a, SIZES[1] - SIZES[0])
        _require_same(rest == 0, eqn.primitive.name)
        return a if a == b else slope * batch + (a - slope * SIZES[0])
    if isinstance(a, (tuple, list)):
        _require_same(len(a) == len(b), eqn.primitive.name)
        items = [_merged(eqn, x, y, batch) for x, y in zip(a, b, strict=True)]
        return type(a)(*items) if hasattr(a, "_fields") else type(a)(items)
    forms = [getattr(of, "in_avals", None) for of in (a, b)]  # of a program
    _require_same(forms[0] == forms[1], eqn.primitive.name)
    return a


def _require_same(condition: bool, what: str) -> None:
    if not condition:
        raise UsageError(
            f"the network does other things at another batch size ({what}): it can't be exported "
            "with a free batch; --format safetensors keeps it whole"
        )
