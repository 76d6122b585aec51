"""The steps, pure functions of arrays: train on a batch, advance over resident data, predict, and
record what the teacher says."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_jax import freezing, learning, lessons, randomness
from kd_jax import optim as optim_lib
from kd_jax.augment import normalise
from kd_jax.batch import Batch
from kd_jax.batches import batch_of, epoch_order, take, views
from kd_jax.datasets import Spec
from kd_jax.distill import Own
from kd_jax.forward import Model, Variables
from kd_jax.objective import Metrics, Settings, objective, total
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune import masks as masks_lib
from kd_jax.splicing import spliced
from kd_jax.state import Snapshot, TrainState
from kd_jax.teacher import teach
from kd_jax.tree import map_named

Array = jax.Array


def train_step(
    program: Program, settings: Settings, state: TrainState, soft: Any, batch: Batch
) -> tuple[TrainState, Metrics]:
    """One step on one batch.

    `soft` is the teacher's variables, or its Outputs for this batch, or None.
    """
    done = state.step
    state = dataclasses.replace(state, step=program.position(done))
    state = spliced(program, settings, state)
    parts_of = loss_parts(program, settings, state, soft, batch)
    trained = (state.params, *beside(state))
    gradient = _gradient_of_two if settings.optim.name == "dot" else _gradient
    (grads, own_grads, learned_grads), told = gradient(settings, parts_of, trained)
    collections, metrics, states = told
    state = dataclasses.replace(state, collections=collections)
    state = lessons.move(program, settings, state, own_grads, states)
    state = learning.move(program, settings, state, learned_grads)
    state = _update(program, settings, state, grads)
    return dataclasses.replace(state, step=done + 1), metrics


def beside(state: TrainState) -> tuple[Any, Any]:
    """What is trained beside the parameters: (of distillation terms, of the criterion)."""
    terms: dict[str, Own] = state.extra.get("terms", {})
    return {name: own.params for name, own in terms.items()}, learning.values(state)


def _gradient(settings: Settings, parts_of: Callable, trained: Any) -> tuple[Any, Any]:
    """(gradients of the loss by (params, *beside), what the parts told)."""
    del settings

    def loss(trained):
        parts, told = parts_of(*trained)
        return total(parts), told

    return jax.grad(loss, has_aux=True)(trained)


def _gradient_of_two(settings: Settings, parts_of: Callable, trained: Any) -> tuple[Any, Any]:
    """As `_gradient`, of the loss without what a teacher says, and of that; in pairs."""
    soft = [name for name, term in settings.terms.items() if term.taught]

    def losses(trained):
        parts, told = parts_of(*trained)
        task = {name: part for name, part in parts.items() if name not in soft}
        return (total(task), total({name: parts[name] for name in soft})), told

    (task, distillation), pullback, told = jax.vjp(losses, trained, has_aux=True)
    one, zero = jnp.ones_like(task), jnp.zeros_like(distillation)
    (of_task,), (of_soft,) = pullback((one, zero)), pullback((zero, one))
    return tuple(zip(of_task, of_soft, strict=True)), told


def loss_parts(
    program: Program, settings: Settings, state: TrainState, soft: Any, batch: Batch
) -> Callable:
    """(params, *beside) -> (parts of the loss on a batch, (the network's new collections, metrics,
    {term: next state})): all of a step that is differentiated."""
    epoch = state.step // program.steps_per_epoch
    second = None
    if program.second is not None:
        second = views(program, settings.seed, epoch, batch, "second view")
    batch = views(program, settings.seed, epoch, batch)
    lesson = lessons.lesson(program, settings, state, batch, soft, second)
    key = randomness.at_step(settings.seed, "dropout", state.step)
    key = lessons.own_key(program, settings, key)
    owns: dict[str, Own] = state.extra.get("terms", {})
    gates = randomness.at_step(settings.seed, "gates", state.step)
    gates = lessons.own_key(program, settings, gates)

    def parts_of(params, own_params, values):
        params = learning.shown(program, settings, state, params, values, gates)
        variables = {"params": params, **state.collections}
        outputs, collections = program.model.forward(variables, batch.inputs, train=True, key=key)
        again = None
        if second is not None:
            # Statistics are each view's own; their running averages move twice in a step.
            variables, other = {"params": params, **collections}, jax.random.fold_in(key, 1)
            again, collections = program.model.forward(variables, second.inputs, True, other)
        carried = {name: Own(own_params[name], own.state) for name, own in owns.items()}
        told = lessons.heard(program, settings, lesson, outputs, params, again)
        learned = learning.told(program, settings, state, params, values)
        given = (carried, batch.weights, params, state.masks, learned)
        each = [objective(settings, one, *given) for one in lessons.of_each(told)]
        # Of several that learn together, each has its own loss; what is told is of the first.
        parts = jax.tree.map(lambda *xs: functools.reduce(jnp.add, xs), *(p for p, _ in each))
        metrics, states = each[0][1]
        return parts, (collections, metrics, states)

    return parts_of


def gradient_norms(
    program: Program, settings: Settings, state: TrainState, soft: Any, batch: Batch
) -> Metrics:
    """{part of the loss: the norm of its gradient by all parameters that are trained}, of one
    batch."""
    state = dataclasses.replace(state, step=program.position(state.step))
    norm = lambda gradient: optax.tree.norm(freezing.without(program.freeze, gradient))  # noqa: E731
    parts, norms = by_part(loss_parts(program, settings, state, soft, batch), state, norm)
    return dict(zip(parts, norms, strict=True))


def by_part(
    parts_of: Callable, state: TrainState, see: Callable[[Any], Any]
) -> tuple[dict[str, Array], Any]:
    """({part of the loss: value}, what `see` makes of each part's gradient by the parameters, [the
    parts, ...]). For `parts_of` see `loss_parts`."""
    others = beside(state)
    parts, pullback, _ = jax.vjp(lambda p: parts_of(p, *others), state.params, has_aux=True)
    # One backward pass, mapped over the parts.
    rows = dict(zip(parts, jnp.eye(len(parts), dtype=jnp.float32), strict=True))
    return parts, jax.vmap(lambda part: see(pullback(part)[0]))(rows)


def _update(program: Program, settings: Settings, state: TrainState, grads: Any) -> TrainState:
    """Parameters, moments and average after one gradient."""
    optim = settings.optim
    decay = settings.decay
    if decay is not None:
        drawn = lambda m, w, g: g + decay * jnp.where(m, 0, w)  # noqa: E731
        grads = masks_lib.map_layers(
            lambda _, m, g, w: g if m is None else drawn(m, w, g), state.masks, grads, state.params
        )
    if settings.rho is not None:
        grads = _drawn(settings.rho, state, grads)
    trained = functools.partial(freezing.without, program.freeze)
    grads = tuple(map(trained, grads)) if optim.name == "dot" else trained(grads)
    updates, opt_state = optim_lib.transform(optim).update(
        grads, state.opt_state, trained(state.params)
    )
    rate = optim_lib.learning_rate(optim, program.pace(state.step), program.length)
    params = optax.apply_updates(state.params, jax.tree.map(lambda u: -rate * u, updates))
    params = freezing.held(program.freeze, optim_lib.project(optim, params), state.params)
    extra = dict(state.extra)
    now = {"params": params, "collections": state.collections}
    if settings.ema is not None:
        average = optim_lib.average(extra["ema"], now, settings.ema, state.step)
        extra["ema"] = _still(program, average, now)
    if program.swa is not None:
        average = optim_lib.equal_average(extra["ema"], now, *program.swa, state.step)
        extra["ema"] = _still(program, average, now)
    return dataclasses.replace(state, params=params, opt_state=opt_state, extra=extra)


def _still(program: Program, average: Any, now: Any) -> Any:
    """The averages after a step; what is frozen is not averaged with itself."""
    still = program.freeze if program.freeze_statistics else ()
    return {
        "params": freezing.held(program.freeze, average["params"], now["params"]),
        "collections": freezing.held_statistics(still, average["collections"], now["collections"]),
    }


def _drawn(rho: float, state: TrainState, grads: Any) -> Any:
    """Gradients that have gained ρ·(W − Z + U), while weights are drawn to sparse ones."""
    drawn, pull = state.extra["drawn"], jnp.where(state.extra["drawing"], rho, 0.0)

    def gained(name: str, g: Array, w: Array) -> Array:
        if name not in drawn:
            return g
        z, u = drawn[name]
        return g + pull * (w - z + u)

    return map_named(gained, grads, state.params)


def record(
    program: Program, seed: Array, order: Array, variables: Variables, data: Resident, which: Any
) -> tuple[Array, Array]:
    """(rows [B], the teacher's logits float32 [B, K] on their views) of a batch of an epoch.

    The batches are those of the epoch's steps; one more, filled up from the first, has the
    examples that these leave out. `which`: (epoch, index of the batch).
    """
    epoch, index = which
    places = (index * program.batch + jnp.arange(program.batch)) % data.ids.size
    rows = order[places]
    batch = views(program, seed, epoch, batch_of(data, rows))
    assert program.teacher is not None
    return rows, teach(program.teacher, variables, batch.inputs).logits.astype(jnp.float32)


def advance(
    program: Program,
    settings: Settings,
    state: TrainState,
    sums: Metrics,
    teacher: Teacher | None,
    data: Resident,
    steps: Array | int,
) -> tuple[TrainState, Metrics]:
    """`steps` steps on resident data, all of one epoch; and their metrics added to `sums`.

    The number of steps is traced: however a run is cut into pieces, it is one program, and the
    batches are the same.
    """
    order = epoch_order(program, settings.seed, state.step, data)

    def body(_, carry):
        state, sums = carry
        batch, soft = take(program, order, state.step, teacher, data)
        state, metrics = train_step(program, settings, state, soft, batch)
        return state, jax.tree.map(jnp.add, sums, metrics)

    return jax.lax.fori_loop(0, steps, body, (state, sums))


def predict(model: Model, spec: Spec, snapshot: Snapshot, inputs: Array) -> Array:
    """Logits [B, K] in float32 of stored inputs [B, ...], in evaluation mode."""
    outputs, _ = model.forward(snapshot.variables, normalise(inputs, spec), train=False)
    return outputs.logits.astype(jnp.float32)
