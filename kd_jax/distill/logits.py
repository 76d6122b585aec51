"""Distillation from logits. Each loss is a traceable dataclass: fields are config, __call__ maths.

All return one value an example, [B], in float32 (float64 where an input is float64), unweighted:
the objective multiplies by `weight` and takes the mean. None applies stop_gradient: the teacher
is frozen where it is evaluated, once for all losses, and mutual learning may want its gradient.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.errors import require_between
from kd_jax.tree import traceable

Array = jax.Array


def _floats(*arrays: Array) -> list[Array]:
    """All arrays in one dtype, at least float32: half precision can't hold a softmax's tail."""
    wide = any(a.dtype == jnp.float64 for a in arrays)
    return [jnp.asarray(a, jnp.float64 if wide else jnp.float32) for a in arrays]


def cross_entropy(logits: Array, targets: Array) -> Array:
    """−Σ_k y_k log softmax(z)_k, [B], of logits [B, K] and distributions [B, K] (one-hot, mixed).

    0·log 0 = 0: a class whose logit is −inf costs nothing where its target is zero.
    """
    logits, targets = _floats(logits, targets)
    log_q = jax.nn.log_softmax(logits)
    nothing = (targets == 0) & jnp.isneginf(log_q)
    return -jnp.sum(targets * jnp.where(nothing, 0, log_q), axis=-1)


def kl_divergence(teacher_logits: Array, student_logits: Array) -> Array:
    """KL(p ‖ q) = Σ_k p_k (log p_k − log q_k), [B], p and q the softmaxes of logits [B, K].

    Value and both gradients are finite for any finite logits. A class that underflows to p_k = 0
    adds nothing to any of them, so −inf logits may mask classes of teacher and student alike.
    """
    teacher_logits, student_logits = _floats(teacher_logits, student_logits)
    log_p, log_q = jax.nn.log_softmax(teacher_logits), jax.nn.log_softmax(student_logits)
    p = jnp.exp(log_p)
    # Selected before the subtraction: −inf − −inf is NaN, and a later `where` keeps its gradient.
    log_p, log_q = jnp.where(p > 0, log_p, 0), jnp.where(p > 0, log_q, 0)
    return jnp.sum(p * (log_p - log_q), axis=-1)


def kl_from_probabilities(target: Array, log_q: Array) -> Array:
    """KL(p ‖ q) = Σ_k p_k log(p_k / q_k), [B], of probabilities p [B, K] and log q [B, K].

    Where p_k = 0 the term is 0 and its gradients are finite (that by p_k, in truth −inf, is
    −log q_k), unlike p·(log p − log q), whose gradient by q there is NaN.
    """
    target, log_q = _floats(target, log_q)
    log_p = jnp.log(jnp.where(target > 0, target, 1))
    nothing = (target == 0) & jnp.isneginf(log_q)
    return jnp.sum(target * (log_p - jnp.where(nothing, 0, log_q)), axis=-1)


@traceable
class LogitTerm:
    """A loss of the student's and the teacher's logits.

    Attributes:
      weight: its factor in the objective, >= 0.
    """

    weight: float = 1.0

    complete: ClassVar[bool] = False
    """True where the hard-label term is inside: the objective's own must then have weight 0."""

    def __post_init__(self):
        require_between(f"{type(self).__name__}.weight", self.weight, 0)

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        """The unweighted loss, float32 [B], of logits [B, K] twice and distributions [B, K]."""
        raise NotImplementedError


@traceable
class KD(LogitTerm):
    """T²·KL(p_t ‖ p_s) with p = softmax(z / T).

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531. The paper's soft cross-entropy differs by the teacher's
    entropy, which has no gradient by the student. T² keeps the gradient's size when T changes;
    the mean over examples, never over classes too, makes this the "batchmean" of the usual code.
    Defaults are those of the common CIFAR-100 benchmark, beside 0.1 × hard labels.

    Attributes:
      temperature: T > 0.
    """

    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self):
        LogitTerm.__post_init__(self)
        require_between(f"{type(self).__name__}.temperature", self.temperature, 0, open_low=True)

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = _floats(student_logits, teacher_logits)
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

    alpha: float = 0.5

    complete: ClassVar[bool] = True

    def __post_init__(self):
        LogitTerm.__post_init__(self)
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

    def __call__(self, student_logits: Array, teacher_logits: Array, targets: Array) -> Array:
        del targets
        z_s, z_t = _floats(student_logits, teacher_logits)
        return jnp.mean((z_s - z_t) ** 2, axis=-1)
