"""kd_jax's side of a comparison: the programs that the loop runs, on synthetic data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import cost, jobs, tree
from kd_jax.checks import example_shape
from kd_jax.data import Dataset, Split
from kd_jax.datasets import DATASETS
from kd_jax.forward import Model, from_linen
from kd_jax.jobs import Taught
from kd_jax.objective import no_metrics
from kd_jax.program import Teacher
from kd_jax.serialize import from_data
from kd_jax.state import Snapshot, no_masks

Array = jax.Array


Run = Callable[[int], None]
Facts = Callable[[], dict[str, Any]]


def prepare(request: dict[str, Any]) -> tuple[Run, Facts]:
    """(run, facts) of one row; run(steps) goes on from where it was, as a training does."""
    stage, seeds = from_data(request["stage"]), request["seeds"]
    data = synthetic(request["data"])
    models = {
        role: from_linen(from_data(request[role]).build(data.spec.classes, jnp.float32))
        for role in ("student", "teacher")
        if request[role] is not None
    }
    student, teacher = models["student"], taught(models.get("teacher"), data, seeds)
    prepared = jobs.prepare([stage], student, data, teacher, range(seeds), devices=1)
    program, programs = prepared.program, prepared.compiled
    given = (prepared.settings, prepared.seeds)
    state = prepared.begin(None)
    brings = teacher and _brings(teacher, data, seeds, request["collected"])
    job = jobs.job_of(prepared, brings, state)
    for event in job.events.get(0, ()):
        state = programs.change_masks(*given, state, event, brings, job.data)
    # Committed to its device, as what comes back will be: otherwise the second call compiles again.
    carry = (state, jax.device_put(no_metrics(prepared.settings, seeds), prepared.home))
    done = 0

    def run(steps: int) -> None:
        nonlocal carry, done
        stop = done + steps
        while done < stop:  # one epoch at a time, as the loop does
            piece = min(stop - done, program.steps_per_epoch - done % program.steps_per_epoch)
            carry = programs.advance(*given, *carry, brings, job.data, piece)
            jax.block_until_ready(carry[1])
            done += piece

    return run, lambda: facts(models, data)


def synthetic(about: dict[str, Any]) -> Dataset:
    """A training split of random pixels and labels, always the same, in the form of a known set."""
    spec, count = DATASETS[about["name"]], about["examples"]
    random = np.random.default_rng(0)
    pixels = random.integers(0, int(spec.scale) + 1, (count, *spec.shape), np.uint8)
    labels = random.integers(0, spec.classes, count, np.int32)
    train = Split(pixels, labels, np.arange(count, dtype=np.int32))
    nothing = train.take(np.arange(0))
    return Dataset(spec, train, nothing, nothing, streamed=False, ids_below=count)


def abstract(model: Model, data: Dataset) -> Any:
    """The model's variables, as shapes."""
    return jax.eval_shape(model.init, jax.random.key(0), example_shape(data))


def taught(model: Model | None, data: Dataset, seeds: int) -> Taught | None:
    """A teacher [S, ...] with random weights. They are drawn here because a run reads its teacher
    from a checkpoint, and compiles no program to make one."""
    if model is None:
        return None
    random = np.random.default_rng(0)

    def draw(name: str, leaf: Any) -> Array:
        if len(leaf.shape) > 1:
            scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
            one = scale * random.standard_normal(leaf.shape, np.float32)
        else:
            one = np.full(leaf.shape, 0.0 if name.endswith(("bias", "mean")) else 1.0)
        return jnp.asarray(np.stack([one] * seeds), leaf.dtype)

    variables = dict(tree.map_named(draw, abstract(model, data)))
    params = variables.pop("params")
    return model, Snapshot(params, variables, no_masks(params))


def _brings(teacher: Taught, data: Dataset, seeds: int, collected: bool) -> Teacher:
    if not collected:
        return Teacher(variables=teacher[1].variables)
    shape = (seeds, len(data.train), data.spec.classes)
    return Teacher(logits=jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32)))


def facts(models: dict[str, Model], data: Dataset) -> dict[str, Any]:
    """What both sides must agree on: parameters, and multiply-adds of one example, of each net."""
    variables = {role: abstract(model, data) for role, model in models.items()}
    logits = {
        role: lambda v, x, model=model: model.forward(v, x)[0].logits
        for role, model in models.items()
    }
    return {
        "parameters": {role: tree.count(variables[role]["params"]) for role in models},
        "macs": {
            role: cost.macs(logits[role], variables[role], example_shape(data)) for role in models
        },
    }
