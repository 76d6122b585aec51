"""Batch statistics estimated anew, of a network that was cut: those that it had are of another."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import randomness
from kd_jax.batch import Batch
from kd_jax.batches import epoch_order, take, views
from kd_jax.objective import Settings
from kd_jax.program import Program, Resident
from kd_jax.prune import masks as masks_lib
from kd_jax.state import TrainState

Array = jax.Array


def calibrated(
    program: Program, settings: Settings, state: TrainState, data: Resident | Sequence[Batch]
) -> TrainState:
    """The state whose collections have seen `program.recalibrate` more batches, in training mode,
    as its parameters are; and so have those of its averages.

    Args:
      data: the resident training split, of which the next steps' batches are taken; or these.
    """

    def batch_at(i: Array) -> Batch:
        step = state.step + i
        if not isinstance(data, Resident):
            return jax.tree.map(lambda *each: jnp.stack(each)[i], *data)
        order = epoch_order(program, settings.seed, step, data)
        return take(program, order, step, None, data)[0]

    def seen(params: Any, collections: Any) -> Any:
        params = masks_lib.apply(state.masks, params)

        def one(i: Array, collections: Any) -> Any:
            epoch = program.position(state.step + i) // program.steps_per_epoch
            batch = views(program, settings.seed, epoch, batch_at(i))
            key = randomness.at_step(settings.seed, "calibration", state.step + i)
            variables = {"params": params, **collections}
            return program.model.forward(variables, batch.inputs, train=True, key=key)[1]

        return jax.lax.fori_loop(0, program.recalibrate, one, collections)

    extra = dict(state.extra)
    if "ema" in extra:
        average = extra["ema"]
        collections = seen(average["params"], average["collections"])
        extra["ema"] = {**average, "collections": collections}
    collections = seen(state.params, state.collections)
    return dataclasses.replace(state, collections=collections, extra=extra)
