"""Several networks that speak as one."""

import functools
from collections.abc import Mapping, Sequence
from typing import Literal

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
    names = named(len(models))
    shares = jnp.asarray(weights or [1.0] * len(models)) / sum(weights or [1.0] * len(models))

    def init(key: Array, inputs: Array) -> Variables:
        return together(dict(zip(names, (m.init(key, inputs) for m in models), strict=True)))

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        logits = []
        for name, model in zip(names, models, strict=True):
            own = part(variables, name)
            logits.append(model.forward(own, inputs, train=False)[0].logits.astype(jnp.float32))
        members = jnp.stack(logits)
        share = shares.reshape(-1, 1, 1)
        if combine == "logits":
            mixed = jnp.sum(share * members, axis=0)
        else:
            mixed = jax.nn.logsumexp(jax.nn.log_softmax(members) + jnp.log(share), axis=0)
        rest = {kind: tree for kind, tree in variables.items() if kind != "params"}
        return Outputs(mixed, {MEMBERS: members}), rest

    return Model(init, forward)


def networks_of(members: Sequence[Snapshot]) -> Snapshot:
    """The network of an ensemble, from those of its members."""
    if len(members) == 1:
        return members[0]
    each = zip(named(len(members)), members, strict=True)
    variables = together({name: member.variables for name, member in each})
    params = variables.pop("params")
    return Snapshot(params, variables, no_masks(params))


def together(each: Mapping[str, Variables]) -> Variables:
    """{kind: {member: tree}} of {member: variables {kind: tree}}."""
    kinds = dict.fromkeys(kind for variables in each.values() for kind in variables)
    return {
        kind: {name: variables[kind] for name, variables in each.items() if kind in variables}
        for kind in kinds
    }


def part(variables: Variables, name: str) -> Variables:
    """The variables of one member."""
    return {kind: trees[name] for kind, trees in variables.items() if name in trees}


def named(count: int) -> list[str]:
    """How the members of an ensemble are called in its variables."""
    return [f"member{i}" for i in range(count)]
