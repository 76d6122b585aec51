"""A stage made ready to run: from its description, model and data to what the loop takes."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled
from kd_jax import state as state_lib
from kd_jax.augment import Augment
from kd_jax.batch import Batch
from kd_jax.checks import check, check_model, train_size
from kd_jax.config import Distill, Prune, Stage
from kd_jax.data import Dataset, Split
from kd_jax.devices import batch_sharding, replicated
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.loop import Job
from kd_jax.metrics import accuracy, predictions
from kd_jax.objective import Settings
from kd_jax.prune import allocate
from kd_jax.prune import masks as masks_lib
from kd_jax.state import Snapshot, TrainState
from kd_jax.step import Program, Resident, Teacher
from kd_jax.stream import View, stream

Array = jax.Array
Taught = tuple[Model, Snapshot]  # a teacher: the model and its network, [S, ...]


def program_of(
    stage: Stage, model: Model, data: Dataset, teacher: Taught | None, devices: int
) -> Program:
    """The stage's static choices. Raises UsageError where stage, model, data and teacher don't fit
    together."""
    check(stage, model, data, devices)
    terms = getattr(stage, "terms", {})
    require(not terms or teacher is not None, "a stage with distillation terms needs a teacher")
    if terms and teacher is not None:
        check_model("teacher", teacher[0], data)
    steps_per_epoch = train_size(stage, data) // stage.batch
    program = Program(
        model=model,
        teacher=teacher[0] if teacher is not None and terms else None,
        spec=data.spec,
        augment=stage.augment,
        batch=stage.batch,
        steps=stage.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        sharding=batch_sharding(devices, stage.batch),
    )
    if isinstance(stage, Prune):
        return dataclasses.replace(
            program,
            prunes=True,
            include=stage.include,
            exclude=stage.exclude,
            criterion=stage.criterion,
            scope=stage.scope,
        )
    return program


def settings_of(stage: Stage) -> Settings:
    """What the stage's programs are given; the seed is filled in by them."""
    distills = isinstance(stage, Distill)
    return Settings(
        seed=0,
        optim=stage.optim,
        label_smoothing=stage.label_smoothing,
        hard_weight=stage.hard_weight if distills else 1.0,
        terms=stage.terms if distills else {},
        penalty=stage.penalty if isinstance(stage, Prune) else None,
        ema=stage.ema,
    )


def _events(stage: Stage, program: Program, state: TrainState) -> dict[int, Any]:
    """{step: what change_masks takes}, with exact counts for exact sparsity."""
    if not isinstance(stage, Prune):
        return {}
    one = jax.eval_shape(lambda masks: jax.tree.map(lambda m: m[0], masks), state.masks)
    sizes = masks_lib.sizes(one)
    if stage.scope in ("threshold", "std"):
        events = stage.schedule.events(program.steps, stage.sparsity)
        return {step: stage.threshold for step, _ in events}
    already = masks_lib.report(state.masks, state.params)["sparsity"]
    count = allocate.per_layer if stage.scope == "layer" else allocate.total
    events = stage.schedule.events(program.steps, stage.sparsity, min(already, stage.sparsity))
    return {step: count(sizes, sparsity) for step, sparsity in events}


def job_of(
    stage: Stage,
    program: Program,
    programs: compiled.Compiled,
    settings: Settings,
    seeds: Array,
    data: Dataset,
    teacher: Taught | None,
    state: TrainState,
) -> Job:
    """What the loop runs, from the state at step 0."""
    home = replicated(program.sharding)
    predict = compiled.predictor(program.model, data.spec)

    def validate(state: TrainState) -> list[float]:
        logits, labels = predictions(predict, state_lib.rest(state), data.validation)
        return accuracy(logits, labels).tolist()

    def sparsity(state: TrainState) -> list[float]:
        layers = jax.tree.leaves(state.masks)
        pruned = sum(np.asarray(jnp.sum(~m, axis=range(1, m.ndim))) for m in layers)
        return list(np.asarray(pruned) / sum(m[0].size for m in layers))

    resident = _resident(stage, data, home)
    return Job(
        program=program,
        compiled=programs,
        settings=settings,
        seeds=seeds,
        teacher=_teacher(program, data, teacher, resident, home),
        data=resident if resident is not None else _streamed(stage, data, seeds),
        events=_events(stage, program, state),
        validate=validate if len(data.validation) else None,
        validate_every=stage.evaluate_every,
        sparsity=sparsity if jax.tree.leaves(state.masks) else None,
    )


def _resident(stage: Stage, data: Dataset, home: Any) -> Resident | None:
    """The stage's share of the training split on the device; None where the set is streamed."""
    if not isinstance(data.train, Split):
        return None
    size = train_size(stage, data)
    train = data.train
    part = (train.ids[:size], train.inputs[:size], train.labels[:size])
    return Resident(*jax.device_put(part, home))


def _streamed(stage: Stage, data: Dataset, seeds: Array) -> Callable[[int], Iterator[Batch]]:
    require(len(seeds) == 1, "a streamed data set trains one seed at a time: set together to false")
    assert isinstance(data.train, View)
    view = View(data.train.source, data.train.ids[: train_size(stage, data)])
    return lambda step: stream(view, stage.batch, int(seeds[0]), step)


def _teacher(
    program: Program, data: Dataset, teacher: Taught | None, resident: Resident | None, home: Any
) -> Teacher | None:
    """Without augmentation the teacher says the same of an example at each epoch, so its logits
    are collected once; otherwise it sees each batch as the student does."""
    if teacher is None or program.teacher is None:
        return None
    if resident is not None and program.augment == Augment():
        return Teacher(logits=jax.device_put(collect(teacher, data, resident.ids.size), home))
    return Teacher(variables=jax.device_put(teacher[1].variables, home))


def collect(teacher: Taught, data: Dataset, size: int) -> np.ndarray:
    """What the teacher says of the first `size` training examples as stored: logits [S, N, K]."""
    assert isinstance(data.train, Split)
    model, snapshot = teacher
    shown = data.train.take(np.arange(size))
    return predictions(compiled.predictor(model, data.spec), snapshot, shown)[0]
