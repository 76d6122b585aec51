"""Optimizers and learning-rate schedules, from settings that may be traced."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from kd_jax import tree
from kd_jax.errors import require

Array = jax.Array


@tree.traceable
class Optim:
    """How parameters move."""

    name: Literal["sgd", "adam", "adamw", "dot"] = "sgd"
    """sgd and adam add weight decay to the gradient (L2); adamw decays apart from it; dot is sgd
    with a momentum for what the teacher says and another for the rest (see dot)."""
    learning_rate: float = 0.1
    """Peak learning rate."""
    momentum: float = 0.9
    """Momentum of sgd."""
    dot_delta: float = 0.075
    """dot: what momentum gains for distillation and loses for the rest (0.09 on ImageNet)."""
    nesterov: bool = False
    """Nesterov's form of sgd's momentum."""
    beta1: float = 0.9
    """Adam: decay of the first moment."""
    beta2: float = 0.999
    """Adam: decay of the second moment."""
    weight_decay: float = 0.0
    """Weight decay."""
    decay_all: bool = True
    """Decay every parameter; otherwise only those of rank 2 and more (no biases, no norms)."""
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    """Shape of the learning rate over the stage, after the warm-up."""
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    """step: fractions of the stage at which the rate drops (150, 180, 210 of 240 epochs)."""
    drop: float = 0.1
    """step: factor of each drop."""
    warmup: int = 0
    """Steps of linear warm-up from zero."""
    clip_norm: float | None = None
    """Largest global norm of the gradient; None: no clipping."""
    max_norm: float | None = None
    """Largest L2 norm of a unit's incoming weights, by projection; None: no such bound."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning-rate {self.learning_rate} must be above 0")
        require(0 <= self.momentum < 1, f"momentum {self.momentum} must be in [0, 1)")
        delta = self.dot_delta
        require(0 <= delta < 1, f"dot-delta {delta} must be in [0, 1)")
        require(
            self.name != "dot" or 0 <= delta <= min(self.momentum, 0.999 - self.momentum),
            f"dot-delta {delta} must leave momentum {self.momentum} plus and minus it in [0, 1)",
        )
        for name in ("clip_norm", "max_norm"):
            bound = getattr(self, name)
            require(
                bound is None or 0 < bound < math.inf,
                f"{name.replace('_', '-')} {bound} must be above 0, and finite",
            )
        require(
            self.name != "dot" or not (self.nesterov or self.clip_norm),
            "name dot takes neither nesterov nor clip-norm: leave them out",
        )
        require(0 <= self.beta1 < 1, f"beta1 {self.beta1} must be in [0, 1)")
        require(0 <= self.beta2 < 1, f"beta2 {self.beta2} must be in [0, 1)")
        require(self.weight_decay >= 0, f"weight-decay {self.weight_decay} must not be negative")
        require(0 < self.drop <= 1, f"drop {self.drop} must be in (0, 1]")
        require(self.warmup >= 0, f"warmup {self.warmup} must not be negative (it counts steps)")
        require(
            all(0 < m < 1 for m in self.milestones)
            and tuple(sorted(set(self.milestones))) == self.milestones,
            f"milestones {self.milestones} must be increasing fractions between 0 and 1",
        )


def learning_rate(optim: Optim, step: Array | int, steps: int) -> Array:
    """The rate of one step, counted from 0, in a stage of `steps`."""
    warmup = min(optim.warmup, steps)
    rest = max(steps - warmup, 1)
    if optim.schedule == "cosine":
        shape = optax.cosine_decay_schedule(1.0, rest)
    elif optim.schedule == "step":
        drops = [max(round(m * steps) - warmup, 0) for m in optim.milestones]
        shape = lambda s: optim.drop ** sum((s >= d).astype(jnp.float32) for d in drops)  # noqa: E731
    else:
        shape = optax.constant_schedule(1.0)
    # The first step of a warm-up already moves: rate/warmup, not 0.
    ramp = (jnp.asarray(step) + 1) / max(warmup, 1)
    after = jnp.maximum(jnp.asarray(step) - warmup, 0)
    return optim.learning_rate * jnp.where(step < warmup, ramp, shape(after))


