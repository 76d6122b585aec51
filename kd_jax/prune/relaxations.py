"""Criteria that learn a soft threshold of each layer, or a gate of each unit."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.errors import require, require_between
from kd_jax.optim import Optim
from kd_jax.prune.granularity import Granularity
from kd_jax.prune.learned import Learned
from kd_jax.tree import traceable

Array = jax.Array


@traceable
class STR(Learned):
    """|W'|, of W' = sign(W) ⊙ relu(|W| − σ(s)) with one s a layer, trained, and driven up by its
    weight decay: a soft threshold that each layer finds for itself.

    Kusupati, Ramanujan, Somani, Wortsman, Jain, Kakade, Farhadi, "Soft Threshold Weight
    Reparameterization for Learnable Sparsity", 2020, https://arxiv.org/abs/2002.03231. There the
    sparsity is what s_init and the decay lead to; here that is reported, and at the schedule's last
    event weights are cut to the sparsity asked for: those that are zero by then before all others,
    by |W| − σ(s). The paper's s_init of ResNet-50 is −3200, for 100 epochs of ImageNet.
    """

    initial: float = -5.0
    """s of every layer at the stage's first step; σ(−5) = 0.0067."""
    decay: float | None = None
    """Weight decay of s, which draws it to 0; None: the stage's, as in the paper."""

    def __post_init__(self) -> None:
        Learned.__post_init__(self)
        require_between("STR.initial", self.initial, -math.inf)
        require_between("STR.decay", self.decay or 0.0, 0)

    def optim(self, optim: Optim) -> Optim:
        decay = optim.weight_decay if self.decay is None else self.decay
        return dataclasses.replace(Learned.optim(self, optim), weight_decay=decay, decay_all=True)

    def begin(self, w: Array, structure: Granularity, key: Array) -> Array:
        return jnp.full((), self.initial, w.dtype)

    def shown(
        self, w: Array, s: Array, mask: Array, structure: Granularity, key: Array | None
    ) -> Array:
        soft = jnp.sign(w) * jax.nn.relu(jnp.abs(w) - jax.nn.sigmoid(s))
        return jnp.where(mask, soft, 0)

    def score(self, w: Array, s: Array, structure: Granularity) -> Array:
        # Those below the threshold in their order, and far below all others.
        return jax.nn.leaky_relu(jnp.abs(w) - jax.nn.sigmoid(s), 1e-6)


@traceable
class L0(Learned):
    """Gates z of hard-concrete distributions on units, weights or those of the structure: W' = W z,
    with λ times the expected number of open weights in the loss.

    With u uniform in (0, 1),

    z = clip(σ((log u − log(1 − u) + log α) / β)·(ζ − γ) + γ, 0, 1),
    P(z ≠ 0) = σ(log α − β log(−γ/ζ)),

    and at rest z = clip(σ(log α)·(ζ − γ) + γ, 0, 1), by which units are cut and, where gates are
    quite open or quite shut, by |w|.

    Louizos, Welling, Kingma, "Learning Sparse Neural Networks through L0 Regularization", 2018,
    https://arxiv.org/abs/1712.01312. The paper's loss has λ/N of N examples; its code gates input
    units and output maps, keeps log α in [log 0.01, log 100], which nothing here does, and moves it
    by Adam. Our rate and λ are for sgd, and small data.
    """

    rate: float = 300.0
    """Learning rate of log α, in multiples of the stage's."""
    weight: float = 3e-4
    """λ >= 0, the price of an open weight."""
    shut: float = 0.5
    """In (0, 1): 1 − σ(log α) at the stage's first step, but for normal noise of 0.01."""
    beta: float = 2 / 3
    """β > 0, the temperature."""
    gamma: float = -0.1
    """γ < 0: to where the distribution is stretched below."""
    zeta: float = 1.1
    """ζ > 1: to where it is stretched above."""

    parts: ClassVar[tuple[str, ...]] = ("sparsity", "price")

    def __post_init__(self) -> None:
        Learned.__post_init__(self)
        require_between("L0.weight", self.weight, 0)
        require_between("L0.shut", self.shut, 0.001, 0.999)
        require_between("L0.beta", self.beta, 0, open_low=True)
        require(self.gamma < 0, f"L0.gamma is {self.gamma:g}: it must be below 0.")
        require_between("L0.zeta", self.zeta, 1, open_low=True)

    def begin(self, w: Array, structure: Granularity, key: Array) -> Array:
        units = structure.units(w, "mean")
        middle = jnp.log(1 - jnp.float32(self.shut)) - jnp.log(jnp.float32(self.shut))
        return middle + 0.01 * jax.random.normal(key, units.shape, w.dtype)

    def gate(self, s: Array, key: Array | None) -> Array:
        """z of log α; without a key at rest."""
        raw = jax.nn.sigmoid(s)
        if key is not None:
            u = jax.random.uniform(key, s.shape, s.dtype, 1e-6, 1 - 1e-6)
            raw = jax.nn.sigmoid((jnp.log(u) - jnp.log1p(-u) + s) / self.beta)
        return jnp.clip(raw * (self.zeta - self.gamma) + self.gamma, 0, 1)

    def shown(
        self, w: Array, s: Array, mask: Array, structure: Granularity, key: Array | None
    ) -> Array:
        return jnp.where(mask, w * structure.spread(self.gate(s, key), w.shape), 0)

    def price(self, s: Array, mask: Array, structure: Granularity) -> Array:
        odds = s - self.beta * jnp.log(jnp.float32(-self.gamma / self.zeta))
        some = structure.spread(jax.nn.sigmoid(odds), mask.shape)
        return self.weight * jnp.sum(jnp.where(mask, some, 0))

    def score(self, w: Array, s: Array, structure: Granularity) -> Array:
        z = structure.spread(self.gate(s, None), w.shape)
        size = jnp.abs(w) / (1 + jnp.abs(w))  # in [0, 1)
        return jnp.where(z >= 1, 1 + size, jnp.where(z <= 0, size - 1, z))
