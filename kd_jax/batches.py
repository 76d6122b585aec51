"""Which examples a step is given, a function of (seed, step), and how they are shown."""

from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import randomness
from kd_jax.augment import augment
from kd_jax.batch import Batch
from kd_jax.forward import Outputs
from kd_jax.program import Program, Resident, Teacher

Array = jax.Array


def epoch_order(program: Program, seed: Array, step: Array, data: Resident) -> Array:
    """The examples' order [N] in the epoch of a step. A sort: it is made once for many steps."""
    epoch = program.position(step) // program.steps_per_epoch
    return jax.random.permutation(randomness.at_step(seed, "order", epoch), data.ids.size)


def take(
    program: Program, order: Array, step: Array, teacher: Teacher | None, data: Resident
) -> tuple[Batch, Any]:
    """The batch of a step, a function of (seed, step); and the teacher's part in it."""
    first = (program.position(step) % program.steps_per_epoch) * program.batch
    rows = jax.lax.dynamic_slice(order, (first,), (program.batch,))
    batch = batch_of(data, rows)
    if teacher is None:
        return batch, None
    return batch, teacher.variables if teacher.logits is None else Outputs(teacher.logits[rows])


def batch_of(data: Resident, rows: Array) -> Batch:
    """The examples in these rows."""
    weights = jnp.ones(rows.shape, jnp.float32)
    return Batch(data.ids[rows], data.inputs[rows], data.labels[rows], weights)


def views(program: Program, seed: Array, epoch: Any, batch: Batch, view: str = "augment") -> Batch:
    """A batch as it is shown in an epoch, split over the devices; its second view by that name."""
    if program.sharding is not None:
        batch = jax.lax.with_sharding_constraint(batch, program.sharding)
    # What a student learns does not depend on whether its teacher is asked or replayed, to the bit:
    # neither views nor, in a lesson, outputs are fused with what comes after.
    how = program.augment if view == "augment" else program.second
    assert how is not None
    batch = augment(how, seed, epoch, batch, program.spec, view)
    return jax.lax.optimization_barrier(batch)
