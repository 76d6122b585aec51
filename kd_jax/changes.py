"""A change of masks, a pure function of arrays: what is scored, what is cut, what that leaves."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import learning
from kd_jax import optim as optim_lib
from kd_jax.objective import Settings
from kd_jax.program import Program
from kd_jax.prune import Evidence, Random, SparseGPT, cut
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.allocate import std_thresholds, surgery_thresholds
from kd_jax.prune.schedule import Action
from kd_jax.scoring import Shown, evidence, scanned
from kd_jax.state import TrainState
from kd_jax.tree import Tree, map_named, named_leaves

Array = jax.Array
# Of what a state carries these are not masked: a distillation term's projector is no part of the
# network, whatever its parameters are called, and what is saved will be masked when it is put back.
# What a criterion learns says which weights may come back.
APART = ("terms", "terms_opt_state", "saved", "thresholds", "learned", "drawn", "drawing")


def change_masks(
    program: Program,
    settings: Settings,
    state: TrainState,
    target: Any,
    shown: Shown = (),
    action: Action = "prune",
) -> TrainState:
    """Does what an event of the schedule says (see prune.schedule). Where masks hide weights for
    good, these are then zero in parameters, moments and average.

    Args:
      target: of actions that cut, what the allocation takes: {path name: units to keep}, or the
        number to keep of all layers, or both (see prune.cut); θ for "threshold", Han's quality
        factor for "std", or {layer: it}. Of others, the event's amount.
      shown: what the criterion looks at, see `looks_at`.
    """
    if action == "save":
        return _saved(state)
    if action == "reset":
        moments = optim_lib.transform(settings.optim).init(state.params)
        return dataclasses.replace(state, opt_state=moments)
    # What an earlier stage pruned keeps its mask; only what this one includes is pruned further.
    active = program.active(state.masks, state.params)
    if action == "measure":
        thresholds = _thresholds(program, state, active, target)
        return dataclasses.replace(state, extra=state.extra | {"thresholds": thresholds})
    if action == "project":
        return _projected(program, settings, state, active, target, shown)
    if action == "prune" and settings.criterion.rewrites:
        state, masks = _rewritten(program, settings, state, active, target, shown)
    else:
        masks = _new_masks(program, settings, state, active, target, shown, action)
    masks = masks_lib.first(masks, state.masks)
    if action == "rewind":
        state = _rewound(state)
    if program.straight_through or ("learned" in state.extra and action == "prune"):
        return dataclasses.replace(state, masks=masks)
    if "drawn" in state.extra:
        over = jnp.zeros((), bool)
        state = dataclasses.replace(state, extra=state.extra | {"drawing": over})
    if action == "settle":
        state = learning.settled(program, settings, dataclasses.replace(state, masks=masks))
    return dataclasses.replace(
        state,
        masks=masks,
        params=masks_lib.apply(masks, state.params),
        opt_state=masks_lib.mask_like(masks, state.params, state.opt_state),
        extra=_masked(masks, state.params, state.extra),
    )


def looks_at(program: Program, settings: Settings, action: Action) -> int:
    """How many batches of the stage's data an action is shown."""
    if action == "calibrate":
        return program.recalibrate
    if action not in ("prune", "choose", "rewind", "swap", "scatter", "project"):
        return 0
    grows = action == "swap" and program.grows == "gradient"
    scans = action != "swap" and program.allocation == "sensitivity"
    scored = settings.criterion.looks_at if action != "scatter" else 0
    return max(scored, 1 if grows else 0, program.scan_batches if scans else 0)


def _new_masks(
    program: Program,
    settings: Settings,
    state: TrainState,
    active: Tree,
    target: Any,
    shown: Shown,
    action: Action,
) -> Tree:
    if "learned" in state.extra:
        active = learning.candidates(state)
    if action in ("free", "choose"):
        active = jax.tree.map(jnp.ones_like, active)
    if action == "free":
        return active
    if action != "scatter" and program.allocation in ("threshold", "std"):
        theta = target
        if program.allocation == "std":
            theta = std_thresholds(state.params, active, target)
        return masks_lib.below(state.params, active, theta)
    seen = evidence(program, settings, _off(state), active, shown)
    if action == "swap":
        growth = _growth(program, seen)
        return cut.swap(program.structure, settings.criterion(seen), growth, active, target)
    scores = Random()(seen) if action == "scatter" else settings.criterion(seen)
    if program.allocation == "sensitivity":
        target = scanned(program, settings, state, active, shown, scores, target)
    return cut.cut(program.structure, scores, active, target, program.normalise)


