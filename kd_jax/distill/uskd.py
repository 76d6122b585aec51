"""Self-distillation from customised soft labels, made of what the student itself says."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.decoupled import others, target_class
from kd_jax.distill.divergences import cross_entropy, floats
from kd_jax.distill.taps import Names, stages
from kd_jax.distill.term import Lesson, Own, Term
from kd_jax.errors import did_you_mean, require, require_between
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class USKD(Term):
    """−α·P·log p[y] − β·Σ_{k≠y} ẑ_k log p̂_k + μ·H(0.9 y + 0.1 / K, w), p̂ over the classes but y.

    P = p[y]² + 1 − mean_B p[y]². w is a weak head, the softmax of a linear layer on the mean over
    places of one of the student's features. z is 1 / the class's rank, Zipf's law, by
    w / (1 − w[y]) + s / (1 − s[y]), and ẑ is z without y, scaled to sum to 1. Neither P nor ẑ has
    a gradient.

    Yang et al., see `NKD`, beside 1 × hard labels. Defaults are those for CIFAR-100; on ImageNet α
    is 1, β 0.1 and μ 0.005. In the paper s is the student's p, in the authors' code log p (so that
    the denominator is 1 − log p[y]): see `form`. Under mixup theirs has two targets; here the
    larger share alone is one.
    """

    about: ClassVar[str] = "soft labels from a weak head and Zipf's law"

    student_taps: Names = ()
    """The student's feature that the weak head reads; none: the end of the last stage but one."""
    alpha: float = 0.1
    """α, the weight of the target class."""
    beta: float = 0.1
    """β, the weight of the other classes."""
    mu: float = 0.1
    """μ, the weight of the weak head's own lesson."""
    form: Literal["code", "paper"] = "code"
    """By which of the two classes are ranked."""

    taught: ClassVar[bool] = False
    logits_alone: ClassVar[bool] = False

    def __post_init__(self):
        Term.__post_init__(self)
        for name in ("alpha", "beta", "mu"):
            require_between(f"USKD.{name}", getattr(self, name), 0)

    def taps(self) -> tuple[Names, Names]:
        return self.student_taps, ()

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        names = list(self.student_taps) or stages(student)[-2:-1]
        known = ", ".join(student.features) or "a module by its path"
        require(
            len(names) == 1,
            f"student-taps {' '.join(names) or 'are none'}: the weak head reads one feature, and "
            f"without a name the end of the last stage but one; name one of {known}",
        )
        hint = did_you_mean(names[0], student.features)
        fits = names[0] in student.features and student.features[names[0]].ndim > 1
        require(fits, f"student-taps {names[0]}: the student has no such feature or module.{hint}")
        return names, []

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        width = student.features[self.reads(student, teacher)[0][0]].shape[-1]
        return Own(params={"weak": connect.init_dense(key, width, student.logits.shape[-1])})

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        feature = lesson.student.features[self.reads(lesson.student, None)[0][0]]
        (pooled,) = floats(jnp.mean(feature, axis=tuple(range(1, feature.ndim - 1))))
        weak = connect.dense(own.params["weak"], pooled)
        return self(lesson.student.logits, weak, lesson.targets), own.state

    def __call__(self, logits: Array, weak: Array, targets: Array) -> Array:
        """The unweighted loss, float32 [B], of the student's and the weak head's logits [B, K] and
        distributions [B, K]; P depends on the whole batch."""
        z, weak, targets = floats(logits, weak, targets)
        y, p = target_class(targets), jax.nn.softmax(z)
        square = jnp.sum(jnp.where(y, p, 0), axis=-1, keepdims=True) ** 2
        P = jax.lax.stop_gradient(square + 1 - jnp.mean(square))
        target = cross_entropy(z, jnp.where(y, P, 0))
        other = cross_entropy(others(z, y), self.zipf(z, weak, y))
        lesson = cross_entropy(weak, 0.9 * targets + 0.1 / targets.shape[-1])
        return self.alpha * target + self.beta * other + self.mu * lesson

    def zipf(self, logits: Array, weak: Array, y: Array) -> Array:
        """ẑ [B, K], of logits [B, K] twice and y [B, K]."""
        s = jax.nn.softmax(logits) if self.form == "paper" else jax.nn.log_softmax(logits)
        of_target = lambda x: jnp.sum(jnp.where(y, x, 0), axis=-1, keepdims=True)  # noqa: E731
        score = sum(x / (1 - of_target(x) + 1e-6) for x in (jax.nn.softmax(weak), s))
        rank = jnp.argsort(jnp.argsort(-score, axis=-1), axis=-1)  # type: ignore[operator]
        z = jnp.where(y, 0, 1 / (rank.astype(logits.dtype) + 1))
        return z / jnp.sum(z, axis=-1, keepdims=True)
