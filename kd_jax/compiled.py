"""The pure steps made into compiled programs: over all seeds at once, donated, on the devices.

Programs are kept: stages and seeds that make the same static choices share one.
"""

import dataclasses
import functools
import gc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import changes, learning, lessons, randomness, scoring
from kd_jax import state as state_lib
from kd_jax import step as step_lib
from kd_jax.batches import epoch_order, take
from kd_jax.calibration import calibrated
from kd_jax.datasets import Spec
from kd_jax.devices import replicated, settled, splits
from kd_jax.faults import Faults, faults, sound
from kd_jax.forward import Model
from kd_jax.many import RUN, SAME, STATE, VARIANT, over_runs, over_seeds
from kd_jax.objective import Metrics, Settings
from kd_jax.platform import once
from kd_jax.program import Program
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.schedule import Action
from kd_jax.state import Snapshot, TrainState

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The programs of a stage. All take (settings, seeds [S], ...) first; every state, snapshot and
    metric has a leading axis of S·V runs (V: the settings' variants), the teacher one of S or S·V,
    the data have none.

    Attributes:
      start: (snapshot or None, labels by id) -> state at step 0; for the labels see Term.init.
      advance: (state, sums, teacher, data, steps) -> (state, sums); state and sums are donated.
      single: (state, sums, teacher, data, order) -> (state, sums), one step; donated likewise.
      step: (state, sums, teacher, batch) -> (state, sums), for streamed data; donated likewise.
      change_masks: (state, (action, target), teacher, data) -> state; the state is donated. With
        variants, the target is [V]. For streamed data, batches take the place of the data: those
        of the next steps, as many as `changes.looks_at` says.
      rest: (state) -> the network that it holds, as it is evaluated.
      norms: (state, teacher, data, order) -> {part of the loss: norm of its gradient [S·V]} in the
        step before. For streamed data a batch takes the place of the data, and there is no order.
      sound: (state, sums) -> bool [S·V], whether the numbers of each run are finite.
      faults: as norms, of the step that comes next: which parts of the loss and of their gradients
        are not finite, see `faults`.
      order: (step, data) -> the examples' order [S, N] in the epoch of this step.
      record: (order, teacher's variables, data, (epoch, index of the batch)) -> (rows [S, B], the
        teacher's logits [S, B, K] on their views).
    """

    start: Callable[..., TrainState]
    advance: Callable[..., tuple[TrainState, Metrics]]
    single: Any
    step: Any
    change_masks: Callable[..., TrainState]
    rest: Callable[..., Snapshot]
    norms: Callable[..., Metrics]
    sound: Callable[..., Array]
    faults: Callable[..., Faults]
    order: Callable[..., Array]
    record: Callable[..., tuple[Array, Array]]


def forget() -> None:
    """Drops all programs. Each holds memory and, on a CPU, some hundreds of memory maps, of which a
    process may have 65,530; one that is needed again comes from the cache on the disk."""
    build.cache_clear()
    predictor.cache_clear()
    jax.clear_caches()
    gc.collect()  # a compiled function and what it was made of hold each other


@functools.lru_cache(maxsize=16)
def build(program: Program, loop: bool) -> Compiled:
    """The programs of all runs that make these static choices. With `loop`, many steps are one
    loop on the device; otherwise they are sent there one by one."""
    home = replicated(program.sharding)
    compiled = functools.partial(_jit, program)
    donating = functools.partial(compiled, donate_argnums=(2, 3))

    def one_step(settings, state, sums, teacher, batch):
        soft = None if teacher is None else teacher.variables
        state, metrics = step_lib.train_step(program, settings, state, soft, batch)
        return state, jax.tree.map(jnp.add, sums, metrics)

    def one_resident(settings, state, sums, teacher, data, order):
        batch, soft = take(program, order, state.step, teacher, data)
        state, metrics = step_lib.train_step(program, settings, state, soft, batch)
        return state, jax.tree.map(jnp.add, sums, metrics)

    def order_of(settings, step, data):
        return epoch_order(program, settings.seed, step, data)

    def record(settings, *rest):
        return step_lib.record(program, settings.seed, *rest)

    both = (STATE, RUN)
    order = jax.jit(over_seeds(order_of, (SAME, SAME)), out_shardings=home)
    single = donating(over_runs(one_resident, (STATE, RUN, RUN, SAME, RUN), both))
    many = functools.partial(step_lib.advance, program)
    looped = donating(over_runs(many, (STATE, RUN, RUN, SAME, SAME), both))
    return Compiled(
        start=compiled(_starter(program), compiler_options=once()),
        advance=looped if loop else functools.partial(_dispatch, order, single),
        single=single,
        step=donating(over_runs(one_step, (STATE, RUN, RUN, SAME), both)),
        norms=_of_batch(program, step_lib.gradient_norms, back=1),
        sound=compiled(over_runs(lambda _, *carry: sound(*carry), (STATE, RUN))),
        faults=_of_batch(program, faults),
        change_masks=_changes(program),
        rest=compiled(over_runs(functools.partial(learning.rest, program), (STATE,))),
        order=order,
        record=jax.jit(over_seeds(record, (RUN, RUN, SAME, SAME)), out_shardings=home),
    )


def _changes(program: Program) -> Callable[..., TrainState]:
    @functools.cache
    def compiled(action: Action) -> Any:
        def change(settings, state, target, teacher, data):
            if action == "calibrate":
                return calibrated(program, settings, state, data)
            count = changes.looks_at(program, settings, action)
            if isinstance(data, tuple):
                soft = None if teacher is None else teacher.variables
                shown = [(batch, soft) for batch in data]
            else:
                shown = scoring.upcoming(program, settings.seed, state.step, teacher, data, count)
            return changes.change_masks(program, settings, state, target, shown, action)

        mapped = over_runs(change, (STATE, VARIANT, RUN, SAME), STATE)
        return _jit(program, mapped, donate_argnums=2)

    def change_masks(settings, seeds, state, event, teacher=None, data=None):
        action, target = event
        if not changes.looks_at(program, settings, action):  # nor does its program know of data
            teacher, data = None, None
        return compiled(action)(settings, seeds, state, target, teacher, data)

    return change_masks


def _of_batch(program: Program, function: Callable, back: int = 0) -> Callable:
    """A function (program, settings, state, what the teacher brings, batch) of all runs, compiled,
    as of so many steps before; of resident data it is told the order, and takes its batch itself.
    """
    then = lambda state: dataclasses.replace(state, step=state.step - back)  # noqa: E731

    def resident(settings, state, teacher, data, order):
        state = then(state)
        batch, soft = take(program, order, state.step, teacher, data)
        return function(program, settings, state, soft, batch)

    def streamed(settings, state, teacher, batch):
        soft = None if teacher is None else teacher.variables
        return function(program, settings, then(state), soft, batch)

    of_resident = jax.jit(over_runs(resident, (STATE, RUN, SAME, RUN)))
    of_batch = jax.jit(over_runs(streamed, (STATE, RUN, SAME)))

    def called(settings, seeds, state, teacher, data, order=None):
        given = (settings, seeds, state, teacher, data)
        return of_batch(*given) if order is None else of_resident(*given, order)

    return called


def _jit(program: Program, function: Callable, **options: Any) -> Any:
    """A compiled function whose results live where `home_of` says. Where nothing is split this is
    said of all results at once, which leaves the compiler no choice."""
    if not splits(program.sharding):
        return jax.jit(function, out_shardings=replicated(program.sharding), **options)

    def held(*given: Any) -> Any:
        return settled(program.sharding, function(*given))

    return jax.jit(held, **options)


def _dispatch(order, single, settings, seeds, state, sums, teacher, data, steps: int):
    """`steps` calls of a compiled step, sent without waiting for one another."""
    rows = order(settings, seeds, state.step, data)
    for _ in range(steps):
        state, sums = single(settings, seeds, state, sums, teacher, data, rows)
    return state, sums


def _starter(program: Program) -> Callable[..., TrainState]:
    """(settings, seeds, snapshot or None, labels by id) -> the state at step 0."""

    def one(settings: Settings, given: Snapshot | None, labels: Array) -> TrainState:
        snapshot = given
        if snapshot is None:
            snapshot = fresh(program, settings)
        if program.prunes:
            which = (program.include, program.exclude, program.structure.fits)
            new = masks_lib.start(snapshot.params, *which)
            masks = masks_lib.first(snapshot.masks, new)
            snapshot = dataclasses.replace(snapshot, masks=masks)
        terms = lessons.begin(program, settings.terms, settings.seed, labels)
        averages = settings.ema is not None or program.swa is not None
        state = state_lib.start(snapshot, settings.optim, averages, terms)
        return changes.remember(program, learning.begin(program, settings, state))

    def start(settings, seeds, snapshot, labels):
        return over_runs(one, (RUN, SAME), STATE)(settings, seeds, snapshot, labels)

    return start


def fresh(program: Program, settings: Settings) -> Snapshot:
    """New parameters: the same for every stage of one seed, so that runs are comparable; peers
    alone begin differently."""
    inputs = jnp.zeros((1, *program.spec.shape), jnp.float32)
    key = lessons.own_key(program, settings, randomness.stream(settings.seed, "init"))
    variables = dict(program.model.init(key, inputs))
    params = variables.pop("params")
    return Snapshot(params, variables, state_lib.no_masks(params))


@functools.lru_cache(maxsize=16)
def predictor(
    model: Model, spec: Spec, home: jax.sharding.Sharding | None = None
) -> Callable[[Snapshot, Array], Array]:
    """(snapshot [S, ...], inputs [B, ...]) -> logits float32 [S, B, K], put at `home`."""
    one = functools.partial(step_lib.predict, model, spec)
    return jax.jit(jax.vmap(one, in_axes=(0, None)), out_shardings=home)
