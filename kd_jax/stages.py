"""A stage: (description, model, data, what it starts from and learns from) -> a network at rest."""

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled, many, metrics
from kd_jax import state as state_lib
from kd_jax.checkpoint import Store
from kd_jax.checks import check_model, check_network
from kd_jax.config import Distill, Stage, Train
from kd_jax.data import Dataset, guess
from kd_jax.devices import Layout
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.jobs import Prepared, Taught, check_variants, job_of, prepare
from kd_jax.loop import Reporter, Silent, ended, fit, only_guesses
from kd_jax.metrics import predictions
from kd_jax.mutual import first
from kd_jax.soundness import empty_layers
from kd_jax.state import Snapshot, TrainState
from kd_jax.taught import outputs_of, teacher_of

Array = jax.Array


def run(
    stage: Stage | Sequence[Stage],
    model: Model,
    data: Dataset,
    *,
    start: Snapshot | None = None,
    teacher: Taught | None = None,
    seeds: Sequence[int] = (0,),
    devices: Layout = 0,
    store: Store | None = None,
    replay: Path | None = None,
    report: Reporter | None = None,
    save_seconds: float = 30.0,
    name: str = "",
    nans: bool = False,
    origin: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Runs one stage for all seeds in one program; the result has a leading axis of seeds.

    Of V stages that differ in numbers alone (a temperature, a learning rate, a sparsity) all are
    trained, in one program too; the axis is then one of S·V runs, seed by seed (see
    `many.of_variant`).

    Peers that learn from one another are such variants too, though their settings are the same;
    those of several architectures are one model, see `mutual`, of which the first is the result.

    Args:
      stage: Train, Distill or Prune; its own `start`, `weights` and `teacher` are names, and
        ignored here.
      start: network to go on from, [S, ...] or [S·V, ...]; None: fresh parameters.
      teacher: who teaches, if the stage has distillation terms; one of S is asked once for all V.
      devices: how many, 0 for all; (8, 2): eight, and two by two they share the parameters.
      store: where checkpoints go; with one, the stage resumes where it stopped.
      replay: folder of kept teachers' outputs, for stages that replay them.
      nans: where a number is not finite any more, search for the operation that makes it.
      origin: what is to be known of where `start` comes from, kept with the store's facts.

    Raises:
      UsageError: the stage and the data, model or teacher don't fit together.
      Stop: the process was told to stop, and all that was trained is saved.
    """
    report = report or Silent()
    began = time.monotonic() - (store.spent() if store is not None else 0.0)
    if isinstance(stage, Distill) and stage.alike:
        stage = [stage] * stage.alike
    variants = (stage,) if isinstance(stage, Train) else tuple(stage)
    check_variants(variants, model, data, teacher and teacher[0], devices)
    prepared = prepare(variants, model, data, teacher, seeds, devices)
    _check_networks(prepared, model, start, teacher)
    start = prepared.put(start)  # it may come from other devices
    begin = functools.partial(_begin, prepared, start, teacher)
    state = begin()
    facts = {"stage": name, "seeds": list(seeds), "steps": prepared.program.steps, **(origin or {})}
    facts["device"] = jax.devices()[0].device_kind
    soft = None
    if teacher is not None:
        facts |= _introduce(teacher, data, report)
        if prepared.program.teacher is not None:
            outputs = outputs_of(prepared.stage, data, teacher, store)
            soft = teacher_of(prepared, teacher, outputs, replay)
    job = job_of(prepared, soft, state, begin, nans)
    state = fit(job, state, store, report, save_seconds, name)
    snapshot = prepared.compiled.rest(prepared.settings, prepared.seeds, state)
    snapshot = first(snapshot) if model.members > 1 else snapshot
    jax.block_until_ready(snapshot)
    for said in empty_layers(snapshot):
        report.note(said)
    seconds = time.monotonic() - began
    if store is not None:
        store.finish(snapshot, {**facts, "seconds": seconds})
    report.end(name, seconds)
    if store is not None:
        ended(f"{name}: done")
    return snapshot


def _begin(prepared: Prepared, start: Snapshot | None, teacher: Taught | None) -> TrainState:
    """The state at step 0, with what the network takes from its teacher."""
    state, adopts = prepared.begin(start), prepared.program.model.adopts
    if start is not None or adopts is None:
        return state
    require(teacher is not None, "the network takes a part of its teacher's: name a teacher")
    assert teacher is not None
    taken = adopts(teacher[1].variables)
    runs = len(prepared.seeds) * len(prepared.variants)
    taken = jax.tree.map(lambda x: jnp.repeat(x, runs // x.shape[0], axis=0), taken)
    return state_lib.adopting(state, prepared.put(taken))


def _check_networks(
    prepared: Prepared, model: Model, start: Snapshot | None, teacher: Taught | None
) -> None:
    stage, data, seeds = prepared.stage, prepared.data, len(prepared.seeds)
    runs = seeds * len(prepared.variants)
    if start is not None:
        variables = check_model(stage.model, model, data)
        check_network("start", start, variables, runs if many.length(start) == runs else seeds)
    if teacher is not None:
        variables = check_model("teacher", teacher[0], data)
        count = many.length(teacher[1])
        check_network("teacher", teacher[1], variables, runs if count == runs else seeds)
        replays = isinstance(stage, Distill) and stage.replay != "off"
        require(
            not replays or count == seeds,
            "replay: the teacher differs from variant to variant: set it to off",
        )


def evaluate(
    model: Model,
    data: Dataset,
    snapshot: Snapshot,
    split: str = "test",
    teacher: Taught | None = None,
) -> dict[str, list]:
    """What a network knows of a whole split, a number a seed: accuracy, cross-entropy (nats),
    calibration error and the accuracy on each class; and, with a teacher, the share of examples on
    which both choose the same class, and KL(teacher || network). See metrics.CONVENTION."""
    logits, labels = _logits(model, data, snapshot, split)
    said = _logits(teacher[0], data, teacher[1], split)[0] if teacher is not None else None
    return {name: x.tolist() for name, x in metrics.measured(logits, labels, said).items()}


def _logits(model: Model, data: Dataset, snapshot: Snapshot, split: str) -> tuple[Any, Any]:
    predict = compiled.predictor(model, data.spec)
    return predictions(predict, snapshot, getattr(data, split))


def _introduce(teacher: Taught, data: Dataset, report: Reporter) -> dict[str, Any]:
    """Measures the teacher before anyone learns from it; never on the test examples."""
    split, called = ("validation", "validation") if len(data.validation) else ("train", "training")
    measured = evaluate(teacher[0], data, teacher[1], split)["accuracy"]
    report.note(f"the teacher's {called} accuracy: {100 * np.mean(measured):.2f} %")
    if np.any(only_guesses(measured, data.spec.classes, guess(data))):
        report.note("warning: the teacher is no better than a guess: there is nothing to learn")
    return {f"teacher_{called}_accuracy": measured}
