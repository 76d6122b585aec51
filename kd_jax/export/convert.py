"""A program of JAX as an ONNX graph: inference, with a free batch.

Channels are held as ONNX wants them, before places, and stay so from layer to layer; batch norms
and biases are folded into the convolutions and matrix products before them; what depends on
constants alone is computed once and for all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend.core import Literal

from kd_jax.export import rules_elementwise, rules_index, rules_integer, rules_linear, rules_shape
from kd_jax.export.graph import IR, OPSET, Graph
from kd_jax.export.program import any_batch, needed
from kd_jax.export.tensors import Tensor, Unsupported, constant
from kd_jax.platform import equations
from kd_jax.products import bind
from kd_jax.prune.structure_rules_calls import scan_counts

Rule = Callable[[Graph, Any, list[Tensor]], "Tensor | Sequence[Tensor]"]


def to_onnx(
    function: Callable[[jax.Array], jax.Array],
    shape: Sequence[int],
    dtype: Any,
    names: tuple[str, str] = ("images", "logits"),
    facts: dict[str, str] | None = None,
) -> Any:
    """An onnx.ModelProto that computes function(x [B, *shape]) for every B.

    Args:
      names: of its input and its output.
      facts: what its metadata say.

    Raises:
      UsageError: an operation has no form in ONNX here; it names that.
    """
    from onnx import helper

    (batch,) = export.symbolic_shape("batch")
    like = jax.ShapeDtypeStruct((batch, *shape), dtype)
    program = equations(any_batch(function, shape, dtype), like)
    graph = Graph(batch, names[0])
    given = Tensor((batch, *shape), np.dtype(dtype), _axes(1 + len(shape)), (batch, *shape))
    given.name = names[0]
    (result,) = _run(graph, program.jaxpr, [constant(c) for c in program.consts], [given])
    graph.nodes.append(helper.make_node("Identity", [_name(graph, result)], [names[1]], names[1]))
    ends = [
        helper.make_tensor_value_info(name, _type(x.dtype), [_size(d) for d in x.shape])
        for name, x in zip(names, (given, result), strict=True)
    ]
    made = helper.make_graph(graph.nodes, "kd_jax", ends[:1], ends[1:], graph.read())
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(made, opset_imports=[opset], ir_version=IR, producer_name="kd_jax")
    helper.set_model_props(model, facts or {})
    return model


def _axes(rank: int) -> tuple[int, ...]:
    return tuple(range(rank))


def _size(size: Any) -> Any:
    return size if isinstance(size, int) else str(size)


def _name(graph: Graph, x: Tensor) -> str:
    return graph.name_of(graph.whole(x))


def _type(dtype: np.dtype) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _run(
    graph: Graph, jaxpr: Any, consts: Sequence[Tensor], arguments: Sequence[Tensor]
) -> list[Tensor]:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))
    keep = [eqn for eqn, wanted in zip(jaxpr.eqns, needed(jaxpr), strict=True) if wanted]
    graph.uses.update(v for eqn in keep for v in eqn.invars if not isinstance(v, Literal))
    graph.uses.update(v for v in jaxpr.outvars if not isinstance(v, Literal))

    def read(v: Any) -> Tensor:
        known = isinstance(v, Literal)
        return constant(np.asarray(v.val, _aval(v).dtype)) if known else values[v]

    for eqn in keep:
        values |= zip(
            eqn.outvars, _converted(graph, eqn, [read(v) for v in eqn.invars]), strict=True
        )
    return [read(v) for v in jaxpr.outvars]


def _aval(v: Any) -> Any:
    return v.aval


def _converted(graph: Graph, eqn: Any, ins: list[Tensor]) -> list[Tensor]:
    name = eqn.primitive.name
    rule = RULES.get(name)
    if rule is None:
        raise Unsupported(name)
    if name not in LAZY and _known(eqn, ins):
        found = bind(eqn, [x.entries for x in ins])
        return [constant(np.asarray(x)) for x in found]
    made = rule(graph, eqn, ins)
    return [made] if isinstance(made, Tensor) else list(made)


def _known(eqn: Any, ins: list[Tensor]) -> bool:
    """Whether its results can be computed here."""
    sizes = [d for v in (*eqn.invars, *eqn.outvars) for d in v.aval.shape]
    return all(x.array is not None for x in ins) and all(isinstance(d, int) for d in sizes)


def scan(graph: Graph, eqn: Any, ins: list[Tensor]) -> list[Tensor]:
    """A Scan whose body reads what does not change from around it."""
    from onnx import helper

    consts, carried = scan_counts(eqn)
    closed, body = eqn.params["jaxpr"], graph.within()
    fixed, moving = ins[:consts], [graph.whole(x) for x in ins[consts:]]
    for x in fixed:
        if x.array is None:
            graph.name_of(x)  # written around the loop, not in it
    inner = [_inside(body, i, x, i >= carried) for i, x in enumerate(moving)]
    own = [constant(c) for c in closed.consts]
    outs = _run(body, closed.jaxpr, own, [*fixed, *inner])
    ends = [_end(body, x) for x in outs]
    infos = lambda xs: [  # noqa: E731
        helper.make_tensor_value_info(x.name, _type(x.dtype), [_size(d) for d in x.shape])
        for x in xs
    ]
    program = helper.make_graph(body.nodes, body.stem, infos(inner), infos(ends))
    along, turn = len(moving) - carried, int(eqn.params["reverse"])
    names = graph.node(
        "Scan",
        [graph.name_of(x) for x in moving],
        len(outs),
        body=program,
        num_scan_inputs=along,
        scan_input_directions=[turn] * along,
        scan_output_directions=[turn] * (len(outs) - carried),
    )
    shapes = [(tuple(v.aval.shape), np.dtype(v.aval.dtype)) for v in eqn.outvars]
    names = [names] if len(outs) == 1 else names
    return [
        Tensor(shape, dtype, _axes(len(shape)), shape, name=name)
        for (shape, dtype), name in zip(shapes, names, strict=True)
    ]


def _inside(body: Graph, place: int, x: Tensor, along: bool) -> Tensor:
    shape = x.shape[1:] if along else x.shape
    name = f"{body.stem}_in_{place}"
    return Tensor(shape, x.dtype, _axes(len(shape)), shape, name=name)


def _end(body: Graph, x: Tensor) -> Tensor:
    """A result under a name of its own, as a body must have."""
    x = body.whole(x)
    name = body.node("Identity", [body.name_of(x)])
    return Tensor(x.shape, x.dtype, x.order, x.held, name=name)


LAZY = (*rules_elementwise.RULES, "broadcast_in_dim", "transpose", "squeeze", "iota")
RULES: dict[str, Rule] = {
    **rules_elementwise.RULES,
    **rules_linear.RULES,
    **rules_shape.RULES,
    **rules_index.RULES,
    **rules_integer.RULES,
    "scan": scan,
}
