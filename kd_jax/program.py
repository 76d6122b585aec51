"""A stage's static choices, and the arrays that its steps read but never change."""

import dataclasses

import flax.struct
import jax

from kd_jax.augment import Augment
from kd_jax.datasets import Spec
from kd_jax.forward import Model, Variables
from kd_jax.prune import masks as masks_lib

Array = jax.Array
VARIANTS = "variants"  # the mapped axis of a seed's settings; along it, peers hear one another


@dataclasses.dataclass(frozen=True)
class Program:
    """The static choices of a stage: what is compiled once and never changes.

    Attributes:
      model: the network in training.
      teacher: the network that teaches, or None.
      itself: whether the student's own average teaches it.
      peers: how many students, the variants of the settings, teach one another; 0: none do.
      reads: names of the teacher's features that distillation terms read.
      spec: facts of the data set.
      augment: which augmentations.
      batch: examples a step.
      steps: steps of the stage.
      steps_per_epoch: whole batches in an epoch; the rest of an epoch's order is left out.
      prunes: whether the stage has masks of its own.
      include, exclude: patterns of the parameters that get a mask.
      scope: how masks are cut: "layer", "global", "threshold" or "std".
      sharding: over which devices a batch is split, or None.
    """

    model: Model
    teacher: Model | None
    spec: Spec
    augment: Augment
    batch: int
    steps: int
    steps_per_epoch: int
    itself: bool = False
    peers: int = 0
    reads: tuple[str, ...] = ()
    prunes: bool = False
    include: tuple[str, ...] = masks_lib.DEFAULT_INCLUDE
    exclude: tuple[str, ...] = ()
    scope: str = "layer"
    sharding: jax.sharding.NamedSharding | None = None


@flax.struct.dataclass
class Teacher:
    """What the teacher brings to a stage: its variables, or its logits if they were collected
    beforehand. Never donated, saved or updated.

    Attributes:
      variables: as Model.forward takes them, or None.
      logits: float32 [N, K] in the order of the resident data, or None; where examples are
        augmented, those of one epoch's views.
    """

    variables: Variables | None = None
    logits: Array | None = None


@flax.struct.dataclass
class Resident:
    """A split that lives on the device: ids int32 [N], inputs [N, ...], labels int32 [N]."""

    ids: Array
    inputs: Array
    labels: Array
