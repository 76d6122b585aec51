"""Distillation from how the logits of a whole batch are related. Each loss is a scalar."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill.divergences import floats, kl_divergence
from kd_jax.distill.logits import LogitTerm, Softened
from kd_jax.distill.norms import safe_root, standardise
from kd_jax.distill.term import Lesson, Own, Term
from kd_jax.errors import require, require_between
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class DIST(Softened):
    """T²·(β·mean_b[1 − ρ(p_s[b], p_t[b])] + γ·mean_k[1 − ρ(p_s[:, k], p_t[:, k])]), a scalar.

    ρ is Pearson's correlation, of the classes of an example and of the examples of a class.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022,
    https://arxiv.org/abs/2205.10536, beside 1 × hard labels. Defaults are those for CIFAR-100; on
    ImageNet T is 1.
    """

    about: ClassVar[str] = "correlation with the teacher, by example and by class"

    beta: float = 1.0
    """β, the weight of relations between classes."""
    gamma: float = 1.0
    """γ, the weight of relations between examples."""
    weight: float = 2.0

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        T = self.temperature
        p_s, p_t = (jax.nn.softmax(z / T) for z in floats(student_logits, teacher_logits))
        between_classes = 1 - jnp.mean(correlation(p_s, p_t))
        between_examples = 1 - jnp.mean(correlation(p_s.T, p_t.T))
        return T**2 * (self.beta * between_classes + self.gamma * between_examples)


def correlation(a: Array, b: Array, epsilon: float = 1e-8) -> Array:
    """Pearson's ρ of each row, [rows]; 0 where a row is constant."""
    a, b = (x - jnp.mean(x, axis=-1, keepdims=True) for x in (a, b))
    norms = [safe_root(jnp.sum(x**2, axis=-1)) for x in (a, b)]
    return jnp.sum(a * b, axis=-1) / (norms[0] * norms[1] + epsilon)


def relations(p_s: Array, p_t: Array) -> Array:
    """Σ_j (⟨p_t[i], p_t[j]⟩ − ⟨p_s[i], p_s[j]⟩)² of each row i, [rows]."""
    gram = lambda p: jnp.matmul(p, p.T, precision="highest")  # noqa: E731
    return jnp.sum((gram(p_t) - gram(p_s)) ** 2, axis=-1)


@traceable
class ClassRelation(Softened):
    """‖P_tᵀP_t − P_sᵀP_s‖² / K, P [B, K] the probabilities at T, a scalar.

    The class-level part of Jin et al., see `MLKD`, at one temperature and without a mask. It grows
    as B² with the batch.
    """

    about: ClassVar[str] = "how the classes relate in a batch"

    weight: float = 0.9

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = floats(student_logits, teacher_logits)
        p_s, p_t = (jax.nn.softmax(z / self.temperature) for z in (z_s, z_t))
        return jnp.mean(relations(p_s.T, p_t.T))


@traceable
class MLKD(LogitTerm):
    """Σ_T [ mean_b m_b·T²·KL(p_t[b] ‖ p_s[b]) + ‖m ⊙ (P_tP_tᵀ − P_sP_sᵀ)‖² / B
    + ‖n ⊙ (P_tᵀP_t − P_sᵀP_s)‖² / K ], P [B, K] the probabilities at T, a scalar.

    Jin et al., "Multi-Level Logit Distillation", 2023,
    https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html,
    beside 0.1 × hard labels. Rows are masked: m marks the examples, n the classes, of which the
    teacher is not surer than of the median one. Their code reduces the losses before it masks them,
    which only scales them; here the masks do what they are for.

    Published with a second, strongly augmented view (`strong`), of which the student learns the
    labels too, and by this term Σ_T mean_b T²·KL(p_t[b] ‖ p_s[b]), without a mask. Their code
    computes the relations of that view, but leaves them out of the loss, as is done here; and of
    its five KL it takes those at T = 2 and 6 from the first view once more, which is not.
    """

    about: ClassVar[str] = (
        "examples, relations in the batch and relations of classes, at several temperatures"
    )

    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)
    """T of each summand."""
    masks: bool = True
    """Learn from the examples and classes alone that the teacher is less sure of."""
    standardise: bool = False
    """Standardise the logits of the first part, see `LSKD`; published with weight 9."""
    strong: bool = False
    """Learn from a second view of the examples too: that of the stage's second-view."""
    weight: float = 0.9

    def __post_init__(self):
        Term.__post_init__(self)
        require(bool(self.temperatures), "MLKD.temperatures are none: name at least one")
        for T in self.temperatures:
            require_between("MLKD.temperatures", T, 0, open_low=True)

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = floats(student_logits, teacher_logits)
        m, n = unsure(z_t) if self.masks else (1.0, 1.0)
        total = jnp.mean(m * self._instances(z_s, z_t))
        for T in self.temperatures:
            p_s, p_t = jax.nn.softmax(z_s / T), jax.nn.softmax(z_t / T)
            total += jnp.mean(m * relations(p_s, p_t)) + jnp.mean(n * relations(p_s.T, p_t.T))
        return total

    @property
    def views(self) -> int:
        return 2 if self.strong else 1

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        value, state = super().evaluate(own, lesson)
        if not self.strong:
            return value, state
        second = lesson.second
        assert second is not None, "it has said that it reads two views"
        assert second.teacher is not None, "the config checks that there is a teacher"
        z_s, z_t = floats(second.student.logits, second.teacher.logits)
        return value + jnp.mean(self._instances(z_s, z_t)), state

    def _instances(self, z_s: Array, z_t: Array) -> Array:
        """Σ_T T²·KL(p_t ‖ p_s), [B]."""
        if self.standardise:
            z_s, z_t = standardise(z_s), standardise(z_t)
        each = [T**2 * kl_divergence(z_t / T, z_s / T) for T in self.temperatures]
        return jnp.sum(jnp.stack(each), axis=0)


def unsure(teacher_logits: Array) -> tuple[Array, Array]:
    """Which examples [B] and which classes [K] have a confidence, max_k p and Σ_b p, that is not
    above the median one's: 1 there, 0 elsewhere."""
    p = jax.nn.softmax(teacher_logits)
    confidences = jnp.max(p, axis=-1), jnp.sum(p, axis=0)
    examples, classes = ((c <= jnp.median(c)).astype(p.dtype) for c in confidences)
    return examples, classes
