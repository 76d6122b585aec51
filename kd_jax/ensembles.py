"""Several networks that speak as one."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from kd_jax.forward import Model, Outputs, Variables
from kd_jax.state import Snapshot, no_masks

Array = jax.Array
MEMBERS = "members"  # the feature that holds what each says, [M, B, K]


@functools.lru_cache(maxsize=32)
def ensemble(
    models: tuple[Model, ...],
    combine: Literal["logits", "probabilities"] = "logits",
    weights: tuple[float, ...] = (),
) -> Model:
    """One model whose logits are the weighted mean of its members' logits, or the logarithm of that
    of their probabilities; in evaluation mode alone. Its feature `members` is [M, B, K]. Of one
    model it is that model.

    Args:
      weights: of the members, with any sum; none: equal ones.
    """
    if len(models) == 1:
        return models[0]
    names = _names(len(models))
    shares = jnp.asarray(weights or [1.0] * len(models)) / sum(weights or [1.0] * len(models))

    def init(key: Array, inputs: Array) -> Variables:
        return _together([model.init(key, inputs) for model in models])

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        logits = []
        for name, model in zip(names, models, strict=True):
            own = {kind: part[name] for kind, part in variables.items() if name in part}
            logits.append(model.forward(own, inputs, train=False)[0].logits.astype(jnp.float32))
        members = jnp.stack(logits)
        share = shares.reshape(-1, 1, 1)
        if combine == "logits":
            mixed = jnp.sum(share * members, axis=0)
        else:
            mixed = jax.nn.logsumexp(jax.nn.log_softmax(members) + jnp.log(share), axis=0)
        rest = {name: part for name, part in variables.items() if name != "params"}
        return Outputs(mixed, {MEMBERS: members}), rest

    return Model(init, forward)


def networks_of(members: Sequence[Snapshot]) -> Snapshot:
    """The network of an ensemble, from those of its members."""
    if len(members) == 1:
        return members[0]
    variables = _together([member.variables for member in members])
    params = variables.pop("params")
    return Snapshot(params, variables, no_masks(params))


def _together(each: Sequence[Variables]) -> Variables:
    """{kind: {member: tree}} of variables {kind: tree} of each."""
    together: dict[str, Any] = {}
    for name, variables in zip(_names(len(each)), each, strict=True):
        for kind, part in variables.items():
            together.setdefault(kind, {})[name] = part
    return together


def _names(count: int) -> list[str]:
    return [f"member{i}" for i in range(count)]
