"""Several networks that speak as one."""

import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from kd_jax.forward import Model, Outputs, Variables
from kd_jax.shares import equal, mixed
from kd_jax.state import Snapshot

Array = jax.Array
MEMBERS = "members"  # the feature that holds what each says, [M, B, K]
SHARES = "shares"  # the collection that holds the members' shares


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
    shares = jnp.asarray(weights or [1.0] * len(models)) / sum(weights or [1.0] * len(models))

    def init(key: Array, inputs: Array) -> Variables:
        return _begun(models, key, inputs)

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        members = _said(models, variables, inputs)
        return Outputs(mixed(combine, members, shares), {MEMBERS: members}), _rest(variables)

    return Model(init, forward)


@functools.lru_cache(maxsize=32)
def fused(models: tuple[Model, ...], how: str) -> Model:
    """One model of several, whose shares are a part of its variables, so that they may differ from
    seed to seed; in evaluation mode alone. Its logits are `shares.mixed` of its members'; its
    features are these, by the members' names."""

    def init(key: Array, inputs: Array) -> Variables:
        return with_shares(_begun(models, key, inputs), equal(len(models)))

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        members = _said(models, variables, inputs)
        logits = mixed(how, members, variables[SHARES][SHARES])
        features = dict(zip(named(len(models)), members, strict=True))
        return Outputs(logits, features), _rest(variables)

    return Model(init, forward)


def with_shares(variables: Variables, shares: Array) -> Variables:
    """The variables of an ensemble, with its members' shares beside those of ensembles in it."""
    return {**variables, SHARES: {**variables.get(SHARES, {}), SHARES: shares}}


def _begun(models: Sequence[Model], key: Array, inputs: Array) -> Variables:
    begun = (model.init(key, inputs) for model in models)
    return together(dict(zip(named(len(models)), begun, strict=True)))


def _said(models: Sequence[Model], variables: Variables, inputs: Array) -> Array:
    """The members' logits [M, B, K]."""
    owns = [part(variables, name) for name in named(len(models))]
    said = (m.forward(v, inputs, train=False)[0] for m, v in zip(models, owns, strict=True))
    return jnp.stack([outputs.logits.astype(jnp.float32) for outputs in said])


def _rest(variables: Variables) -> Variables:
    return {kind: tree for kind, tree in variables.items() if kind != "params"}


def networks_of(members: Sequence[Snapshot]) -> Snapshot:
    """The network of an ensemble, from those of its members."""
    if len(members) == 1:
        return members[0]
    each = dict(zip(named(len(members)), members, strict=True))
    variables = together({name: member.variables for name, member in each.items()})
    masks = {name: member.masks for name, member in each.items()}
    return Snapshot(variables.pop("params"), variables, masks)


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
