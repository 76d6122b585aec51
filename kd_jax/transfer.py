"""Stages that begin with pre-trained weights from a file."""

import dataclasses
from pathlib import Path

from kd_jax import pretrained, weights
from kd_jax.config import Experiment
from kd_jax.errors import UsageError, require
from kd_jax.models.base import ModelConfig
from kd_jax.runs import Run, Seeds
from kd_jax.state import Snapshot


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
        shapes = weights.shapes_of(run.model(stage), run.data.spec.shape)
        pretrained.look(description.weights, _config(run, stage), shapes)


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
    """(the network that a stage begins with, what to say of it)."""
    file, config = run.experiment.stages[stage].weights, _config(run, stage)
    return weights.network(file, config, run.model(stage), run.data.spec.shape, seeds)


def _config(run: Run, stage: str) -> ModelConfig:
    return getattr(run.experiment, run.experiment.stages[stage].model)
