"""What all distillation terms have in common: a weight over time, what they are told of a step, and
what they may carry: parameters of their own, trained beside the student's, and memories."""

import dataclasses
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from kd_jax.errors import require, require_between
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@flax.struct.dataclass
class View:
    """What is said of another view of a step's examples.

    Attributes:
      student, teacher: as in a Lesson.
      targets: float32 [B, K].
    """

    student: Outputs
    teacher: Outputs | None
    targets: Array


@flax.struct.dataclass
class Lesson:
    """All that a term is told of a step on B examples.

    Attributes:
      student: what the student says of their views, in training mode.
      teacher: what the teacher says of the same views; None where no term needs one.
      targets: float32 [B, K], the distributions to learn from the labels.
      labels, ids: int32 [B].
      epoch: float32 scalar, epochs since the stage began.
      key: for terms that draw at random; of this step, and the same for all of its terms.
      student_params, teacher_params: of the networks; None of a teacher whose words were kept.
      members: [M, B, K], the logits of several who teach, where terms are to be taken with each;
        then there are member_weights [M].
      second: of a second view of the examples, varied otherwise; None where no term asks for it.
    """

    student: Outputs
    teacher: Outputs | None
    targets: Array
    labels: Array
    ids: Array
    epoch: Array
    key: Array
    student_params: Any = None
    teacher_params: Any = None
    members: Any = None
    member_weights: Any = None
    second: View | None = None


@flax.struct.dataclass
class Own:
    """What a term carries from step to step.

    Attributes:
      params: trained with the student's, by the same optimizer: projectors, a temperature.
      state: what the term itself updates: memory banks, running means.
    """

    params: Tree = flax.struct.field(default_factory=dict)
    state: Tree = flax.struct.field(default_factory=dict)


def ramp(epochs: Array, length: float) -> Array:
    """From 0 to 1 over `length` epochs; 1 at once where that is 0."""
    some = jnp.asarray(length) > 0
    return jnp.where(some, jnp.clip(epochs / jnp.where(some, length, 1.0), 0.0, 1.0), 1.0)


@traceable
class Term:
    """A term of the objective: weight · factor(epoch) · mean_B[value]."""

    about: ClassVar[str] = ""
    """What the student learns, in a few words."""

    weight: float = 1.0
    """Its factor in the objective, >= 0."""
    start: float = 0.0
    """Epoch, counted from 0, at which it begins to act."""
    warmup: float = 0.0
    """Epochs over which its weight then grows linearly from 0."""
    stop: float | None = None
    """Epoch from which it acts no more; None: never."""
    cooldown: float = 0.0
    """Epochs before `stop` over which its weight falls linearly to 0."""

    complete: ClassVar[bool] = False
    """True where the hard-label term is inside: the objective's own must then have weight 0."""
    taught: ClassVar[bool] = True
    """Whether it needs a teacher."""
    logits_alone: ClassVar[bool] = True
    """Whether logits are all that it reads of both networks, so that kept ones will do."""
    remembers: ClassVar[bool] = False
    """Whether `init` needs the labels of all training examples."""

    def __post_init__(self):
        who = type(self).__name__
        for field in dataclasses.fields(self):
            # No objective has a factor, margin or power below 0, or counts less than one.
            least = 1 if field.type in (int, "int") else 0
            require_between(f"{who}.{field.name}", getattr(self, field.name), least)
        if isinstance(self.stop, int | float) and isinstance(self.start, int | float):
            require(
                self.stop > self.start,
                f"{who}.stop is {self.stop:g}: it must come after start, {self.start:g}",
            )

    def factor(self, epoch: Array) -> Array:
        """What the schedule leaves of its weight, in [0, 1]."""
        grown = jnp.where(epoch >= self.start, ramp(epoch - self.start, self.warmup), 0.0)
        if self.stop is None:
            return grown
        left = jnp.where(epoch < self.stop, ramp(self.stop - epoch, self.cooldown), 0.0)
        return grown * left

    @property
    def views(self) -> int:
        """How many views of the examples it reads: 1, or 2 with the lesson's `second`."""
        return 1

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The features, by name or by a module's path, that it was told to read of the student and
        of the teacher."""
        return (), ()

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        """The features that it reads of the student and of the teacher, of those that they have.

        Raises UsageError, which begins with a field's name, where they don't suit each other.
        """
        return [], []

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        """What it carries at the stage's first step.

        Args:
          student, teacher: shapes alone (jax.ShapeDtypeStruct).
          labels: int32 [N], the label of the training example of each id, -1 where there is none;
            [0] for terms that don't remember.
        """
        return Own()

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        """(the unweighted loss, next state): float32 [B], or a scalar where the loss is one of the
        whole batch."""
        raise NotImplementedError
