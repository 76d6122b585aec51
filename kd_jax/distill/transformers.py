"""Distillation from logits as it was published with Transformers."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill.divergences import (
    cross_entropy,
    floats,
    kl_divergence,
    kl_from_probabilities,
)
from kd_jax.distill.logits import KD, LogitTerm, Softened
from kd_jax.distill.term import Lesson
from kd_jax.errors import require_between
from kd_jax.tree import traceable

Array = jax.Array


@traceable
class OfSecondHead(LogitTerm):
    """A loss that a student with a distillation token learns by that token's head."""

    def taught_of(self, lesson: Lesson) -> Array:
        return lesson.student.features.get("distill_logits", lesson.student.logits)


@traceable
class DeiTHard(OfSecondHead):
    """−log p_s[k], k the class that the teacher finds most likely.

    Touvron et al., "Training data-efficient image transformers & distillation through attention",
    2021, https://arxiv.org/abs/2012.12877, beside ½ × hard labels. p_s is of the head of the
    student's distillation token, its feature `distill_logits`, while labels teach the other head; a
    student without that token learns both by its one head.
    """

    about: ClassVar[str] = "the teacher's choice as a label, by a token of its own"

    weight: float = 0.5

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = floats(student_logits, teacher_logits)
        said = jax.nn.one_hot(jnp.argmax(z_t, axis=-1), z_t.shape[-1], dtype=z_t.dtype)
        return cross_entropy(z_s, said)


@traceable
class DeiTSoft(OfSecondHead, KD):
    """T²·KL(p_t ‖ p_s) / K.

    Touvron et al., see `DeiTHard`, also for whose p_s is; weight and T are their paper's, beside
    0.9 × hard labels. Their code takes the mean over classes too, which divides by K; their paper's
    divergence is `KD`.
    """

    about: ClassVar[str] = "the teacher's probabilities, by a token of its own"

    temperature: float = 3.0
    weight: float = 0.1

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        divergence = super().__call__(student_logits, teacher_logits, targets)
        return divergence / student_logits.shape[-1]


@traceable
class SoftCrossEntropy(Softened):
    """−Σ_k p_t[k] log p_s[k] / K at T, without a factor T².

    Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020,
    https://arxiv.org/abs/1909.10351, section 3.1; the mean over classes is their code's.
    """

    about: ClassVar[str] = "the teacher's probabilities by cross-entropy, a mean over classes"

    temperature: float = 1.0

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = floats(student_logits, teacher_logits)
        T = self.temperature
        return cross_entropy(z_s / T, jax.nn.softmax(z_t / T)) / z_s.shape[-1]


@traceable
class GKD(Softened):
    """β·KL(p_t ‖ m) + (1 − β)·KL(p_s ‖ m), m = β·p_t + (1 − β)·p_s, at T and without a factor T².

    Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes", 2024, https://arxiv.org/abs/2306.13649. The generalised Jensen-Shannon divergence is
    0 at β = 0 and β = 1; as in the common code it is KL(p_t ‖ p_s) and KL(p_s ‖ p_t) there, what it
    tends to when it is divided by β or by 1 − β.
    """

    about: ClassVar[str] = "generalised Jensen-Shannon divergence from the teacher"

    beta: float = 0.5
    """β in [0, 1]: towards 0 the student covers what the teacher finds likely, towards 1 it seeks
    the likeliest."""
    temperature: float = 1.0

    def __post_init__(self):
        Softened.__post_init__(self)
        require_between("GKD.beta", self.beta, 0, 1)

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = (z / self.temperature for z in floats(student_logits, teacher_logits))
        β = jnp.asarray(self.beta, z_s.dtype)
        inside = jnp.where((β > 0) & (β < 1), β, 0.5)  # for a logarithm that is finite
        divergence = jensen_shannon(z_t, z_s, inside)
        divergence = jnp.where(β == 0, kl_divergence(z_t, z_s), divergence)
        return jnp.where(β == 1, kl_divergence(z_s, z_t), divergence)


def jensen_shannon(teacher_logits: Array, student_logits: Array, beta: Array) -> Array:
    """The generalised divergence, [B], of two softmaxes of logits [B, K], 0 < β < 1."""
    log_p, log_q = jax.nn.log_softmax(teacher_logits), jax.nn.log_softmax(student_logits)
    log_m = jnp.logaddexp(jnp.log(beta) + log_p, jnp.log1p(-beta) + log_q)
    of_teacher, of_student = (kl_from_probabilities(jnp.exp(x), log_m) for x in (log_p, log_q))
    return beta * of_teacher + (1 - beta) * of_student
