"""Distillation from logits. Each loss is a traceable dataclass: fields are config, __call__ maths.

All return one value an example, [B], or one of the whole batch where they say so, in float32
(float64 where an input is float64), unweighted: the objective multiplies by `weight` and takes the
mean. None applies stop_gradient: the teacher is frozen where it is evaluated, once for
all losses, and mutual learning may want its gradient.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill.divergences import cross_entropy, floats, kl_divergence
from kd_jax.distill.term import Lesson, Own, Term
from kd_jax.errors import require_between
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class LogitTerm(Term):
    """A loss of the student's and the teacher's logits."""

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        """The unweighted loss, float32 [B] or a scalar, of logits [B, K] twice and distributions
        [B, K]."""
        raise NotImplementedError

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        assert lesson.teacher is not None, "the config checks that there is a teacher"
        return self(self.taught_of(lesson), lesson.teacher.logits, lesson.targets), own.state

    def taught_of(self, lesson: Lesson) -> Array:
        """The student's logits that learn from it, [B, K]."""
        return lesson.student.logits


@traceable
class Softened(LogitTerm):
    """A loss of logits that are softened by a temperature."""

    temperature: float = 4.0
    """T > 0, which both networks' logits are divided by."""

    def __post_init__(self):
        Term.__post_init__(self)
        require_between(f"{type(self).__name__}.temperature", self.temperature, 0, open_low=True)


@traceable
class KD(Softened):
    """T²·KL(p_t ‖ p_s) with p = softmax(z / T).

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531. The paper's soft cross-entropy differs by the teacher's
    entropy, which has no gradient by the student. T² keeps the gradient's size when T changes;
    the mean over examples, never over classes too, makes this the "batchmean" of the usual code.
    Defaults are those of the common CIFAR-100 benchmark, beside 0.1 × hard labels.
    """

    about: ClassVar[str] = "the teacher's probabilities at a temperature"

    weight: float = 0.9

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = floats(student_logits, teacher_logits)
        T = self.temperature
        return T**2 * kl_divergence(z_t / T, z_s / T)


@traceable
class Mixture(LogitTerm):
    """L = α·L_CE + (1−α)·L_KL, L_CE = −Σ y log y_s and L_KL = Σ y_t log(y_t / y_s).

    y are the (hard) targets, y_t and y_s the teacher's and the student's probabilities; there is
    no temperature. The loss is complete: it holds the hard labels itself, so the weight of hard
    labels beside it must be 0.

    Attributes:
      alpha: α in [0, 1]; 1 is plain supervised training, 0 learns from the teacher alone.
    """

    about: ClassVar[str] = (
        "labels and the teacher's probabilities, mixed by α, without a temperature"
    )

    alpha: float = 0.5

    complete: ClassVar[bool] = True

    def __post_init__(self):
        Term.__post_init__(self)
        require_between(f"{type(self).__name__}.alpha", self.alpha, 0, 1)

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        hard = cross_entropy(student_logits, targets)
        soft = kl_divergence(teacher_logits, student_logits)
        return self.alpha * hard + (1 - self.alpha) * soft


@traceable
class LogitRegression(LogitTerm):
    """Mean over the K classes of (z_s − z_t)².

    Ba, Caruana, "Do Deep Nets Really Need to be Deep?", 2014, https://arxiv.org/abs/1312.6184.
    The paper has ½ Σ_k, that is K/2 times this; the mean is what later codebases compare with.
    """

    about: ClassVar[str] = "the teacher's logits by squared error"

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = floats(student_logits, teacher_logits)
        return jnp.mean((z_s - z_t) ** 2, axis=-1)
