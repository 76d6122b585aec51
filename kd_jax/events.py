"""When the masks of a stage change, to how much, and how they are cut."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import Prune, Stage
from kd_jax.errors import require
from kd_jax.prune import DNS, Granularity, Learned, allocate
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.schedule import Action, Event
from kd_jax.quantize.network import QUANTISED
from kd_jax.state import TrainState
from kd_jax.tree import named_leaves

Array = jax.Array
Shapes = dict[str, tuple[int, ...]]
Alive = dict[str, np.ndarray]  # {layer: units that are left, of each run}
# The actions that cut to a number, or a threshold.
CUTS = ("prune", "scatter", "choose", "rewind", "settle", "project")


def events(
    variants: Sequence[Stage], steps: int, state: TrainState
) -> dict[int, list[tuple[Action, Any]]]:
    """{step: [(action, what change_masks takes)]}, with exact counts for exact sparsity; of several
    variants stacked, [V]."""
    first = variants[0]
    statistics = state.collections.keys() - {QUANTISED}
    when = calibrated_at(first, steps) if statistics else ()
    if not isinstance(first, Prune):
        return {step: [("calibrate", None)] for step in when}
    shapes, alive = _layers(first, state)
    each = []
    for i, stage in enumerate(variants):
        assert isinstance(stage, Prune)
        left = {name: counts[i :: len(variants)] for name, counts in alive.items()}
        each.append(_targets(stage, steps, shapes, left))
    found: dict[int, list[tuple[Action, Any]]] = {}
    for together in zip(*each, strict=True):
        step, action, target = together[0]
        if len(variants) > 1:
            target = jax.tree.map(lambda *x: np.asarray(x), *(one[2] for one in together))
        found.setdefault(step, []).append((action, target))
    for step in when:  # at once: after the last cut
        found.setdefault(step or max(found), []).append(("calibrate", None))
    return found


def calibrated_at(stage: Stage, steps: int) -> tuple[int, ...]:
    """After how many of its steps batch statistics are estimated anew: none where a stage cuts at
    once, all where it averages."""
    when = [0] * stage.at_once + [steps] * (stage.swa is not None)
    return tuple(when) if stage.recalibrate else ()


def averaged(stage: Stage, length: int, steps_per_epoch: int) -> tuple[int, int] | None:
    """(first, every): after how many steps of a training networks are averaged, see
    optim.equal_average; None where they aren't."""
    if stage.swa is None:
        return None
    return max(1, int(stage.swa * length / steps_per_epoch)) * steps_per_epoch, steps_per_epoch


def _layers(stage: Prune, state: TrainState) -> tuple[Shapes, Alive]:
    """The layers that a stage prunes."""
    structure = stage.structure
    one = jax.eval_shape(lambda p: jax.tree.map(lambda x: x[0], p), state.params)
    active = masks_lib.among(state.masks, one, stage.include, stage.exclude, structure.fits)
    layers = named_leaves(active)
    shapes = {name: mask.shape[1:] for name, mask in layers.items()}
    return shapes, {name: np.asarray(counts) for name, counts in _alive(structure, layers).items()}


@functools.partial(jax.jit, static_argnums=0)  # one program, not several for each layer
def _alive(structure: Granularity, layers: dict[str, Array]) -> dict[str, Array]:
    return {name: jax.vmap(structure.alive)(mask) for name, mask in layers.items()}


def _targets(
    stage: Prune, steps: int, shapes: Shapes, alive: Alive
) -> list[tuple[int, Action, Any]]:
    """(step, action, target) of one variant, whose layers have lost what is not `alive` [S]."""
    final = stage.sparsity
    if stage.allocation in ("threshold", "std"):
        cuts = (*CUTS, "measure")
        own = allocate.of_layers("thresholds", stage.thresholds, [*shapes])
        theta = dict.fromkeys(shapes, stage.threshold) | own if own else stage.threshold
        found = _scheduled(stage, steps)
        return [(e.step, e.action, theta if e.action in cuts else e.amount) for e in found]
    sizes = {name: stage.structure.size(shape) for name, shape in shapes.items()}
    amounts = allocate.of_layers("amounts", stage.amounts, [*shapes])

    def count(sparsity: float, most: dict[str, int] | None = None) -> allocate.Counts | float:
        if stage.budget != "units":
            return allocate.room(stage.budget, sizes, sparsity)
        share = sparsity / final if final else 1.0
        own = {name: amount * share for name, amount in amounts.items()}
        return allocate.counts(stage.allocation, shapes, sizes, sparsity, own, most)

    _check_reachable(stage, count(final), alive)
    # Seeds may differ in what they have lost; all begin at what the densest has.
    already = 1 - max(np.sum(list(alive.values()), axis=0)) / sum(sizes.values())
    already = already if stage.budget == "units" else 0.0
    left, targets = {name: int(np.min(counts)) for name, counts in alive.items()}, []
    for event in _scheduled(stage, steps, min(already, final)):
        target = event.amount
        if event.action in CUTS:
            target = count(event.sparsity, left)
            left = left | target if isinstance(target, dict) else left
        if event.action in ("free", "choose"):
            left = sizes
        targets.append((event.step, event.action, target))
    return targets


def _scheduled(stage: Prune, steps: int, start: float = 0.0) -> list[Event]:
    """The schedule's events, of which the last one settles what a criterion has learned."""
    found = stage.schedule.events(steps, stage.sparsity, start)
    if not isinstance(stage.criterion, Learned):
        return found
    return [*found[:-1], found[-1]._replace(action="settle")]


def alive_of(masks: list[Array]) -> np.ndarray:
    """Entries that are kept, of the masks [S·V, ...] of all layers: an integer a run."""
    return np.sum([np.asarray(counts) for counts in _entries(masks)], axis=0)


@jax.jit
def _entries(masks: list[Array]) -> list[Array]:
    return [jnp.sum(mask, axis=range(1, mask.ndim)) for mask in masks]


def _check_reachable(stage: Prune, keep: allocate.Counts | float, alive: Alive) -> None:
    """What is pruned stays pruned: a start that has lost more than the target can't reach it."""
    if isinstance(keep, float):
        return  # a share of the work, of which what is left may be any
    own, rest = keep if isinstance(keep, tuple) else (keep, None)
    own, rest = (own, rest) if isinstance(own, dict) else ({}, own)
    left = {name: int(np.min(counts)) for name, counts in alive.items()}
    others = sum(counts for name, counts in alive.items() if name not in own)
    wanted = own if rest is None else own | {"its prunable layers": rest}
    for name, count in wanted.items():
        there = left[name] if name in left else int(np.min(others))
        require(
            there >= count,
            f"sparsity {stage.sparsity:g} keeps {count} of {name}, but the network it starts from "
            f"has only {there} left, and what is pruned stays pruned: raise it",
        )


def event_steps(stage: Stage, steps: int) -> list[tuple[int, Action]]:
    """When masks change, in a stage of so many steps, and by what."""
    if not isinstance(stage, Prune):
        return []
    return [(event.step, event.action) for event in _scheduled(stage, steps)]


def pruning(stage: Prune, steps: int) -> dict[str, Any]:
    """What of pruning chooses the program: how masks are cut and act, not when they change."""
    names = ("include", "exclude", "allocation", "budget", "scan_batches", "normalise")
    names = (*names, "structure")
    schedule = stage.schedule
    return {name: getattr(stage, name) for name in names} | {
        "straight_through": schedule.straight_through,
        "grows": schedule.grows,
        "remembers": schedule.remembers,
        "rewound": schedule.rewinds(steps),
        "surgery": schedule if isinstance(schedule, DNS) else None,
    }
