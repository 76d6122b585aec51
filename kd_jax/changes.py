"""A change of masks, a pure function of arrays: what is scored, what is cut, what that leaves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import learning, randomness
from kd_jax import optim as optim_lib
from kd_jax import step as step_lib
from kd_jax.batch import Batch
from kd_jax.objective import Settings, total
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune import Evidence, Random, cut
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.allocate import std_thresholds, surgery_thresholds
from kd_jax.prune.schedule import Action
from kd_jax.state import TrainState, no_masks
from kd_jax.tree import Tree, map_named, named_leaves

Array = jax.Array
Shown = Sequence[tuple[Batch, Any]]  # batches, each with the teacher's part in it
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
        factor for "std". Of others, the event's amount.
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
    if action not in ("prune", "choose", "rewind", "swap", "project"):
        return 0
    grows = action == "swap" and program.grows == "gradient"
    return max(settings.criterion.looks_at, 1 if grows else 0)


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
    if action == "splice":
        return masks_lib.splice(state.params, active, state.extra["thresholds"], *target)
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
    return cut.cut(program.structure, scores, active, target, program.normalise)


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
    return {name: jnp.asarray(target, jnp.float32) for name in named_leaves(active)}


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


def evidence(
    program: Program, settings: Settings, state: TrainState, active: Tree, shown: Shown
) -> Evidence:
    """What a criterion may look at, of the layers that have `active` masks."""
    seed, places = settings.seed, [program.position(state.step + i) for i in range(len(shown))]

    def loss_of(step: Array, batch: Batch, soft: Any):
        # Dense gradients: the masks are passed by, not applied, and the penalty knows of none.
        free = dataclasses.replace(state, step=step, masks=no_masks(state.params))
        parts_of = step_lib.loss_parts(program, settings, free, soft, batch)
        others = step_lib.beside(state)

        def loss(params: Tree) -> Array:
            return total(parts_of(masks_lib.straight_through(state.masks, params), *others)[0])

        return loss

    def view(step: Array, batch: Batch) -> Batch:
        return step_lib.views(program, seed, step // program.steps_per_epoch, batch)

    def network(params: Tree, collections: Any, inputs: Array, train: bool) -> Array:
        params = masks_lib.straight_through(state.masks, params)
        key = randomness.at_step(seed, "dropout", program.position(state.step))
        variables = {"params": params, **collections}
        return program.model.forward(variables, inputs, train=train, key=key)[0].logits

    pairs = list(zip(places, shown, strict=True))
    views = [view(step, batch) for step, (batch, _) in pairs]
    return Evidence(
        params=state.params,
        masks=active,
        key=randomness.at_step(seed, "criterion", state.step),
        losses=tuple(loss_of(step, batch, soft) for step, (batch, soft) in pairs),
        inputs=tuple(batch.inputs for batch in views),
        targets=tuple(batch.targets for batch in views if batch.targets is not None),
        network=network,
        collections=state.collections,
        shape=program.spec.shape,
        learned=learning.values(state),
        structure=program.structure,
    )


def upcoming(
    program: Program, seed: Array, step: Array, teacher: Teacher | None, data: Resident, count: int
) -> Shown:
    """The batches that the next steps take of resident data."""
    steps = [step + i for i in range(count)]
    orders = [step_lib.epoch_order(program, seed, at, data) for at in steps]
    pairs = zip(steps, orders, strict=True)
    return [step_lib.take(program, order, at, teacher, data) for at, order in pairs]


def _masked(masks: Any, params: Any, extra: dict[str, Any]) -> dict[str, Any]:
    """What a state carries besides, with zeros for what is pruned."""
    of_terms = {name: extra[name] for name in APART if name in extra}
    others = {name: part for name, part in extra.items() if name not in of_terms}
    return masks_lib.mask_like(masks, params, others) | of_terms