def transform(optim: Optim) -> optax.GradientTransformation:
    """The gradient transformation without its learning rate. Its state depends only on static
    fields of `optim`, so it may be built anew inside each traced step. For `dot` the gradient is a
    pair, see there."""
    if optim.name == "dot":
        return dot(optim)
    decay = _decay(optim)
    moments = (
        optax.trace(optim.momentum, nesterov=optim.nesterov)
        if optim.name == "sgd"
        else optax.scale_by_adam(optim.beta1, optim.beta2)
    )
    clip = [] if optim.clip_norm is None else [optax.clip_by_global_norm(optim.clip_norm)]
    chain = [moments, decay] if optim.name == "adamw" else [decay, moments]
    return optax.chain(*clip, *chain)


def _decay(optim: Optim) -> optax.GradientTransformation:
    decays = lambda params: jax.tree.map(lambda w: optim.decay_all or w.ndim > 1, params)  # noqa: E731
    return optax.add_decayed_weights(optim.weight_decay, mask=decays)


def dot(optim: Optim) -> optax.GradientTransformation:
    """Of a pair of gradients (of the task, of distillation): m_t ← (μ − Δ) m_t + g_t + λ w,
    m_d ← (μ + Δ) m_d + g_d; the update is m_t + m_d.

    Zhao, Cui, Song, Liang, "DOT: A Distillation-Oriented Trainer", 2023,
    https://arxiv.org/abs/2307.08436. Weight decay λ belongs to the task here.
    """
    decay = _decay(optim)

    def init(params: tree.Tree) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {"task": zeros, "distillation": jax.tree.map(jnp.copy, zeros)}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        task, distillation = updates
        task, _ = decay.update(task, decay.init(params), params)
        moved = lambda momentum, m, g: jax.tree.map(lambda m, g: momentum * m + g, m, g)  # noqa: E731
        low, high = optim.momentum - optim.dot_delta, optim.momentum + optim.dot_delta
        state = {
            "task": moved(low, state["task"], task),
            "distillation": moved(high, state["distillation"], distillation),
        }
        return jax.tree.map(jnp.add, state["task"], state["distillation"]), state

    return optax.GradientTransformation(init, update)


def average(mean: tree.Tree, now: tree.Tree, decay: float | Array, step: Array) -> tree.Tree:
    """m ← d m + (1 − d) x with d = min(decay, (1 + t) / (10 + t)) after t steps, so that an average
    is not that of the initial values for long; what is no float is taken as it is now.

    Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992,
    https://doi.org/10.1137/0330046; the warm-up as in TensorFlow's ExponentialMovingAverage.
    """
    t = jnp.asarray(step, jnp.float32)
    return _mixed(mean, now, jnp.minimum(decay, (1 + t) / (10 + t)))


def equal_average(
    mean: tree.Tree, now: tree.Tree, first: int, every: int, step: Array
) -> tree.Tree:
    """After step t, counted from 0: x until the first network is averaged, when `first` steps are
    done; then the mean of the networks after first, first + every, ... steps,
    m ← (n m + x) / (n + 1) with n of them so far; what is no float is taken as it is now.

    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and
    Better Generalization", 2018, https://arxiv.org/abs/1803.05407 (SWA).
    """
    past = step + 1 - first
    n = past // every
    d = jnp.where(past % every == 0, n / (n + 1), 1.0)
    return _mixed(mean, now, jnp.where(past <= 0, 0.0, d))


def _mixed(mean: tree.Tree, now: tree.Tree, d: Array) -> tree.Tree:
    """d m + (1 − d) x."""

    def leaf(m: Array, x: Array) -> Array:
        return d * m + (1 - d) * x if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(leaf, mean, now)


def project(optim: Optim, params: tree.Tree) -> tree.Tree:
    """Max-norm regularisation: no unit's incoming weight vector is longer than `max_norm`
    (Srivastava et al., Dropout, 2014, https://jmlr.org/papers/v15/srivastava14a.html)."""
    bound = optim.max_norm
    if bound is None:
        return params

    def shorten(w: Array) -> Array:
        if w.ndim < 2:
            return w
        norm = jnp.sqrt(jnp.sum(w**2, axis=tuple(range(w.ndim - 1)), keepdims=True))
        return w * jnp.minimum(1.0, bound / jnp.maximum(norm, 1e-12))

    return jax.tree.map(shorten, params)
