"""KD that adapts: to each example's logits, by a learned temperature, by the student's progress."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill.divergences import cross_entropy, floats, kl_divergence
from kd_jax.distill.logits import KD, Softened
from kd_jax.distill.norms import standardise
from kd_jax.distill.term import Lesson, Own, Term
from kd_jax.errors import require_between
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class LSKD(KD):
    """KD of standardised logits: z ← (z − mean_k z) / std_k z, of both networks.

    Sun et al., "Logit Standardization in Knowledge Distillation", 2024,
    https://arxiv.org/abs/2403.01427, beside 0.1 × hard labels. The student need not have the
    teacher's range of logits, only their order and proportions.
    """

    about: ClassVar[str] = "the teacher's probabilities from standardised logits"

    temperature: float = 2.0
    weight: float = 9.0

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        z_s, z_t = floats(student_logits, teacher_logits)
        return super().__call__(standardise(z_s), standardise(z_t), targets)


@traceable
class CTKD(Term):
    """T²·KL(p_t ‖ p_s) with T = low + span·sigmoid(θ); the student descends it and θ climbs it.

    Li et al., "Curriculum Temperature for Knowledge Distillation", 2023,
    https://arxiv.org/abs/2211.16231, with their global temperature; beside 0.1 × hard labels. The
    gradient by θ is multiplied by −λ, and λ = ½ (1 − cos(π·epoch / curriculum)) grows from 0 to 1
    and stays there, so that the lessons become harder. θ is trained by the student's optimizer.
    Theirs raises λ once an epoch, from the first; their released flag was inverted, so that θ
    descended.
    """

    about: ClassVar[str] = "KD whose temperature is trained against the student, ever harder"

    low: float = 1.0
    """The lowest temperature, > 0."""
    span: float = 20.0
    """The highest temperature less the lowest."""
    curriculum: float = 10.0
    """Epochs until λ is 1; on ImageNet 5."""
    standardise: bool = False
    """Standardise the logits of each example first, see `LSKD`; published with weight 9."""
    weight: float = 0.9

    def __post_init__(self):
        Term.__post_init__(self)
        require_between("CTKD.low", self.low, 0, open_low=True)
        require_between("CTKD.span", self.span, 0)
        require_between("CTKD.curriculum", self.curriculum, 0, open_low=True)

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        return Own(params={"theta": jnp.ones(())})

    def temperature(self, theta: Array, epoch: Array) -> Array:
        """T, whose gradient by θ is reversed."""
        λ = (1 - jnp.cos(jnp.pi * jnp.clip(epoch / self.curriculum, 0, 1))) / 2
        held = jax.lax.stop_gradient(theta)
        return self.low + self.span * jax.nn.sigmoid(held - λ * (theta - held))

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        assert lesson.teacher is not None, "the config checks that there is a teacher"
        z_s, z_t = floats(lesson.student.logits, lesson.teacher.logits)
        if self.standardise:
            z_s, z_t = standardise(z_s), standardise(z_t)
        T = self.temperature(own.params["theta"], lesson.epoch)
        return T**2 * kl_divergence(z_t / T, z_s / T), own.state


@traceable
class WSLD(Softened):
    """w·T²·H(p_t, p_s) at T, with w = 1 − exp(−H(y, p_s) / H(y, p_t)) at T = 1 and no gradient.

    Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff
    Perspective", 2021, https://arxiv.org/abs/2102.00650, beside 1 × hard labels. Examples on which
    the student is ahead of its teacher count less. H(p_t, p_s) is the soft cross-entropy, as in
    the common code, so that the teacher's entropy is in the value.
    """

    about: ClassVar[str] = "KD that weighs each example by who knows it better"

    weight: float = 2.25

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        z_s, z_t = floats(student_logits, teacher_logits)
        T = self.temperature
        hard_s, hard_t = cross_entropy(z_s, targets), cross_entropy(z_t, targets)
        w = jax.lax.stop_gradient(1 - jnp.exp(-hard_s / (hard_t + 1e-7)))
        return w * T**2 * cross_entropy(z_s / T, jax.nn.softmax(z_t / T))
