"""Anybody's network as two pure functions: `init` and `forward`.

Everything downstream sees only a Model. A Linen module, an NNX module and a plain function are
adapters to it (that to NNX is in nnx_models.py).
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import flax.struct
import jax

from kd_jax.errors import require
from kd_jax.freezing import Patterns, still

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
      adopts: a teacher's variables -> collections that the network takes from it before the first
        step; None where it takes nothing.
      freeze: patterns of parameters -> the same network, whose batch norms that are frozen by them
        are in evaluation mode in training too; None where it can't tell.
      members: how many networks it is that learn from one another; see mutual.py.
      beneath: the network that it is with numbers on grids; see quantize/.
      rests: variables in training -> the network's at rest; None where these are the same.
    """

    init: Callable[[Array, Array], Variables]
    forward: Forward
    tapped: "Callable[[tuple[str, ...]], Model] | None" = None
    adopts: "Callable[[Variables], Variables] | None" = None
    freeze: "Callable[[Patterns], Model] | None" = None
    members: int = 1
    rests: "Callable[[Variables], Variables] | None" = None
    beneath: "Model | None" = None


def outputs_of(result: Any) -> Outputs:
    """Networks return logits, or (logits, features)."""
    if isinstance(result, Outputs):
        return result
    return Outputs(*result) if isinstance(result, tuple) else Outputs(result)


def mode_argument(function: Callable) -> Callable[[bool], dict[str, Any]]:
    """How this function wants to be told that it trains, read from its signature."""
    names = inspect.signature(function).parameters
    for name in ("train", "training", "is_training"):
        if name in names:
            return lambda train: {name: train}
    for name in ("deterministic", "use_running_average"):
        if name in names:
            return lambda train: {name: not train}
    return lambda train: {}


def from_linen(module: nn.Module, taps: tuple[str, ...] = (), freeze: Patterns = ()) -> Model:
    """A Linen module whose __call__ takes inputs and, if it cares, `train` or `deterministic`.

    Args:
      taps: paths of modules within it, such as `encoder/Dense_0`, whose outputs are to be features.
      freeze: patterns of parameters; see Model.
    """
    mode = mode_argument(module.__call__)
    captures = lambda m, method: method == "__call__" and "/".join(m.path) in taps  # noqa: E731

    def init(key: Array, inputs: Array) -> Variables:
        return dict(module.init({"params": key, "dropout": key}, inputs, **mode(False)))

    def forward(variables, inputs, train=False, key=None):
        collections = {name: value for name, value in variables.items() if name != "params"}
        rngs = {"dropout": key} if train and key is not None else None
        mutable = [*collections] * train + ["intermediates"] * bool(taps)
        with _frozen_norms(freeze if train else ()):
            result, updated = module.apply(
                variables,
                inputs,
                **mode(train),
                rngs=rngs,
                mutable=mutable,
                capture_intermediates=captures if taps else False,
            )
        outputs, updated = outputs_of(result), dict(updated)
        captured = _captured(updated.pop("intermediates", {}), taps)
        outputs = Outputs(logits=outputs.logits, features=outputs.features | captured)
        return outputs, {**collections, **updated}

    return Model(
        init,
        forward,
        tapped=lambda paths: from_linen(module, paths, freeze),
        freeze=lambda patterns: from_linen(module, taps, patterns),
    )


def _frozen_norms(patterns: Patterns) -> contextlib.AbstractContextManager:
    """Within it, frozen batch norms use and keep their running statistics."""

    def call(method: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        norm = context.module
        trains = isinstance(norm, nn.BatchNorm) and norm.use_running_average is not True
        if not (trains and still(patterns, "/".join(norm.path))):
            return method(*args, **kwargs)
        # The same norm in its place, but for that field; its call comes by here and goes through.
        as_evaluated = norm.clone(parent=norm.scope, use_running_average=True)
        kwargs = {name: value for name, value in kwargs.items() if name != "use_running_average"}
        return as_evaluated(*args, **kwargs)

    return nn.intercept_methods(call) if patterns else contextlib.nullcontext()


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
        return outputs_of(result), collections

    return Model(init, forward)
