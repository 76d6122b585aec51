"""A stage's static choices, and the arrays that its steps read but never change."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from kd_jax.augment import Augment
from kd_jax.datasets import Spec
from kd_jax.forward import Model, Variables
from kd_jax.freezing import Patterns
from kd_jax.prune import DNS, STRUCTURES, Granularity
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.allocate import Allocation, Budget
from kd_jax.prune.cut import Normalise

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
      second: those of a second view of the examples, or None where no term reads one.
      batch: examples a step.
      steps: steps of the stage.
      steps_per_epoch: whole batches in an epoch; the rest of an epoch's order is left out.
      prunes: whether the stage has masks of its own.
      include, exclude: patterns of the parameters that get a mask.
      allocation, budget, scan_batches, normalise, structure: how masks are cut; see
        config_prune.Prune.
      straight_through: whether masks hide weights in the forward pass alone.
      grows: by what score a swap of weights grows them.
      remembers: what the state carries for the schedule.
      freeze: patterns of parameters that are not trained.
      freeze_statistics: whether frozen norms keep their running statistics, and use them.
      recalibrate: batches by which statistics are estimated anew, after a cut or of an average.
      swa: (first, every): networks after so many steps, and every so many more, are averaged; or
        None.
      surgery: by what masks move within the steps, or None.
      rewound: (L, k) where a training of L steps is repeated from its step k on.
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
    second: Augment | None = None
    reads: tuple[str, ...] = ()
    prunes: bool = False
    include: tuple[str, ...] = masks_lib.DEFAULT_INCLUDE
    exclude: tuple[str, ...] = ()
    allocation: Allocation = "layer"
    budget: Budget = "units"
    scan_batches: int = 0
    normalise: Normalise = "none"
    structure: Granularity = STRUCTURES["weights"]
    straight_through: bool = False
    grows: str = ""
    remembers: tuple[str, ...] = ()
    freeze: Patterns = ()
    freeze_statistics: bool = False
    recalibrate: int = 0
    swa: tuple[int, int] | None = None
    surgery: DNS | None = None
    rewound: tuple[int, int] | None = None
    sharding: jax.sharding.NamedSharding | None = None

    @property
    def asks(self) -> bool:
        """Whether the teacher must be asked at each step, for more than its logits on one view."""
        return bool(self.reads) or self.second is not None

    @property
    def length(self) -> int:
        """Steps of a training, over which the learning rate falls."""
        return self.steps if self.rewound is None else self.rewound[0]

    def pace(self, step: Any) -> Any:
        """Which step of the learning rate's schedule a training's step has: while networks are
        averaged the rate stays as it is."""
        return step if self.swa is None else jnp.minimum(step, self.swa[0])

    def active(self, masks: Any, params: Any) -> Any:
        """The masks of the layers that the stage prunes; None elsewhere."""
        which = (self.include, self.exclude, self.structure.fits)
        return masks_lib.among(masks, params, *which)

    def position(self, step: Any) -> Any:
        """Which step of a training the stage's step is: of it are functions the learning rate, the
        order of the data and all randomness."""
        if self.rewound is None:
            return step
        length, back = self.rewound
        return jnp.where(step < length, step, back + (step - length) % (length - back))


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
