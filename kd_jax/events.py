"""When the masks of a stage change, and to how much."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import Prune, Stage
from kd_jax.errors import require
from kd_jax.prune import allocate
from kd_jax.prune import masks as masks_lib
from kd_jax.state import TrainState
from kd_jax.tree import named_leaves

Array = jax.Array


def events(variants: Sequence[Stage], steps: int, state: TrainState) -> dict[int, Any]:
    """{step: what change_masks takes}, with exact counts for exact sparsity; of several variants
    stacked, [V]."""
    first = variants[0]
    if not isinstance(first, Prune):
        return {}
    active = masks_lib.among(state.masks, state.params, first.include, first.exclude)
    sizes = {name: mask[0].size for name, mask in named_leaves(active).items()}
    alive = {name: alive_of(mask) for name, mask in named_leaves(active).items()}
    each = []
    for i, stage in enumerate(variants):
        assert isinstance(stage, Prune)
        left = {name: counts[i :: len(variants)] for name, counts in alive.items()}
        each.append(_events_of(stage, steps, sizes, left))
    if len(variants) == 1:
        return each[0]
    stacked = lambda *targets: jnp.asarray(targets)  # noqa: E731
    return {step: jax.tree.map(stacked, *(one[step] for one in each)) for step in each[0]}


def _events_of(
    stage: Prune, steps: int, sizes: dict[str, int], alive: dict[str, np.ndarray]
) -> dict[int, Any]:
    """Of one variant, whose layers have lost what `alive` [S] no longer has."""
    if stage.scope in ("threshold", "std"):
        return {step: stage.threshold for step, _ in stage.schedule.events(steps, stage.sparsity)}
    count = allocate.per_layer if stage.scope == "layer" else allocate.total
    _check_reachable(stage, count(sizes, stage.sparsity), alive)
    # Seeds may differ in what they have lost; all begin at what the densest has.
    already = 1 - max(np.sum(list(alive.values()), axis=0)) / sum(sizes.values())
    found = stage.schedule.events(steps, stage.sparsity, min(already, stage.sparsity))
    return {step: count(sizes, sparsity) for step, sparsity in found}


def alive_of(mask: Array) -> np.ndarray:
    """Entries that are kept, of masks [S·V, ...]: an integer a run."""
    return np.asarray(jnp.sum(mask, axis=range(1, mask.ndim)))


def _check_reachable(stage: Prune, keep: Any, alive: dict[str, np.ndarray]) -> None:
    """What is pruned stays pruned: a start that has lost more than the target can't reach it."""
    wanted = keep if isinstance(keep, dict) else {"its prunable layers": keep}
    left = alive if isinstance(keep, dict) else {"its prunable layers": sum(alive.values())}
    for name, count in wanted.items():
        require(
            int(np.min(left[name])) >= count,
            f"sparsity {stage.sparsity:g} keeps {count} of {name}, but the network it starts from "
            f"has only {np.min(left[name])} left, and what is pruned stays pruned: raise it",
        )


def event_steps(stage: Stage, steps: int) -> list[int]:
    """When masks change, in a stage of so many steps."""
    if not isinstance(stage, Prune):
        return []
    return [step for step, _ in stage.schedule.events(steps, stage.sparsity)]