def _rewritten(
    program: Program,
    settings: Settings,
    state: TrainState,
    active: Tree,
    target: Any,
    shown: Shown,
) -> tuple[TrainState, Tree]:
    """(the state with the weights that a criterion makes of them, new masks); what these are moved
    by, their average is moved by too."""
    seen, criterion = evidence(program, settings, state, active, shown), settings.criterion
    assert isinstance(criterion, SparseGPT)
    masks, weights = criterion.rewrite(seen, program.structure, target)
    params = map_named(lambda name, w: weights.get(name, w), state.params)
    extra = dict(state.extra)
    if "ema" in extra:
        moved = lambda a, new, old: a + new - old  # noqa: E731
        average = jax.tree.map(moved, extra["ema"]["params"], params, state.params)
        extra["ema"] = {**extra["ema"], "params": average}
    state = dataclasses.replace(state, params=params, extra=extra)
    return state, masks_lib.map_layers(lambda name, _: masks.get(name), active)


def _projected(
    program: Program,
    settings: Settings,
    state: TrainState,
    active: Tree,
    target: Any,
    shown: Shown,
) -> TrainState:
    """Z = Π(W + U), U ← U + W − Z; the first time U stays zero."""
    masks = named_leaves(_new_masks(program, settings, state, active, target, shown, "prune"))
    moved, weights = named_leaves(_off(state).params), named_leaves(state.params)
    drawing, drawn = state.extra["drawing"], {}
    for name, (_, u) in state.extra["drawn"].items():
        z = jnp.where(masks[name], moved[name], 0)
        drawn[name] = (z, jnp.where(drawing, u + weights[name] - z, u))
    extra = state.extra | {"drawn": drawn, "drawing": jnp.ones((), bool)}
    return dataclasses.replace(state, extra=extra)


def _off(state: TrainState) -> TrainState:
    """The state with W + U for W, where weights are drawn to sparse ones."""
    drawn = state.extra.get("drawn", {})
    add = lambda name, w: w + drawn[name][1] if name in drawn else w  # noqa: E731
    return dataclasses.replace(state, params=map_named(add, state.params)) if drawn else state


def _growth(program: Program, seen: Evidence) -> Tree:
    """Where weights are to grow: where the dense gradient is large, or at random."""
    if program.grows == "gradient":
        return jax.tree.map(jnp.abs, seen.gradient())
    # With a key of its own: the criterion may be random, too.
    return Random()(dataclasses.replace(seen, key=jax.random.fold_in(seen.key, 1)))


def _thresholds(program: Program, state: TrainState, active: Tree, target: Any) -> dict[str, Array]:
    if program.allocation == "std":
        return surgery_thresholds(state.params, active, target)
    each = target if isinstance(target, Mapping) else dict.fromkeys(named_leaves(active), target)
    return {name: jnp.asarray(each[name], jnp.float32) for name in named_leaves(active)}


def remember(program: Program, state: TrainState) -> TrainState:
    """The state at step 0 with room for what the schedule remembers."""
    if "thresholds" in program.remembers:
        active = program.active(state.masks, state.params)
        zeros = {name: jnp.zeros(()) for name in named_leaves(active)}
        state = dataclasses.replace(state, extra=state.extra | {"thresholds": zeros})
    if "drawn" in program.remembers:
        masks = named_leaves(program.active(state.masks, state.params))
        zeros = lambda mask: jnp.zeros(mask.shape, jnp.float32)  # noqa: E731
        drawn = {name: (zeros(mask), zeros(mask)) for name, mask in masks.items()}
        extra = state.extra | {"drawn": drawn, "drawing": jnp.zeros((), bool)}
        state = dataclasses.replace(state, extra=extra)
    return _saved(state) if "saved" in program.remembers else state


def _saved(state: TrainState) -> TrainState:
    others = {name: part for name, part in state.extra.items() if name != "saved"}
    saved = {"params": state.params, "collections": state.collections}
    saved |= {"opt_state": state.opt_state, "extra": others}
    return dataclasses.replace(state, extra=others | {"saved": jax.tree.map(jnp.copy, saved)})


def _rewound(state: TrainState) -> TrainState:
    saved = state.extra["saved"]
    return TrainState(
        step=state.step,
        params=saved["params"],
        collections=saved["collections"],
        masks=state.masks,
        opt_state=saved["opt_state"],
        extra=saved["extra"] | {"saved": saved},
    )


def _masked(masks: Any, params: Any, extra: dict[str, Any]) -> dict[str, Any]:
    """What a state carries besides, with zeros for what is pruned."""
    of_terms = {name: extra[name] for name in APART if name in extra}
    others = {name: part for name, part in extra.items() if name not in of_terms}
    return masks_lib.mask_like(masks, params, others) | of_terms
