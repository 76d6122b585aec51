"""Anybody's network as two pure functions: `init` and `forward`.

Everything downstream sees only a Model. A Linen module, an NNX module and a plain function are
adapters to it.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from kd_jax.errors import UsageError, require

Array = jax.Array
Variables = dict[str, Any]


@flax.struct.dataclass
class Outputs:
    """What a network says of a batch.

    Attributes:
      logits: [B, K].
      features: {name: array [B, ...]}; XLA drops those that no loss uses.
    """

    logits: Array
    features: dict[str, Array] = flax.struct.field(default_factory=dict)


class Forward(Protocol):
    def __call__(
        self, variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        """(outputs, new values of the collections other than params)."""
        ...


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as two pure functions.

    Attributes:
      init: (key, inputs) -> {"params": tree, other collections}.
      forward: see Forward; in evaluation mode the collections come back unchanged.
      tapped: paths of modules -> the same network, whose features also hold what these put out,
        by path; None where it can't tell.
    """

    init: Callable[[Array, Array], Variables]
    forward: Forward
    tapped: "Callable[[tuple[str, ...]], Model] | None" = None


def _outputs(result: Any) -> Outputs:
    """Networks return logits, or (logits, features)."""
    if isinstance(result, Outputs):
        return result
    return Outputs(*result) if isinstance(result, tuple) else Outputs(result)


def _mode_argument(function: Callable) -> Callable[[bool], dict[str, Any]]:
    """How this function wants to be told that it trains, read from its signature."""
    names = inspect.signature(function).parameters
    for name in ("train", "training", "is_training"):
        if name in names:
            return lambda train: {name: train}
    for name in ("deterministic", "use_running_average"):
        if name in names:
            return lambda train: {name: not train}
    return lambda train: {}


def from_linen(module: nn.Module, taps: tuple[str, ...] = ()) -> Model:
    """A Linen module whose __call__ takes inputs and, if it cares, `train` or `deterministic`.

    Args:
      taps: paths of modules within it, such as `encoder/Dense_0`, whose outputs are to be features.
    """
    mode = _mode_argument(module.__call__)
    captures = lambda m, method: method == "__call__" and "/".join(m.path) in taps  # noqa: E731

    def init(key: Array, inputs: Array) -> Variables:
        return dict(module.init({"params": key, "dropout": key}, inputs, **mode(False)))

    def forward(variables, inputs, train=False, key=None):
        collections = {name: value for name, value in variables.items() if name != "params"}
        rngs = {"dropout": key} if train and key is not None else None
        mutable = [*collections] * train + ["intermediates"] * bool(taps)
        result, updated = module.apply(
            variables,
            inputs,
            **mode(train),
            rngs=rngs,
            mutable=mutable,
            capture_intermediates=captures if taps else False,
        )
        outputs, updated = _outputs(result), dict(updated)
        captured = _captured(updated.pop("intermediates", {}), taps)
        outputs = Outputs(logits=outputs.logits, features=outputs.features | captured)
        return outputs, {**collections, **updated}

    return Model(init, forward, lambda paths: from_linen(module, paths))


def _captured(intermediates: Any, taps: tuple[str, ...]) -> dict[str, Array]:
    """{path: what the module there put out, the last time}; of several outputs the first."""
    found = {}
    for path in taps:
        node = intermediates
        for name in path.split("/"):
            node = node.get(name, {})
        if "__call__" in node:
            found[path] = jax.tree.leaves(node["__call__"][-1])[0]
    return found


def from_apply(apply: Callable, variables: Variables) -> Model:
    """A plain function `apply(variables, inputs, train)` with its own initial variables.

    It returns logits; or (logits, features) with features a dict; or, if `variables` holds other
    collections than "params", (either of these, new collections).
    """
    require("params" in variables, 'from_apply: variables must hold "params": {"params": tree}')
    has_collections = len(variables) > 1

    def init(key: Array, inputs: Array) -> Variables:
        del key, inputs  # starts from the variables that were given
        return dict(variables)

    def forward(variables, inputs, train=False, key=None):
        del key
        result = apply(variables, inputs, train)
        collections = {name: value for name, value in variables.items() if name != "params"}
        if has_collections:
            result, updated = result
            collections = {**collections, **updated} if train else collections
        return _outputs(result), collections

    return Model(init, forward)


def from_nnx(build: Callable) -> Model:
    """An NNX module, from the function that builds it: `build(rngs) -> module`.

    The module is split once into its structure and arrays; the arrays then live outside it, like
    those of any other model, in plain nested dicts: nnx.Param under "params", the rest (batch
    statistics, dropout's counters) under "rest".
    """
    from flax import nnx  # here: whoever uses Linen alone never loads it

    if isinstance(build, nnx.Module):
        raise UsageError("from_nnx takes a function of rngs, e.g. from_nnx(lambda rngs: Net(rngs))")
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graph, params, rest = nnx.split(abstract, nnx.Param, ...)
    mode = _mode_argument(type(abstract).__call__)

    def init(key: Array, inputs: Array) -> Variables:
        del inputs
        _, params, rest = nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)
        return {"params": _to_names(params), "rest": _to_names(rest)}

    def forward(variables, inputs, train=False, key=None):
        module = nnx.merge(
            graph,
            _from_names(params, variables["params"]),
            _from_names(rest, variables["rest"]),
            copy=True,  # without it, BatchNorm can't write its statistics inside jax.grad
        )
        # Both: layers that the module doesn't hand its argument on to know only of their flags.
        module.train() if train else module.eval()
        outputs = _outputs(module(inputs, **mode(train)))
        del key  # NNX dropout counts its own draws, in "rest"
        updated = nnx.state(module, nnx.Not(nnx.Param))
        return outputs, {"rest": _to_names(updated) if train else variables["rest"]}

    return Model(init, forward)


def _to_names(state: Any) -> dict:
    """An NNX state as nested dicts with names for keys and plain arrays for leaves."""
    from flax import nnx

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            return {str(key): plain(value) for key, value in node.items()}
        is_key = jnp.issubdtype(node.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(node) if is_key else node

    return plain(nnx.to_pure_dict(state))


def _from_names(template: Any, named: dict) -> Any:
    """The inverse of _to_names, in the structure of `template`."""
    from flax import nnx

    def typed(path, leaf):
        node: Any = named
        for key in path:
            node = node[str(key)]
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf.replace(jax.random.wrap_key_data(node) if is_key else node)

    flat = nnx.to_flat_state(template)
    return nnx.from_flat_state([(path, typed(path, leaf)) for path, leaf in flat])
