"""What criteria are shown when masks change: the network, and the stage's own loss on batches."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from kd_jax import batches as batches_lib
from kd_jax import learning, randomness
from kd_jax import step as step_lib
from kd_jax.batch import Batch
from kd_jax.objective import Settings, total
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune import Evidence, sensitivity
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.criteria import cross_entropy
from kd_jax.state import TrainState, no_masks
from kd_jax.tree import Tree, named_leaves

Array = jax.Array
Shown = Sequence[tuple[Batch, Any]]  # batches, each with the teacher's part in it


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
        return batches_lib.views(program, seed, step // program.steps_per_epoch, batch)

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
    orders = [batches_lib.epoch_order(program, seed, at, data) for at in steps]
    pairs = zip(steps, orders, strict=True)
    return [batches_lib.take(program, order, at, teacher, data) for at, order in pairs]


def scanned(
    program: Program,
    settings: Settings,
    state: TrainState,
    active: Tree,
    shown: Shown,
    scores: Tree,
    target: Any,
) -> dict[str, Array]:
    """{layer: units to keep}, by what a scan of the loss on the batches shown tells."""
    own, room = target if isinstance(target, tuple) else ({}, target)
    masks = masks_lib.map_layers(lambda name, m: None if name in own else m, active)
    layers = named_leaves(masks)
    costs: dict[str, Any] = dict.fromkeys(layers, 1)
    if program.budget == "macs":
        macs = sensitivity.macs(program.model, program.spec.shape, masks)
        costs = {name: macs[name] / program.structure.size(m.shape) for name, m in layers.items()}
        room = room * sum(macs.values())
    loss = loss_of_masks(program, settings, state, shown[: program.scan_batches])
    found = sensitivity.of_masks(program.structure, scores, masks, loss, costs, room)
    return {**own, **found}


def loss_of_masks(
    program: Program, settings: Settings, state: TrainState, shown: Shown
) -> Callable[[Tree], Array]:
    """Masks of some of the layers, the others being as they are -> the mean cross-entropy with the
    labels of the batches shown, in evaluation mode."""
    free = dataclasses.replace(state, masks=no_masks(state.params))
    seen = evidence(program, settings, free, free.masks, shown)
    pairs = list(zip(seen.inputs, seen.targets, strict=True))

    def loss(changed: Tree) -> Array:
        params = masks_lib.apply(masks_lib.first(changed, state.masks), state.params)
        losses = [cross_entropy(seen.logits(params, x, train=False), t) for x, t in pairs]
        return sum(losses[1:], start=losses[0]) / len(losses)

    return loss
