"""A stage: (description, model, data, what it starts from and learns from) -> a network at rest."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled
from kd_jax import state as state_lib
from kd_jax.checkpoint import Store
from kd_jax.checks import example_shape, train_size
from kd_jax.config import Stage
from kd_jax.data import Dataset, Split
from kd_jax.devices import loops_well, replicated
from kd_jax.forward import Model
from kd_jax.jobs import Taught, collect, job_of, program_of, settings_of
from kd_jax.loop import Reporter, Silent, fit
from kd_jax.metrics import accuracy, agreement, cross_entropy, predictions
from kd_jax.state import Snapshot
from kd_jax.tree import named_leaves

Array = jax.Array


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
    program = program_of(stage, model, data, teacher, devices)
    settings = settings_of(stage)
    programs = compiled.build(program, loops_well(model, example_shape(data)))
    start = jax.device_put(start, replicated(program.sharding))  # it may come from other devices
    state = programs.start(settings, seed_array, start)
    facts = {"stage": name, "seeds": list(seeds), "steps": program.steps}
    if teacher is not None:
        facts |= _introduce(teacher, data, report)
    job = job_of(stage, program, programs, settings, seed_array, data, teacher, state)
    if store is not None and job.teacher is not None and teacher is not None:
        _keep_outputs(store, stage, data, teacher)
    state = fit(job, state, store, report, save_seconds, name)
    snapshot = jax.jit(state_lib.rest)(state)
    jax.block_until_ready(snapshot)
    _warn_of_empty_layers(snapshot, report)
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


def _warn_of_empty_layers(snapshot: Snapshot, report: Reporter) -> None:
    """A layer without weights passes nothing on: such a network can only guess."""
    for name, mask in named_leaves(snapshot.masks).items():
        kept = np.asarray(jnp.sum(mask, axis=range(1, mask.ndim)))
        if not kept.all():
            report.note(f"warning: {name} has lost all its weights in {np.sum(kept == 0)} seed(s)")


def _keep_outputs(store: Store, stage: Stage, data: Dataset, teacher: Taught) -> None:
    """Writes what the teacher says of the stage's examples, as stored, for others to use too."""
    if not isinstance(data.train, Split) or store.has("teacher_outputs"):
        return
    size = train_size(stage, data)
    logits = collect(teacher, data, size)
    arrays = {
        "ids": data.train.ids[:size],
        "labels": data.train.labels[:size],
        "logits": logits,
        "probabilities": np.asarray(jax.nn.softmax(logits)),
    }
    store.keep("teacher_outputs", arrays)
