"""Distillation from logits that takes the target class apart from the others.

The target y is the class that has most of the label's distribution: that of the label, and with
mixup that of the larger share.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill.divergences import cross_entropy, floats, kl_divergence
from kd_jax.distill.logits import Softened
from kd_jax.distill.norms import standardise
from kd_jax.tree import traceable

Array = jax.Array


def target_class(targets: Array) -> Array:
    """Boolean [B, K]: True at the target y."""
    return jnp.argmax(targets, axis=-1, keepdims=True) == jnp.arange(targets.shape[-1])[None]


def others(logits: Array, y: Array) -> Array:
    """Logits [B, K] whose softmax p̂ is over the classes other than y alone."""
    return jnp.where(y, -jnp.inf, logits)


def against_the_rest(logits: Array, y: Array) -> Array:
    """Logits [B, 2] whose softmax is (p_y, 1 − p_y), of logits [B, K]."""
    of_target = jnp.sum(jnp.where(y, logits, 0), axis=-1)
    # From the logits, for 1 − p_y itself rounds to 0 and has then no logarithm.
    rest = jax.nn.logsumexp(others(logits, y), axis=-1)
    return jnp.stack([of_target, rest], axis=-1)


@traceable
class DKD(Softened):
    """T²·(α·KL(b_t ‖ b_s) + β·KL(p̂_t ‖ p̂_s)), b = (p_y, 1 − p_y), p̂ over the classes but y.

    Zhao et al., "Decoupled Knowledge Distillation", 2022, https://arxiv.org/abs/2203.08679, beside
    1 × hard labels. KD has (1 − p_y of the teacher) in the place of β, so that it hardly learns
    from what a confident teacher says of the other classes. On CIFAR-100 β is 2 (ResNet-56 to -20,
    -110 to -32), 6 (from Wide ResNet-40-2 and VGG-13) or 8 (ResNet-32x4 to -8x4 and to
    ShuffleNets, Wide ResNet-40-2 to ShuffleNet-V1, ResNet-50 to MobileNet-V2). The warm-up is
    theirs, though they raise the weight once an epoch. Their code takes log(1 − p_y), which is
    −inf for a confident network; here it is a log-sum-exp of logits.
    """

    about: ClassVar[str] = "the target class and all others, each with a weight of its own"

    alpha: float = 1.0
    """α, the weight of the target class against the rest."""
    beta: float = 8.0
    """β, the weight of the other classes among themselves."""
    standardise: bool = False
    """Standardise the logits of each example first, see `LSKD`; published with T = 2, weight 9."""
    warmup: float = 20.0

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        y, T = target_class(targets), self.temperature
        z_s, z_t = floats(student_logits, teacher_logits)
        if self.standardise:
            z_s, z_t = standardise(z_s), standardise(z_t)
        z_s, z_t = z_s / T, z_t / T
        target = kl_divergence(against_the_rest(z_t, y), against_the_rest(z_s, y))
        other = kl_divergence(others(z_t, y), others(z_s, y))
        return T**2 * (self.alpha * target + self.beta * other)


@traceable
class NKD(Softened):
    """−p_t[y]·log p_s[y] − γ·T²·Σ_{k≠y} p̂_t[k] log p̂_s[k], p at T = 1 and p̂ over the classes but y
    at T.

    Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach
    with Normalized Loss and Customized Soft Labels", 2023, https://arxiv.org/abs/2303.13005, beside
    1 × hard labels. Defaults are those for CIFAR-100; on ImageNet γ is 1.5 and T is 1. These are
    cross-entropies, so that it is not zero where the student has become the teacher.
    """

    about: ClassVar[str] = "the target class, and the others normalised among themselves"

    gamma: float = 3.5
    """γ, the weight of the other classes."""
    temperature: float = 3.0

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        y, T = target_class(targets), self.temperature
        z_s, z_t = floats(student_logits, teacher_logits)
        target = cross_entropy(z_s, jnp.where(y, jax.nn.softmax(z_t), 0))
        other = cross_entropy(others(z_s / T, y), jax.nn.softmax(others(z_t / T, y)))
        return target + self.gamma * T**2 * other
