"""What several networks say, mixed by shares; and the shares that suit labelled examples best."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

Array = jax.Array
TIE = 0.01  # what breaks a tie; below one vote of a hundred members
FIT_STEPS, FIT_RATE = 500, 0.3


def mixed(how: str, members: Array, shares: Array) -> Array:
    """Logits [B, K] of those of M members, [M, B, K], and their shares [M], of sum 1.

    logits: Σ_m w_m z_m; probabilities: log Σ_m w_m p_m, p = softmax(z); vote: log of
    (v + ε p̄) / (1 + ε), where v_k = Σ_m w_m [argmax z_m = k] and p̄ = Σ_m w_m p_m, ε = 0.01. So a
    vote is a distribution too, whose largest entry is the class of most votes; of classes with as
    many, that which the members find likelier. (Of unequal shares, votes that differ by less than ε
    can be outweighed so too.)

    Sharing out by w is the opinion pool, logarithmic or linear (Genest, Zidek, "Combining
    Probability Distributions: A Critique and an Annotated Bibliography", 1986,
    https://doi.org/10.1214/ss/1177013825); voting as in Hansen, Salamon, "Neural Network
    Ensembles", 1990, https://doi.org/10.1109/34.58871, where nothing is said of ties.
    """
    share = shares.reshape(-1, 1, 1)
    if how == "logits":
        return jnp.sum(share * members, axis=0)
    likely = jax.nn.logsumexp(jax.nn.log_softmax(members) + jnp.log(share), axis=0)
    if how == "probabilities":
        return likely
    chosen = jax.nn.one_hot(jnp.argmax(members, axis=-1), members.shape[-1])
    votes = jnp.sum(share * chosen, axis=0)
    return jnp.log((votes + TIE * jnp.exp(likely)) / (1 + TIE))


@functools.partial(jax.jit, static_argnums=0)
def fitted(how: str, members: Array, labels: Array) -> Array:
    """Shares [M] by which the mean cross-entropy of `mixed` with the labels [N] is least, of
    members [M, N, K]: w = softmax(θ), θ by 500 steps of Adam from equal shares.

    The cross-entropy is convex in w for logits and for probabilities, so there is one least value.
    Weights that are not negative, found on examples that nobody was trained on, are stacking's:
    Breiman, "Stacked Regressions", 1996, https://doi.org/10.1007/BF00117832, for squared errors.
    """
    adam = optax.adam(optax.cosine_decay_schedule(FIT_RATE, FIT_STEPS))

    def loss(theta: Array) -> Array:
        logits = mixed(how, members, jax.nn.softmax(theta))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def step(_: int, carry: tuple) -> tuple:
        theta, moments = carry
        updates, moments = adam.update(jax.grad(loss)(theta), moments)
        return optax.apply_updates(theta, updates), moments

    theta = jnp.zeros(members.shape[0])
    theta, _ = jax.lax.fori_loop(0, FIT_STEPS, step, (theta, adam.init(theta)))
    return jax.nn.softmax(theta)


def equal(count: int, weights: Sequence[float] = ()) -> Array:
    """Shares [count], of sum 1, in proportion to the weights; none: equal ones."""
    given = jnp.asarray(weights or [1.0] * count, jnp.float32)
    return given / jnp.sum(given)
