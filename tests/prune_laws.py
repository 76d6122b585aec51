"""What holds at the end of every pruning stage, however it prunes."""

import jax
import numpy as np
import tiny

from kd_jax.prune import allocate
from kd_jax.prune import masks as masks_lib
from kd_jax.state import rest
from kd_jax.tree import named_leaves

ALLOCATIONS = ("layer", "global", "erk", "sensitivity", "threshold", "std")


def wanted(stage, shapes):
    """Units to keep, by hand of `allocate`, of the layers of these shapes."""
    sizes = {name: stage.structure.size(shape) for name, shape in shapes.items()}
    amounts = allocate.of_layers("amounts", stage.amounts, [*shapes])
    return allocate.counts(stage.allocation, shapes, sizes, stage.sparsity, amounts)


def check(stage, state):
    """Exactly as many units are left as asked for; masks are congruent with the parameters; and
    what is masked is zero in parameters, moments and average, if it is hidden for good."""
    is_none = lambda m: m is None  # noqa: E731
    assert jax.tree.structure(state.masks, is_leaf=is_none) == jax.tree.structure(state.params)
    masks = named_leaves(state.masks)
    params = named_leaves(rest(state).params)
    for name, mask in masks.items():
        assert mask.dtype == bool
        assert mask.shape == params[name].shape
        np.testing.assert_array_equal(np.asarray(params[name])[~np.asarray(mask)], 0)
    if stage.allocation not in ("threshold", "std"):
        _check_counts(stage, masks)
    if not stage.schedule.straight_through:
        held = {"params": state.params, "moments": state.opt_state}
        held |= {"ema": state.extra["ema"]} if "ema" in state.extra else {}
        assert not tiny.differences(masks_lib.mask_like(state.masks, state.params, held), held)


def _check_counts(stage, masks):
    shapes = {name: mask.shape[1:] for name, mask in masks.items()}
    left = {name: jax.vmap(stage.structure.alive)(mask) for name, mask in masks.items()}
    keep = wanted(stage, shapes)
    own, together = keep if isinstance(keep, tuple) else (keep, None)
    own, together = (own, together) if isinstance(own, dict) else ({}, own)
    for name, count in own.items():
        assert left[name].tolist() == [count] * len(left[name]), name
    if together is not None:
        others = sum(np.asarray(counts) for name, counts in left.items() if name not in own)
        assert others.tolist() == [together] * len(others)
