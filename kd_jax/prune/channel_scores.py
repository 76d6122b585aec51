"""Scores of all units of a network by a criterion, and by data where it looks at any."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.errors import did_you_mean, require
from kd_jax.forward import Model, Variables
from kd_jax.prune import unit_evidence
from kd_jax.prune.channels import CHANNEL_CRITERIA
from kd_jax.prune.groups import Structure
from kd_jax.prune.unit_evidence import Loss, UnitEvidence, entries
from kd_jax.tree import count, named_leaves

Array = jax.Array
Scores = dict[str, Array]
ROOM = 2**26  # numbers that the gradients of single examples may take at once


def scores(
    structure: Structure,
    variables: Variables,
    criterion: str,
    key: Array,
    batches: Sequence[Any] = (),
    loss: Loss | None = None,
    model: Model | None = None,
) -> Scores:
    """{group: [units]} of one network; vmap it over many. A group that the criterion can't score
    is kept whole: its scores are infinite.

    Args:
      batches: what a criterion that needs data looks at: tuples of arrays [B, ...], the inputs
        first. The scores are the mean over the batches, which should be of one size.
      loss: (variables, batch) -> scalar, for criteria that need gradients; a mean over examples.
      model: that of the variables, for criteria that need maps.

    Raises:
      UsageError: an unknown criterion, one that lacks its data, or that can score no group.
    """
    _check(criterion, batches, loss, model)
    needs = CHANNEL_CRITERIA[criterion].needs

    @jax.jit  # one program, not one for each shape
    def of_batch(variables: Variables, key: Array, batch: Any) -> Scores:
        def of(batch: Any) -> Scores:
            slopes, shown = {}, {}
            if loss is not None and needs in ("gradients", "example_gradients"):
                slopes = unit_evidence.gradients(loss, variables, batch)
            if model is not None and needs == "maps":
                shown = unit_evidence.features(model, structure, variables, batch[0])
            return _scored(structure, variables, criterion, key, slopes, shown)

        alone = needs == "example_gradients"
        return _mean_of_examples(of, variables, batch) if alone else of(batch)

    # Not a loop on the device, in which XLA:CPU computes convolutions' gradients many times slower.
    found = [of_batch(variables, key, b) for b in ([None] if needs == "nothing" else batches)]
    return jax.tree.map(lambda *each: sum(each[1:], start=each[0]) / len(each), *found)


def _check(criterion: str, batches: Sequence[Any], loss: Any, model: Model | None) -> None:
    """Raises UsageError for what can be said without looking at the network."""
    known = CHANNEL_CRITERIA
    require(criterion in known, f"criterion {criterion!r}.{did_you_mean(criterion, known)}")
    needs = known[criterion].needs
    source, given = ("model", model) if needs == "maps" else ("loss", loss)
    lacking = ["batches"] * (not batches) + [source] * (given is None)
    require(
        needs == "nothing" or not lacking,
        f"criterion {criterion!r} needs {needs.replace('_', ' ')}: give {' and '.join(lacking)}",
    )
    require(
        needs != "maps" or (model is not None and model.tapped is not None),
        f"criterion {criterion!r} needs maps, and this model's modules can't be tapped: make it by "
        "from_linen or from_nnx, or take another criterion, such as taylor",
    )


def _scored(
    structure: Structure, variables: Variables, criterion: str, key: Array, slopes: Any, shown: Any
) -> Scores:
    """{group: [units]}, of parameters, their gradients {leaf: array} and features {path: array}."""
    chosen, leaves, found = CHANNEL_CRITERIA[criterion], named_leaves(variables), {}
    for group in structure.groups:
        gradients = entries(group, slopes) if slopes else {}
        maps = unit_evidence.maps(structure, group, shown)
        evidence = UnitEvidence(group, entries(group, leaves), key, gradients, maps)
        found[group.name] = chosen.score(evidence)
    require(
        not found or any(score is not None for score in found.values()),
        f"criterion {criterion!r} scores groups with {chosen.of}, and this network has none: take "
        "another, such as l1",
    )
    whole = {group.name: jnp.full(group.size, jnp.inf) for group in structure.groups}
    return {name: whole[name] if score is None else score for name, score in found.items()}


def _mean_of_examples(of: Any, variables: Variables, batch: Any) -> Scores:
    """The mean of of(a batch of one example), as many at a time as there is room for."""
    alone = lambda example: of(jax.tree.map(lambda x: x[None], example))  # noqa: E731
    size = min(len(batch[0]), max(1, ROOM // count(variables["params"])))
    each = jax.lax.map(alone, batch, batch_size=size)
    return jax.tree.map(lambda score: jnp.mean(score, axis=0), each)
