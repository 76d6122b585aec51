"""Several who teach one student: teachers, or the peers that it learns together with."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kd_jax.distill.logits import LogitTerm
from kd_jax.distill.term import Lesson

Array = jax.Array

CAP = 0.6  # the largest share of one teacher in the adaptive rule, as published


def mean_of_losses(term: LogitTerm, lesson: Lesson) -> Array:
    """Σ_m w_m · term(student, member m), [B] or a scalar: for KL terms it has the gradient of
    learning from the mean of the members' (softened) probabilities.

    Zhang et al., "Deep Mutual Learning", 2018, https://arxiv.org/abs/1706.00384, where the members
    are the peers.
    """
    assert lesson.members is not None
    by_member = _by_member(term, lesson)(term.taught_of(lesson))
    weights = lesson.member_weights.reshape(-1, *[1] * (by_member.ndim - 1))
    return jnp.sum(weights * by_member, axis=0)


def adaptive(term: LogitTerm, lesson: Lesson) -> Array:
    """As `mean_of_losses`, with weights found anew in each step: the common descent direction of
    the members, argmin_w ‖Σ_m w_m g_m‖² with Σ w = 1 and 0 <= w_m <= 0.6.

    g_m [K] is the gradient of the batch's mean loss with member m by the student's logits, summed
    over the batch. Du et al., "Agree to Disagree: Adaptive Ensemble Knowledge Distillation in
    Gradient Space", 2020. The cap is 1/M where M members could not reach a sum of 1 below it.
    """
    logits = jax.lax.stop_gradient(term.taught_of(lesson))
    by_member, count = _by_member(term, lesson), lesson.members.shape[0]
    mean = lambda z: jnp.mean(by_member(z).reshape(count, -1), axis=-1)  # noqa: E731
    gradients = jnp.sum(jax.jacrev(mean)(logits), axis=1)  # [M, B, K] -> [M, K]
    weights = common_descent(gradients.astype(jnp.float32))
    values = by_member(term.taught_of(lesson))
    chosen = jax.lax.stop_gradient(weights).reshape(-1, *[1] * (values.ndim - 1))
    return jnp.sum(chosen * values, axis=0)


def _by_member(term: LogitTerm, lesson: Lesson) -> Callable[[Array], Array]:
    """Student's logits [B, K] -> the loss with each member, [M, B] or [M]."""
    one = lambda z_s, z_t: term(z_s, z_t, lesson.targets)  # noqa: E731
    return lambda z_s: jax.vmap(one, in_axes=(None, 0))(z_s, lesson.members)


def common_descent(gradients: Array, steps: int = 200) -> Array:
    """The weights [M] of `adaptive` for gradients [M, D], by projected gradient descent."""
    count = gradients.shape[0]
    cap = max(CAP, 1 / count)
    gram = gradients @ gradients.T
    rate = 1.0 / jnp.maximum(jnp.trace(gram), 1e-30)  # at most 1 / its largest eigenvalue

    def step(_: int, w: Array) -> Array:
        return _onto_simplex(w - rate * (gram @ w), cap)

    return jax.lax.fori_loop(0, steps, step, jnp.full((count,), 1 / count))


def _onto_simplex(w: Array, cap: float) -> Array:
    """The nearest point with Σ w = 1 and 0 <= w <= cap: clip(w − λ), λ by bisection."""

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        much = jnp.sum(jnp.clip(w - middle, 0, cap)) > 1
        return jnp.where(much, middle, low), jnp.where(much, high, middle)

    low, _ = jax.lax.fori_loop(0, 40, halve, (jnp.min(w) - 1, jnp.max(w)))
    return jnp.clip(w - low, 0, cap)
