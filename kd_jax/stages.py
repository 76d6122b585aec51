"""A stage: (description, model, data, what it starts from and learns from) -> a network at rest."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled
from kd_jax import state as state_lib
from kd_jax.augment import Augment
from kd_jax.checkpoint import Store
from kd_jax.checks import check, check_model, example_shape, train_size
from kd_jax.config import Distill, Prune, Stage
from kd_jax.data import Dataset, Split
from kd_jax.devices import batch_sharding, loops_well, replicated
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.loop import Job, Reporter, Silent, fit
from kd_jax.metrics import accuracy, agreement, cross_entropy, predictions
from kd_jax.objective import Settings
from kd_jax.prune import allocate
from kd_jax.prune import masks as masks_lib
from kd_jax.state import Snapshot, TrainState
from kd_jax.step import Program, Resident, Teacher
from kd_jax.stream import View, stream

Array = jax.Array
Taught = tuple[Model, Snapshot]  # a teacher: the model and its network, [S, ...]


def run(
    stage: Stage,
    model: Model,
    data: Dataset,
    *,
    start: Snapshot | None = None,
    teacher: Taught | None = None,
    seeds: Sequence[int] = (0,),
    devices: int = 0,
    store: Store | None = None,
    report: Reporter | None = None,
    save_seconds: float = 30.0,
    name: str = "",
) -> Snapshot:
    """Runs one stage for all seeds in one program; the result has a leading axis of seeds.

    Args:
      stage: Train, Distill or Prune; its own `start` and `teacher` are names, and ignored here.
      start: network to go on from, [S, ...]; None: fresh parameters.
      teacher: who teaches, if the stage has distillation terms.
      store: where checkpoints go; with one, the stage resumes where it stopped.

    Raises:
      UsageError: the stage and the data, model or teacher don't fit together.
    """
    report = report or Silent()
    began = time.monotonic()
    seed_array = jnp.asarray(seeds, jnp.uint32)
    program = _program(stage, model, data, teacher, devices)
    settings = _settings(stage)
    programs = compiled.build(program, loops_well(model, example_shape(data)))
    start = jax.device_put(start, replicated(program.sharding))  # it may come from other devices
    state = programs.start(settings, seed_array, start)
    facts = {"stage": name, "seeds": list(seeds), "steps": program.steps}
    if teacher is not None:
        facts |= _introduce(teacher, data, report)
    job = _job(stage, program, programs, settings, seed_array, data, teacher, state)
    if store is not None and job.teacher is not None and job.teacher.logits is not None:
        _keep_outputs(store, data, job.teacher.logits)
    state = fit(job, state, store, report, save_seconds, name)
    snapshot = jax.jit(state_lib.rest)(state)
    jax.block_until_ready(snapshot)
    seconds = time.monotonic() - began
    if store is not None:
        store.finish(snapshot, {**facts, "seconds": seconds})
    report.end(name, seconds)
    return snapshot


def evaluate(
    model: Model,
    data: Dataset,
    snapshot: Snapshot,
    split: str = "test",
    teacher: Taught | None = None,
) -> dict[str, list[float]]:
    """Accuracy and cross-entropy (nats) on a whole split, a number a seed; and, with a teacher, the
    share of examples on which both choose the same class."""
    logits, labels = _logits(model, data, snapshot, split)
    result = {"accuracy": accuracy(logits, labels), "cross_entropy": cross_entropy(logits, labels)}
    if teacher is not None:
        result["agreement"] = agreement(logits, _logits(*[teacher[0], data, teacher[1], split])[0])
    return {name: values.tolist() for name, values in result.items()}


def _logits(model: Model, data: Dataset, snapshot: Snapshot, split: str) -> tuple[Any, Any]:
    predict = compiled.predictor(model, data.spec)
    return predictions(predict, snapshot, getattr(data, split))


def _introduce(teacher: Taught, data: Dataset, report: Reporter) -> dict[str, Any]:
    """Measures the teacher before anyone learns from it."""
    if len(data.validation) == 0:
        return {}
    measured = evaluate(teacher[0], data, teacher[1], "validation")["accuracy"]
    report.note(f"the teacher's validation accuracy: {100 * np.mean(measured):.2f} %")
    return {"teacher_validation_accuracy": measured}


def _keep_outputs(store: Store, data: Dataset, logits: Array) -> None:
    """The teacher's outputs, in a file that others can use too."""
    assert isinstance(data.train, Split)
    size = logits.shape[1]
    arrays = {
        "ids": data.train.ids[:size],
        "labels": data.train.labels[:size],
        "logits": np.asarray(logits),
        "probabilities": np.asarray(jax.nn.softmax(logits)),
    }
    store.keep("teacher_outputs", arrays)


def _program(
    stage: Stage, model: Model, data: Dataset, teacher: Taught | None, devices: int
) -> Program:
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


def _settings(stage: Stage) -> Settings:
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


def _job(
    stage: Stage,
    program: Program,
    programs: compiled.Compiled,
    settings: Settings,
    seeds: Array,
    data: Dataset,
    teacher: Taught | None,
    state: TrainState,
) -> Job:
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


def _streamed(stage: Stage, data: Dataset, seeds: Array):
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
    model, snapshot = teacher
    if resident is not None and program.augment == Augment():
        shown = data.train.take(np.arange(resident.ids.size))  # type: ignore[union-attr]
        logits, _ = predictions(compiled.predictor(model, data.spec), snapshot, shown)
        return Teacher(logits=jax.device_put(logits, home))
    return Teacher(variables=jax.device_put(snapshot.variables, home))
