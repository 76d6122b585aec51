"""A change of masks, a pure function of arrays: what is scored, what is cut, what that leaves."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import optim as optim_lib
from kd_jax import randomness
from kd_jax import step as step_lib
from kd_jax.batch import Batch
from kd_jax.objective import Settings, total
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune import Evidence, Random, cut, sensitivity
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.allocate import std_thresholds, surgery_thresholds
from kd_jax.prune.criteria import cross_entropy
from kd_jax.prune.schedule import Action
from kd_jax.state import TrainState, no_masks
from kd_jax.tree import Tree, named_leaves

Array = jax.Array
Shown = Sequence[tuple[Batch, Any]]  # batches, each with the teacher's part in it
# Of what a state carries these are not masked: a distillation term's projector is no part of the
# network, whatever its parameters are called, and what is saved will be masked when it is put back.
APART = ("terms", "terms_opt_state", "saved", "thresholds")


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
    active = active_masks(program, state)
    if action == "measure":
        thresholds = _thresholds(program, state, active, target)
        return dataclasses.replace(state, extra=state.extra | {"thresholds": thresholds})
    masks = _new_masks(program, settings, state, active, target, shown, action)
    masks = masks_lib.first(masks, state.masks)
    if action == "rewind":
        state = _rewound(state)
    if program.straight_through:
        return dataclasses.replace(state, masks=masks)
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
    if action not in ("prune", "choose", "rewind", "swap", "scatter"):
        return 0
    grows = action == "swap" and program.grows == "gradient"
    scans = action != "swap" and program.allocation == "sensitivity"
    scored = settings.criterion.looks_at if action != "scatter" else 0
    return max(scored, 1 if grows else 0, program.scan_batches if scans else 0)


def active_masks(program: Program, state: TrainState) -> Tree:
    """The masks of the layers that the stage prunes; None elsewhere."""
    given = (program.include, program.exclude, program.structure.fits)
    return masks_lib.among(state.masks, state.params, *given)


def _new_masks(
    program: Program,
    settings: Settings,
    state: TrainState,
    active: Tree,
    target: Any,
    shown: Shown,
    action: Action,
) -> Tree:
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
    seen = evidence(program, settings, state, active, shown)
    if action == "swap":
        growth = _growth(program, seen)
        return cut.swap(program.structure, settings.criterion(seen), growth, active, target)
    scores = Random()(seen) if action == "scatter" else settings.criterion(seen)
    if program.allocation == "sensitivity":
        target = _scanned(program, seen, scores, target)
    return cut.cut(program.structure, scores, active, target, program.normalise)


def _scanned(program: Program, seen: Evidence, scores: Tree, target: Any) -> dict[str, Array]:
    """{layer: units to keep}, by what a scan of the loss on the batches shown tells."""
    own, room = target if isinstance(target, tuple) else ({}, target)
    masks = masks_lib.map_layers(lambda name, m: None if name in own else m, seen.masks)
    layers = named_leaves(masks)
    costs: dict[str, Any] = dict.fromkeys(layers, 1)
    if program.budget == "macs":
        macs = sensitivity.macs(program.model, program.spec.shape, masks)
        costs = {name: macs[name] / program.structure.size(m.shape) for name, m in layers.items()}
        room = room * sum(macs.values())
    loss = loss_of_masks(seen, program.scan_batches)
    found = sensitivity.of_masks(program.structure, scores, masks, loss, costs, room)
    return {**own, **found}


def loss_of_masks(seen: Evidence, batches: int) -> Callable[[Tree], Array]:
    """Masks of some of the layers -> the mean cross-entropy with the labels of the first of the
    batches shown, in evaluation mode."""
    pairs = list(zip(seen.inputs[:batches], seen.targets[:batches], strict=True))

    def loss(changed: Tree) -> Array:
        params = masks_lib.apply(masks_lib.first(changed, seen.masks), seen.params)
        losses = [cross_entropy(seen.logits(params, x, train=False), t) for x, t in pairs]
        return sum(losses[1:], start=losses[0]) / len(losses)

    return loss


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
        zeros = {name: jnp.zeros(()) for name in named_leaves(active_masks(program, state))}
        state = dataclasses.replace(state, extra=state.extra | {"thresholds": zeros})
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
        own = {name: own.params for name, own in state.extra.get("terms", {}).items()}

        def loss(params: Tree) -> Array:
            return total(parts_of(masks_lib.straight_through(state.masks, params), own)[0])

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
