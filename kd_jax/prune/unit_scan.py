"""What the loss becomes where one group of units alone is cut, by more and more."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.forward import Variables
from kd_jax.prune import sensitivity
from kd_jax.prune.groups import Structure
from kd_jax.prune.unit_evidence import Loss
from kd_jax.tree import map_named

Array = jax.Array


@flax.struct.dataclass
class UnitScan:
    """Of K levels, the first with all units; of one network, or [S, K] of S.

    Attributes:
      kept: {group: [K]}, units that are kept.
      losses: {group: [K]}, the loss when so many of this group are.
    """

    kept: dict[str, Any]
    losses: dict[str, Any]

    def mean(self) -> "UnitScan":
        """Over the networks; in NumPy."""
        mean = lambda x: np.reshape(x, (-1, x.shape[-1])).mean(axis=0)  # noqa: E731
        return jax.tree.map(mean, jax.device_get(self))


def scan_units(
    structure: Structure,
    variables: Variables,
    scores: Mapping[str, Array],
    loss: Loss,
    batches: Sequence[Any],
) -> UnitScan:
    """Of one network, by the mean loss over batches; vmap it over many. Units are cut that score
    lowest. The scan is that of `sensitivity`.

    Args:
      scores: {group: [units]}, of the groups to try.
      loss: (variables, batch) -> scalar; a mean over examples.
    """
    groups = [group for group in structure.groups if group.name in scores]
    order = {g.name: jnp.argsort(-scores[g.name], stable=True) for g in groups}
    count = lambda order: jnp.arange(order.size, dtype=order.dtype)  # noqa: E731
    place = {n: jnp.zeros_like(o).at[o].set(count(o)) for n, o in order.items()}
    kept = sensitivity.levels(jnp.array([group.size for group in groups]))

    def of_counts(counts: Array, batch: Any) -> Array:
        alive = {g.name: place[g.name] < n for g, n in zip(groups, counts, strict=True)}
        return loss(emptied(structure, variables, alive), batch)

    # One batch after the other, each with all levels: a loop is compiled once.
    tried = jax.jit(lambda batch: sensitivity.scan(lambda k: of_counts(k, batch), kept))
    found = [tried(batch) for batch in batches]
    losses = sum(found[1:], start=found[0]) / len(found)
    names = [group.name for group in groups]
    return UnitScan(dict(zip(names, kept, strict=True)), dict(zip(names, losses, strict=True)))


def emptied(structure: Structure, variables: Variables, alive: Mapping[str, Array]) -> Variables:
    """The variables at full size, with the parameters of units that are not alive set to zero; as
    `zeroed`, of marks [units] that may be traced."""
    axes = marks(structure, alive)

    def masked(name: str, leaf: Any) -> Any:
        for axis, left in axes.get(name, {}).items() if name.startswith("params/") else ():
            others = [1] * leaf.ndim
            others[axis] = left.size
            leaf = leaf * left.reshape(others).astype(leaf.dtype)
        return leaf

    return map_named(masked, variables)


def marks(structure: Structure, alive: Mapping[str, Array]) -> dict[str, dict[int, Array]]:
    """{leaf: {axis: [its size]}}: what is left of each axis that loses units which are not alive;
    as `Structure.indices`, of marks [units] that may be traced."""
    axes: dict[str, dict[int, Array]] = {}
    for group in structure.groups:
        for leaf, axis in group.entries if group.name in alive else ():
            of_leaf = axes.setdefault(leaf, {})
            unit = group.unit_at(leaf, axis, structure.shapes[leaf][axis])
            left = jnp.append(alive[group.name], True)[unit]
            of_leaf[axis] = of_leaf[axis] & left if axis in of_leaf else left
    return axes
