"""Soft labels without a larger teacher: smoothed, from a virtual teacher, or from itself before."""

from typing import ClassVar, Literal

import jax

from kd_jax.augment import smooth
from kd_jax.distill.divergences import cross_entropy, floats, kl_from_probabilities
from kd_jax.distill.logits import KD
from kd_jax.distill.term import Lesson, Own, Term
from kd_jax.errors import require_between
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class LabelTerm(Term):
    """A loss of the student's logits and the labels."""

    taught: ClassVar[bool] = False

    def __call__(self, logits: Array, targets: Array) -> Array:
        """The unweighted loss, float32 [B], of logits [B, K] and distributions [B, K]."""
        raise NotImplementedError

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        return self(lesson.student.logits, lesson.targets), own.state


def spread(targets: Array, share: float | Array) -> Array:
    """(1 − ε) y + ε (1 − y) / (K − 1): a share of what each class has goes to the K − 1 others."""
    return (1 - share) * targets + share * (1 - targets) / (targets.shape[-1] - 1)


@traceable
class LabelSmoothing(LabelTerm):
    """−Σ_k u_k log p_s[k] with u = (1 − ε) y + ε / K, or with the ε among the classes but y alone.

    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016,
    https://arxiv.org/abs/1512.00567, section 7, over all classes, as PyTorch has it; over the
    others, (1 − ε) y + ε (1 − y) / (K − 1), is Yuan et al., see `TfKDVirtual`. ε of theirs is
    ε (K − 1) / K of the former. The loss is complete: it holds the labels itself, so the weight of
    hard labels beside it must be 0.
    """

    about: ClassVar[str] = "labels with a share for the other classes"

    epsilon: float = 0.1
    """ε in [0, 1]."""
    over: Literal["all", "others"] = "all"
    """Which classes share the ε."""

    complete: ClassVar[bool] = True

    def __post_init__(self):
        Term.__post_init__(self)
        require_between("LabelSmoothing.epsilon", self.epsilon, 0, 1)

    def __call__(self, logits: Array, targets: Array) -> Array:
        logits, targets = floats(logits, targets)
        soften = smooth if self.over == "all" else spread
        return cross_entropy(logits, soften(targets, self.epsilon))


@traceable
class TfKDVirtual(LabelTerm):
    """KL(softmax(u / T) ‖ p_s) / K with u = a·y + (1 − a) (1 − y) / (K − 1), p_s at T = 1.

    Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", 2020,
    https://arxiv.org/abs/1909.11723, its virtual teacher as in the authors' code: a softmax of
    probabilities, and the mean over classes too. Theirs is (1 − α) × hard labels + α·multiplier ×
    this: the default weight is their ResNet-18's on CIFAR-100, 0.1 · 100, beside 0.9 × hard labels.
    """

    about: ClassVar[str] = "a made-up teacher that is right with a fixed confidence"

    correct: float = 0.99
    """a, what the virtual teacher gives the target."""
    temperature: float = 20.0
    """T > 0, of the virtual teacher alone."""
    weight: float = 10.0

    def __post_init__(self):
        Term.__post_init__(self)
        require_between("TfKDVirtual.correct", self.correct, 0, 1)
        require_between("TfKDVirtual.temperature", self.temperature, 0, open_low=True)

    def __call__(self, logits: Array, targets: Array) -> Array:
        logits, targets = floats(logits, targets)
        teacher = jax.nn.softmax(spread(targets, 1 - self.correct) / self.temperature)
        return kl_from_probabilities(teacher, jax.nn.log_softmax(logits)) / logits.shape[-1]


@traceable
class TfKDSelf(KD):
    """T²·KL(p_t ‖ p_s) / K, the teacher being the same network as it was trained on labels alone.

    Yuan et al., see `TfKDVirtual`; the mean over classes too is their code's. Theirs is (1 − α) ×
    hard labels + α·multiplier × this: the default weight is their ResNet-18's on CIFAR-100,
    0.95 · 50, beside 0.05 × hard labels; others have T = 20 and a multiplier of 1.
    """

    about: ClassVar[str] = "KD by the same network, trained before"

    temperature: float = 6.0
    weight: float = 47.5

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        divergence = super().__call__(student_logits, teacher_logits, targets)
        return divergence / student_logits.shape[-1]
