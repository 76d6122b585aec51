"""Many runs in one program: seeds, and settings that differ in numbers alone, as a mapped axis.

A function of one run is mapped over S seeds and V variants of its settings. What differs by run has
a leading axis of S·V, seed by seed; what differs by seed alone, such as a teacher and the batches
it sees, one of S, and is computed once for all variants.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.objective import Settings
from kd_jax.program import VARIANTS
from kd_jax.state import TrainState

Array = jax.Array
Axes = Any  # as jax.vmap takes them

RUN = 0  # of what has a leading axis of runs; or of seeds, which is seen by its length
SAME = None  # of what is the same for all runs
STATE: Axes = TrainState(
    # All runs are at the same step: so nothing that a batch depends on differs by variant.
    *(None, RUN, RUN, RUN, RUN, RUN)  # type: ignore[arg-type]
)
VARIANT = "variant"  # of what has an axis of variants, if there are several


def over_runs(function: Callable, in_axes: Sequence[Axes], out_axes: Axes = RUN) -> Callable:
    """(settings, seeds [S], ...) -> function(settings of a run, ...) for all runs, [S·V, ...].

    Args:
      in_axes: of the other arguments: RUN, STATE, SAME or VARIANT.
      out_axes: of the results: RUN or STATE.
    """

    def one(settings: Settings, seed: Array, *rest: Any) -> Any:
        return function(dataclasses.replace(settings, seed=seed), *rest)

    def all_runs(settings: Settings, seeds: Array, *rest: Any) -> Any:
        count, variants = seeds.size, settings.variants
        outer = [None if axes is VARIANT else axes for axes in in_axes]
        if variants == 1:
            mapped = jax.vmap(one, in_axes=(None, 0, *outer), out_axes=out_axes)
            return mapped(settings, seeds, *rest)
        runs = count * variants
        inner = [
            SAME if axes == RUN and length(x) == count else RUN if axes is VARIANT else axes
            for axes, x in zip(in_axes, rest, strict=True)
        ]
        split = lambda x: x.reshape(count, variants, *x.shape[1:])  # noqa: E731
        rest = tuple(
            _reshaped(split, i, x) if o is not None else x
            for i, o, x in zip(inner, outer, rest, strict=True)
        )
        swept = jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, settings)
        mapped = {"in_axes": (swept, None, *inner), "out_axes": out_axes}
        # The size: what differs may be the teacher alone, which not all programs are given.
        mapped |= {"axis_size": variants, "axis_name": VARIANTS}
        by_variant = jax.vmap(one, **mapped)
        by_seed = jax.vmap(by_variant, in_axes=(None, 0, *outer), out_axes=out_axes)
        result = by_seed(settings, seeds, *rest)
        return _reshaped(lambda x: x.reshape(runs, *x.shape[2:]), out_axes, result)

    return all_runs


def over_seeds(function: Callable, in_axes: Sequence[Axes]) -> Callable:
    """As `over_runs`, of a function of what is the same for all variants: [S, ...]."""

    def all_seeds(settings: Settings, seeds: Array, *rest: Any) -> Any:
        one = lambda seed, *rest: function(dataclasses.replace(settings, seed=seed), *rest)  # noqa: E731
        return jax.vmap(one, in_axes=(0, *in_axes))(seeds, *rest)

    return all_seeds


def _reshaped(change: Callable, axes: Axes, tree: Any) -> Any:
    """The leaves that have an axis of runs, changed."""
    if axes is None:
        return tree
    if isinstance(axes, tuple):
        return tuple(_reshaped(change, a, x) for a, x in zip(axes, tree, strict=True))
    if isinstance(tree, TrainState):
        rest = jax.tree.map(change, dataclasses.replace(tree, step=None))
        return dataclasses.replace(rest, step=tree.step)
    return jax.tree.map(change, tree)


def length(x: Any) -> int | None:
    """How many runs or seeds a tree [S, ...] or [S·V, ...] is of; None of an empty tree."""
    leaves = jax.tree.leaves(x)
    return leaves[0].shape[0] if leaves else None


def joined(variants: Sequence[Any]) -> Any:
    """One tree of several that differ in numbers alone: a leaf that differs is an array [V].

    Raises ValueError where the trees differ in anything else.
    """
    first = variants[0]
    if len(variants) == 1:
        return first
    leaf = lambda *xs: xs[0] if all(x == xs[0] for x in xs) else jnp.asarray(xs)  # noqa: E731
    return jax.tree.map(leaf, *variants)


def of_variant(tree: Any, index: int, variants: int) -> Any:
    """The runs of one variant, [S, ...], of all runs [S·V, ...]."""
    return tree if variants == 1 else jax.tree.map(lambda x: x[index::variants], tree)


def of_runs(trees: Sequence[Any]) -> Any:
    """All runs [S·V, ...], of the runs [S, ...] of each variant; the inverse of `of_variant`."""
    together = lambda *xs: jnp.stack(xs, axis=1).reshape(-1, *xs[0].shape[1:])  # noqa: E731
    return jax.tree.map(together, *trees)
