"""Criteria that are trained with the weights: in each step they say how the network sees its
weights, and by what they have learned masks are cut.

Until a schedule's last event no weight is lost: masks are chosen anew at each event, and those that
are hidden wait behind them. At the last one the weights become what the network sees of them, the
mask is cut to the exact sparsity, and what is left retrains without the criterion.
"""

import dataclasses
import zlib
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.errors import require_between
from kd_jax.optim import Optim
from kd_jax.prune.criteria import Criterion
from kd_jax.prune.evidence import Evidence
from kd_jax.prune.granularity import Granularity
from kd_jax.tree import Tree, map_named, named_leaves, traceable

Array = jax.Array


@traceable
class Learned(Criterion):
    """A criterion with trained arrays of its own, one `s` a layer.

    A subclass says what `s` is at first (`begin`), how a layer is seen (`shown`), what `s` costs,
    if it does (`price`, then also in `parts`), and which weights stay (`score`).
    """

    rate: float = 1.0
    """Learning rate of what it trains, in multiples of the stage's."""

    parts: ClassVar[tuple[str, ...]] = ("sparsity",)
    """What is reported of it: "sparsity", the share of zeros in what the network sees, and "price",
    which is then a part of the loss."""

    def __post_init__(self) -> None:
        require_between(f"{type(self).__name__}.rate", self.rate, 0, open_low=True)

    def optim(self, optim: Optim) -> Optim:
        """How what it trains is moved, where the stage's weights are moved by `optim`."""
        rate = optim.learning_rate * self.rate
        return dataclasses.replace(optim, learning_rate=rate, weight_decay=0.0, max_norm=None)

    def begin(self, w: Array, structure: Granularity, key: Array) -> Array:
        """s of a layer at the stage's first step."""
        raise NotImplementedError

    def shown(
        self, w: Array, s: Array, mask: Array, structure: Granularity, key: Array | None
    ) -> Array:
        """A layer's weights as the network sees them; the gradients by w and s are those of this
        function. Without a key, as it is evaluated."""
        raise NotImplementedError

    def price(self, s: Array, mask: Array, structure: Granularity) -> Array:
        """What a layer adds to the loss, a scalar."""
        raise NotImplementedError

    def score(self, w: Array, s: Array, structure: Granularity) -> Array:
        """Of each weight of a layer. Higher is kept longer."""
        raise NotImplementedError

    def start(
        self, params: Tree, masks: Tree, structure: Granularity, key: Array
    ) -> dict[str, Array]:
        """{layer: s at the stage's first step}, of the layers that have a mask."""
        weights = named_leaves(params)
        return {
            name: self.begin(weights[name], structure, own_key(key, name))
            for name in named_leaves(masks)
        }

    def __call__(self, evidence: Evidence) -> Tree:
        learned = evidence.learned

        def score(name: str, w: Array) -> Array:
            if name not in learned:
                return jnp.zeros_like(w)
            return self.score(w, learned[name], evidence.structure)

        return map_named(score, evidence.params)


def own_key(key: Array, layer: str) -> Array:
    """A layer's own key, which does not change when another layer is added."""
    return jax.random.fold_in(key, zlib.crc32(layer.encode()) & 0x7FFFFFFF)


@traceable
class Movement(Learned):
    """S, summed over training: S ← S − η ∂L/∂S, ∂L/∂S = ∂L/∂W' ⊙ W. Weights stay that move away
    from zero, W' = W ⊙ M, M = Top_v(S); those behind the mask keep their value, without a gradient
    (but with the stage's weight decay), and their scores go on learning.

    Sanh, Wolf, Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", 2020,
    https://arxiv.org/abs/2005.07683. Meant for a trained network, --prune.schedule cubic, and
    --prune.allocation layer or global. In the paper Top_v is taken in each step; here at the
    schedule's events (every 1: each step). S begins at 0.
    """

    def begin(self, w: Array, structure: Granularity, key: Array) -> Array:
        return jnp.zeros_like(w)

    def shown(
        self, w: Array, s: Array, mask: Array, structure: Granularity, key: Array | None
    ) -> Array:
        return w * straight_through(mask, s)

    def score(self, w: Array, s: Array, structure: Granularity) -> Array:
        return s


@traceable
class SoftMovement(Movement):
    """As Movement, but each weight opens and shuts by itself: W' = W ⊙ 1[σ(S) > τ], with
    λ Σ σ(S) in the loss; at the schedule's last event the highest S are kept, exactly as many as
    asked for. Meant for a schedule with one event, such as --prune.schedule.at 0.8 of one_shot.

    Sanh, Wolf, Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", 2020,
    https://arxiv.org/abs/2005.07683. The paper writes S > τ; its code compares σ(S), as here, takes
    the mean of σ(S) over each layer instead of the sum, lets λ grow with the schedule, and moves S
    by Adam. Our rate and λ are for sgd, and small data.
    """

    rate: float = 300.0
    """Learning rate of S, in multiples of the stage's."""
    weight: float = 2e-3
    """λ >= 0, the price of an open weight."""
    threshold: float = 0.1
    """τ in (0, 0.5): where S begins, at 0, all are open."""

    parts: ClassVar[tuple[str, ...]] = ("sparsity", "price")

    def __post_init__(self) -> None:
        Learned.__post_init__(self)
        require_between("SoftMovement.weight", self.weight, 0)
        require_between("SoftMovement.threshold", self.threshold, 0, 0.5, open_low=True)

    def shown(
        self, w: Array, s: Array, mask: Array, structure: Granularity, key: Array | None
    ) -> Array:
        return w * straight_through(mask & (jax.nn.sigmoid(s) > self.threshold), s)

    def price(self, s: Array, mask: Array, structure: Granularity) -> Array:
        return self.weight * jnp.sum(jnp.where(mask, jax.nn.sigmoid(s), 0))


def straight_through(gate: Array, s: Array) -> Array:
    """The gate, 0 or 1, with the gradient of s."""
    return gate.astype(s.dtype) + (s - jax.lax.stop_gradient(s))
