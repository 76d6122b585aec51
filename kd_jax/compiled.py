"""The pure steps made into compiled programs: over all seeds at once, donated, on the devices."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import state as state_lib
from kd_jax import step as step_lib
from kd_jax.batch import Batch
from kd_jax.datasets import Spec
from kd_jax.devices import replicated
from kd_jax.forward import Model
from kd_jax.objective import Metrics, Settings
from kd_jax.state import Snapshot, TrainState
from kd_jax.step import Program, Resident, Teacher

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The programs of a stage. Every state, snapshot and metric has a leading axis of S seeds;
    the data have none.

    Attributes:
      advance: (state, sums, teacher, data, steps) -> (state, sums); state and sums are donated.
      step: (state, sums, teacher, batch) -> (state, sums), for streamed data.
      change_masks: (state, target) -> state; donated.
      zeros: (state, teacher, data or batch) -> sums of no steps.
    """

    advance: Callable[..., tuple[TrainState, Metrics]]
    step: Callable[..., tuple[TrainState, Metrics]]
    change_masks: Callable[[TrainState, Any], TrainState]
    zeros: Callable[..., Metrics]


def build(program: Program, settings: Settings, seeds: Array, loop: bool) -> Compiled:
    """Programs for runs that differ in their seed alone, `seeds` [S]."""
    home = replicated(program.sharding)

    def over_seeds(function: Callable, *axes: int | None) -> Callable:
        """function(settings, ...) for all seeds, its other arguments mapped as `axes` say."""
        one = lambda seed, *rest: function(settings.replace(seed=seed), *rest)  # noqa: E731
        return partial(jax.vmap(one, in_axes=(0, *axes)), seeds)

    def one_step(settings, state, sums, teacher, batch):
        soft = None if teacher is None else teacher.variables
        state, metrics = step_lib.train_step(program, settings, state, soft, batch)
        return state, jax.tree.map(jnp.add, sums, metrics)

    def one_resident(settings, state, sums, teacher, data):
        batch, soft = step_lib.take(program, settings.seed, state.step, teacher, data)
        state, metrics = step_lib.train_step(program, settings, state, soft, batch)
        return state, jax.tree.map(jnp.add, sums, metrics)

    jit = partial(jax.jit, donate_argnums=(0, 1), out_shardings=home)
    step = jit(over_seeds(one_step, 0, 0, 0, None))
    if loop:
        pure = partial(step_lib.advance, program)
        advance = jit(over_seeds(pure, 0, 0, 0, None, None))
    else:
        single = jit(over_seeds(one_resident, 0, 0, 0, None))
        advance = partial(_dispatch, single)
    change = jax.jit(
        over_seeds(partial(step_lib.change_masks, program), 0, None),
        donate_argnums=0,
        out_shardings=home,
    )

    def zeros(state: TrainState, teacher: Teacher | None, data: Resident | Batch) -> Metrics:
        def metrics(settings, state, teacher, data):
            batch, soft = data, None if teacher is None else teacher.variables
            if isinstance(data, Resident):
                batch, soft = step_lib.take(program, settings.seed, state.step, teacher, data)
            return step_lib.train_step(program, settings, state, soft, batch)[1]

        shapes = jax.eval_shape(over_seeds(metrics, 0, 0, None), state, teacher, data)
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.device_put(none, home)

    return Compiled(advance, step, change, zeros)


def _dispatch(single: Callable, state, sums, teacher, data, steps: int):
    """`steps` calls of a compiled step, sent without waiting for one another."""
    for _ in range(steps):
        state, sums = single(state, sums, teacher, data)
    return state, sums


def initial(
    program: Program,
    settings: Settings,
    seeds: Array,
    start: Snapshot | None,
    fresh: Callable[[Array], Snapshot],
    masked: Callable[[Snapshot], Snapshot],
) -> TrainState:
    """The state at step 0, [S, ...].

    It starts from `start` [S, ...] or else from `fresh(seed)`, with the masks that `masked` adds.
    """

    def one(seed: Array, start: Snapshot | None) -> TrainState:
        snapshot = masked(fresh(seed) if start is None else start)
        return state_lib.start(snapshot, settings.optim, settings.ema is not None)

    axes = (0, None if start is None else 0)
    return jax.jit(jax.vmap(one, axes), out_shardings=replicated(program.sharding))(seeds, start)


def predictor(model: Model, spec: Spec, batch: int) -> Callable[[Snapshot, Array], Array]:
    """(snapshot [S, ...], inputs [N, ...]) -> logits float32 [S, N, K]."""
    one = partial(step_lib.predict, model, spec, batch)
    return jax.jit(jax.vmap(one, in_axes=(0, None)))
