"""Numbers that are not finite: whether there are any, and in which part of the loss and by which
parameter they come first. Pure functions of one run."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.batch import Batch
from kd_jax.objective import Metrics, Settings
from kd_jax.program import Program
from kd_jax.splicing import spliced
from kd_jax.state import TrainState
from kd_jax.step import by_part, loss_parts
from kd_jax.tree import named_leaves

Array = jax.Array
Faults = tuple[dict[str, Array], dict[str, dict[str, Array]]]


def sound(state: TrainState, sums: Metrics) -> Array:
    """Whether what a run goes on with, and its loss so far, are finite. A gradient that is not is
    seen in the parameters it has moved; the square of one that is can be too much for Adam, which
    then moves that parameter no more."""
    seen = [jnp.all(jnp.isfinite(x)) for x in numbers(state).values()]
    return jnp.all(jnp.stack([*seen, jnp.isfinite(sums["loss"]).all()]))


def numbers(state: TrainState) -> dict[str, Array]:
    """{name: numbers} of parameters, statistics and the optimizer's moments."""
    kept = {"params": state.params, **state.collections, "moments": state.opt_state}
    return {n: x for n, x in named_leaves(kept).items() if jnp.issubdtype(x.dtype, jnp.inexact)}


def faults(
    program: Program, settings: Settings, state: TrainState, soft: Any, batch: Batch
) -> Faults:
    """({part of the loss: whether it is finite}, {part: {parameter: whether the part's gradient by
    it is}}) in the step that follows a state."""
    state = dataclasses.replace(state, step=program.position(state.step))
    state = spliced(program, settings, state)
    finite = lambda x: jnp.all(jnp.isfinite(x))  # noqa: E731
    see = lambda gradient: jax.tree.map(finite, gradient)  # noqa: E731
    parts, seen = by_part(loss_parts(program, settings, state, soft, batch), state, see)
    leaves = named_leaves(seen)
    gradients = {part: {n: x[i] for n, x in leaves.items()} for i, part in enumerate(parts)}
    return {part: finite(value) for part, value in parts.items()}, gradients
