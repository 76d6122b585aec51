"""A change of masks, a pure function of arrays: what is scored, what is cut, what that leaves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from kd_jax import randomness
from kd_jax import step as step_lib
from kd_jax.batch import Batch
from kd_jax.objective import Settings, total
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune import Evidence
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.allocate import std_thresholds
from kd_jax.state import TrainState, no_masks
from kd_jax.tree import Tree

Array = jax.Array
Shown = Sequence[tuple[Batch, Any]]  # batches, each with the teacher's part in it


def change_masks(
    program: Program, settings: Settings, state: TrainState, target: Any, shown: Shown = ()
) -> TrainState:
    """Prunes: new masks, and zeros wherever they say so in parameters, moments and average.

    `shown` is what a criterion looks at. `target` is what the scope takes: {path name: weights to
    keep} for "layer", the number to keep for "global", θ for "threshold", Han's quality factor for
    "std".
    """
    # What an earlier stage pruned keeps its mask; only what this one includes is pruned further.
    active = masks_lib.among(state.masks, state.params, program.include, program.exclude)
    if program.scope in ("layer", "global"):
        scores = settings.criterion(evidence(program, settings, state, active, shown))
        keep = masks_lib.keep_per_layer if program.scope == "layer" else masks_lib.keep_global
        masks = keep(scores, active, target)
    else:
        theta = target
        if program.scope == "std":
            theta = std_thresholds(state.params, active, target)
        masks = masks_lib.below(state.params, active, theta)
    masks = masks_lib.first(masks, state.masks)
    return dataclasses.replace(
        state,
        masks=masks,
        params=masks_lib.apply(masks, state.params),
        opt_state=masks_lib.mask_like(masks, state.params, state.opt_state),
        extra=_masked(masks, state.params, state.extra),
    )


def evidence(
    program: Program, settings: Settings, state: TrainState, active: Tree, shown: Shown
) -> Evidence:
    """What a criterion may look at, of the layers that have `active` masks."""
    seed, places = settings.seed, [state.step + i for i in range(len(shown))]

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
        key = randomness.at_step(seed, "dropout", state.step)
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
    """What a state carries besides, with zeros for what is pruned. Distillation terms are left out:
    a projector is no part of the network, whatever its parameters are called."""
    of_terms = {name: extra[name] for name in ("terms", "terms_opt_state") if name in extra}
    others = {name: part for name, part in extra.items() if name not in of_terms}
    return masks_lib.mask_like(masks, params, others) | of_terms
