"""Masks that move within the steps: dynamic network surgery."""

import dataclasses

import jax
import jax.numpy as jnp

from kd_jax import randomness
from kd_jax.objective import Settings
from kd_jax.program import Program
from kd_jax.prune import masks as masks_lib
from kd_jax.state import TrainState


def spliced(program: Program, settings: Settings, state: TrainState) -> TrainState:
    """The state with the masks that surgery leaves before a step; where there is none, as it is.

    Guo, Yao, Chen, "Dynamic Network Surgery for Efficient DNNs", 2016,
    https://arxiv.org/abs/1608.04493. No layer is watched for being emptied: a weight that grows
    above its threshold brings it back.
    """
    how = program.surgery
    if how is None:
        return state
    due = how.due(
        randomness.at_step(settings.seed, "surgery", state.step), state.step, program.steps
    )
    # What an earlier stage pruned keeps its mask; only what this one includes is moved.
    active = program.active(state.masks, state.params)
    moved = masks_lib.splice(state.params, active, state.extra["thresholds"], how.low, how.high)
    moved = jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, active)
    return dataclasses.replace(state, masks=masks_lib.first(moved, state.masks))
