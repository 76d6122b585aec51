"""Cross-entropy and Kullback-Leibler divergence, safe at zero, one value an example."""

import jax
import jax.numpy as jnp

Array = jax.Array


def floats(*arrays: Array) -> list[Array]:
    """All arrays in one dtype, at least float32: half precision can't hold a softmax's tail."""
    wide = any(a.dtype == jnp.float64 for a in arrays)
    return [jnp.asarray(a, jnp.float64 if wide else jnp.float32) for a in arrays]


def cross_entropy(logits: Array, targets: Array) -> Array:
    """−Σ_k y_k log softmax(z)_k, [B], of logits [B, K] and distributions [B, K] (one-hot, mixed).

    0·log 0 = 0: a class whose logit is −inf costs nothing where its target is zero.
    """
    logits, targets = floats(logits, targets)
    log_q = jax.nn.log_softmax(logits)
    nothing = (targets == 0) & jnp.isneginf(log_q)
    return -jnp.sum(targets * jnp.where(nothing, 0, log_q), axis=-1)


def kl_divergence(teacher_logits: Array, student_logits: Array) -> Array:
    """KL(p ‖ q) = Σ_k p_k (log p_k − log q_k), [B], p and q the softmaxes of logits [B, K].

    Value and both gradients are finite for any finite logits. A class that underflows to p_k = 0
    adds nothing to any of them, so −inf logits may mask classes of teacher and student alike.
    """
    teacher_logits, student_logits = floats(teacher_logits, student_logits)
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
    target, log_q = floats(target, log_q)
    log_p = jnp.log(jnp.where(target > 0, target, 1))
    nothing = (target == 0) & jnp.isneginf(log_q)
    return jnp.sum(target * (log_p - jnp.where(nothing, 0, log_q)), axis=-1)
