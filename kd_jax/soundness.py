"""What is wrong with networks at rest, whoever made them: numbers that are not finite, layers of
which nothing is left."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.errors import require
from kd_jax.state import Snapshot
from kd_jax.tree import named_leaves

Array = jax.Array


@jax.jit
def _finite(leaves: dict[str, Array]) -> dict[str, Array]:
    """{name: whether all numbers are finite, of each network [S, ...]}; one program for all."""
    return {name: jnp.isfinite(x).all(axis=range(1, x.ndim)) for name, x in leaves.items()}


def check_finite(who: str, network: Snapshot, seeds: Any = ()) -> None:
    """Raises UsageError, which begins with `who` and names the parameter, for a network [S, ...] of
    which a number is not finite; and these seeds, of which each may have several settings."""
    leaves = named_leaves(network.variables)
    real = {n: x for n, x in leaves.items() if jnp.issubdtype(x.dtype, jnp.inexact)}
    found = {name: np.asarray(fine) for name, fine in _finite(real).items()}
    lost = [name for name in real if not found[name].all()]  # jit gives them in another order
    if not lost:
        return
    rows = np.flatnonzero(~np.logical_and.reduce([*found.values()]))
    of = f" (seed {seeds_of(rows, seeds, len(found[lost[0]]))})" if len(seeds) else ""
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    require(
        False,
        f"{who}: {lost[0]}{more} is not finite{of}: take another network, or make that one anew",
    )


def seeds_of(rows: Sequence[int] | np.ndarray, seeds: Any, runs: int) -> str:
    """Those of these runs, in words; there are `runs` of all seeds, seed by seed."""
    each = runs // len(seeds)
    return ", ".join(map(str, sorted({int(seeds[row // each]) for row in rows})))


def empty_layers(network: Snapshot) -> list[str]:
    """A layer without weights passes nothing on: such a network can only guess."""
    found = []
    for name, mask in named_leaves(network.masks).items():
        kept = np.asarray(jnp.sum(mask, axis=range(1, mask.ndim)))
        if not kept.all():
            found.append(f"warning: {name} has lost all its weights in {np.sum(kept == 0)} seed(s)")
    return found
