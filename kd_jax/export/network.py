"""What is exported: one seed's network of a finished stage, in float32, of images as they are
stored."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled, metrics, pipeline
from kd_jax.augment import normalise
from kd_jax.data import Split
from kd_jax.datasets import Spec
from kd_jax.errors import require
from kd_jax.forward import Model, Variables
from kd_jax.quantize import integer, integers
from kd_jax.quantize.network import INPUTS, grids
from kd_jax.runs import Run
from kd_jax.state import Snapshot


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network at rest, with the data that it is for.

    Attributes:
      snapshot: of one seed.
      dtype: of stored images.
    """

    model: Model
    snapshot: Snapshot
    spec: Spec
    dtype: Any = np.uint8

    @property
    def function(self) -> Callable[[jax.Array], jax.Array]:
        """Stored images [B, H, W, C] -> logits float32 [B, K]; they are normalised within."""
        return logits(self.model, self.snapshot.variables, self.spec)


def logits(model: Model, variables: Variables, spec: Spec) -> Callable[[jax.Array], jax.Array]:
    def function(images: jax.Array) -> jax.Array:
        with in_full():
            said, _ = model.forward(variables, normalise(images, spec), train=False)
        return said.logits.astype(jnp.float32)

    return function


def in_full() -> contextlib.AbstractContextManager[None]:
    """Products of all bits of float32: by default GPUs and TPUs round their factors to fewer, and a
    file would say there what no other device says."""
    return jax.default_matmul_precision("highest")


def has_integers(network: Network) -> bool:
    """Whether it has products that can be computed in integers."""
    quantised = network.model.beneath is not None
    return quantised and bool(grids(network.snapshot.variables)[INPUTS])


def in_integers(network: Network) -> Network:
    """The same with products of int8, and kernels stored as such.

    Raises:
      UsageError: no input of its layers is on a grid.
    """
    model, snapshot = network.model, network.snapshot
    require(
        has_integers(network),
        "--format onnx-int8: nothing in this network is a product of integers: quantise the inputs "
        "of its layers too (in a stage Quantize, --STAGE.inputs 8), or leave onnx-int8 out",
    )
    whole = integers(snapshot.variables)
    kept = Snapshot(whole.pop("params"), whole, snapshot.masks)
    return dataclasses.replace(network, model=integer(model), snapshot=kept)


def in_float32(run: Run) -> Run:
    """The run with networks that compute in float32, whatever they were trained in."""
    if run.experiment.compute == "float32":
        return run
    experiment = dataclasses.replace(run.experiment, compute="float32")
    models = pipeline.models_of(experiment, run.data.spec.classes)
    return dataclasses.replace(run, experiment=experiment, models=models)


def snapshot_of(run: Run, stage: str, seed: int) -> Snapshot:
    """Of one seed."""
    group = next(group for group in run.groups if seed in group)
    place = group.index(seed)
    return jax.tree.map(lambda x: x[place], run.network(stage, group))


def of_run(run: Run, stage: str, seed: int) -> Network:
    """A stage's network, to be exported."""
    test, model = run.data.test, in_float32(run).model(stage)
    dtype = test.inputs.dtype if isinstance(test, Split) else np.uint8
    return Network(model, snapshot_of(run, stage, seed), run.data.spec, dtype)


def predictions(run: Run, model: Model, snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """(logits [N, K], labels [N]) of the whole test split, by one seed's network."""
    predict = compiled.predictor(model, run.data.spec)
    with in_full():
        found, labels = metrics.predictions(
            predict, jax.tree.map(lambda x: x[None], snapshot), run.data.test
        )
    return found[0], labels
