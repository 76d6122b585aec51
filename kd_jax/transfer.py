"""Stages that begin with pre-trained weights from a file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import pretrained, randomness
from kd_jax.config import Experiment
from kd_jax.errors import UsageError, require
from kd_jax.forward import Model
from kd_jax.models.base import ModelConfig
from kd_jax.runs import Run, Seeds
from kd_jax.state import Snapshot, no_masks
from kd_jax.tree import map_named, named_leaves


def pinned(experiment: Experiment) -> Experiment:
    """The experiment with the SHA-256 of each file of weights, so that what it computes, and the
    folder named by that, are of these very weights.

    Raises:
      UsageError: a file is missing, or another one than the experiment says.
    """
    for word in experiment.sweep:
        field = word.partition("=")[0].split(".")[-1]
        require(
            field != "weights",
            f"--sweep {word}: files of weights can't be swept: make a stage for each",
        )
    stages = dict(experiment.stages)
    for name, stage in stages.items():
        if not stage.weights:
            continue
        try:
            digest, said = pretrained.digest(stage.weights), stage.weights_sha256
            require(
                said in ("", digest),
                f"weights {stage.weights}: its SHA-256 is {digest}, and not {said}: it is another "
                "file than the experiment's; leave weights-sha256 out, or take that file",
            )
        except UsageError as error:
            raise UsageError(f"--{name}.{error}") from error
        stages[name] = dataclasses.replace(stage, weights_sha256=digest)
    return dataclasses.replace(experiment, stages=stages)


def check(run: Run, stage: str) -> None:
    """Raises UsageError where a stage's weights are not of its model."""
    description = run.experiment.stages[stage]
    if description.weights:
        config, shapes = _config(run, stage), _shapes(run.model(stage), run.data.spec.shape)
        pretrained.look(description.weights, config, shapes)


def origin(run: Run, stage: str) -> dict[str, str]:
    """Of a stage that begins with weights: {"weights": the file's name, "sha256": of it}."""
    description = run.experiment.stages[stage]
    if not description.weights:
        return {}
    return {"weights": Path(description.weights).name, "sha256": description.weights_sha256}


def came_from(run: Run, stage: str) -> str:
    """The weights with which a stage's network, or one that it comes from, began; empty where they
    were fresh."""
    while not (found := origin(run, stage)):
        stage = run.experiment.stages[stage].start
        if not stage:
            return ""
    return f"{found['weights']}, SHA-256 {found['sha256']}"


def network(run: Run, stage: str, seeds: Seeds) -> tuple[Snapshot, str]:
    """(the network that a stage begins with, the same for all seeds but for a classifier that is
    fresh; what to say of it)."""
    file, model = run.experiment.stages[stage].weights, run.model(stage)
    config, shape = _config(run, stage), run.data.spec.shape
    shapes = _shapes(model, shape)
    found = pretrained.look(file, config, shapes)
    taken = pretrained.read(found, config, shapes, shape)
    fresh = _fresh(model, shape, found.fresh, seeds)
    stacked = lambda path: jnp.broadcast_to(taken[path], (len(seeds), *taken[path].shape))  # noqa: E731
    variables = map_named(lambda path, _: fresh[path] if path in fresh else stacked(path), shapes)
    params = variables.pop("params")
    said = f"{Path(file).name} ({found.layout}'s layout, {len(found.tensors)} tensors)"
    if found.fresh:
        before = f", in place of one of {found.classes}," if found.classes else ""
        said += f"; the classifier{before} is fresh, of {run.data.spec.classes} classes"
    return Snapshot(params, variables, no_masks(params)), said


def _config(run: Run, stage: str) -> ModelConfig:
    return getattr(run.experiment, run.experiment.stages[stage].model)


def _shapes(model: Model, shape: tuple[int, ...]) -> dict[str, Any]:
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return dict(jax.eval_shape(model.init, jax.random.key(0), inputs))


def _fresh(
    model: Model, shape: tuple[int, ...], paths: Sequence[str], seeds: Seeds
) -> dict[str, jax.Array]:
    """{path: values [S, ...]} as fresh networks of these seeds have them; of the rest of them
    nothing is computed."""
    inputs = jnp.zeros((1, *shape), jnp.float32)

    def one(seed: jax.Array) -> dict[str, jax.Array]:
        made = named_leaves(dict(model.init(randomness.stream(seed, "init"), inputs)))
        return {path: made[path] for path in paths}

    return jax.jit(jax.vmap(one))(jnp.asarray(seeds, jnp.uint32)) if paths else {}
