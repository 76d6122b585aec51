"""Penalties on the parameters that go with pruning."""

import re
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.errors import require, require_between, require_pattern
from kd_jax.prune.masks import apply
from kd_jax.tree import Tree, named_leaves, traceable

Array = jax.Array


@traceable
class Penalty:
    """A penalty: `(params, masks) -> (loss, {part: value})`, float32 scalars.

    Attributes:
      weight: factor in the objective, >= 0. Small by default, because the sums grow with the net.
    """

    weight: float = 1e-5

    parts: ClassVar[tuple[str, ...]] = ()
    """Names of what is reported beside the value."""

    def __post_init__(self):
        require_between(f"{type(self).__name__}.weight", self.weight, 0)

    def __call__(self, params: Tree, masks: Tree) -> tuple[Array, dict[str, Array]]:
        raise NotImplementedError


@traceable
class PruningLoss(Penalty):
    """L = α·Σ|W| + (1−α)·Σ 1[|W| < θ], sums over the prunable leaves, pruned entries being zeros.

    The second sum counts the weights below the threshold. Its value is exact (up to float32, which
    holds integers to 2²⁴), but a count has no useful gradient, so it is given that of a surrogate,
    Σ sigmoid((θ − |w|) / τ), straight through.

    Beware of the sign. Minimised as written, the second term *drives weights out of the zone below
    θ*: it works against the first one and against pruning, and amounts to keeping what is small
    from being cut later. `reward_zeros` subtracts the count instead: weights near θ are drawn below
    it, and the threshold then prunes more. The default is the loss as written. Where |w| is far
    from θ against τ, either gradient vanishes; at w = 0, and for pruned entries, it is zero.

    Attributes:
      alpha: α in [0, 1]; 1 is plain L1.
      threshold: θ > 0.
      softness: τ > 0, width of the surrogate's step.
      reward_zeros: − instead of + before the count.
    """

    alpha: float = 0.5
    threshold: float = 1e-2
    softness: float = 1e-2
    reward_zeros: bool = False

    parts: ClassVar[tuple[str, ...]] = ("l1", "below")

    def __post_init__(self):
        Penalty.__post_init__(self)
        require_between("PruningLoss.alpha", self.alpha, 0, 1)
        require_between("PruningLoss.threshold", self.threshold, 0, open_low=True)
        require_between("PruningLoss.softness", self.softness, 0, open_low=True)

    def __call__(self, params: Tree, masks: Tree) -> tuple[Array, dict[str, Array]]:
        """The unweighted loss, a float32 scalar, and {"l1": Σ|W|, "below": the count}."""
        named = named_leaves(apply(masks, params))
        weights = [jnp.asarray(named[name], jnp.float32) for name in named_leaves(masks)]
        sizes = [_size(w) for w in weights]
        l1 = sum((jnp.sum(w) for w in sizes), jnp.zeros(()))
        # Counted in integers, so that the float32 is the exact count, rounded once.
        counts = [jnp.sum(w < self.threshold, dtype=jnp.int32) for w in sizes]
        below = jnp.asarray(sum(counts), jnp.float32)
        steps = [jax.nn.sigmoid((self.threshold - w) / self.softness) for w in sizes]
        soft = sum(map(jnp.sum, steps), jnp.zeros(()))
        count = below + (soft - jax.lax.stop_gradient(soft))
        sign = -1 if self.reward_zeros else 1
        return self.alpha * l1 + sign * (1 - self.alpha) * count, {"l1": l1, "below": below}


@traceable
class Slimming(Penalty):
    """L = Σ|γ| over the factors of norms, which draws those of channels that matter little to zero:
    train with it, then cut by the criterion of channels `norm_scale`. Its gradient is sign(γ).

    Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network
    Slimming", 2017, https://arxiv.org/abs/1708.06519, equation 1. The weight λ is theirs for VGG;
    for ResNet and DenseNet they take 1e-5. They start from γ = 0.5, our models from 1.

    Attributes:
      include: regular expressions of the parameters that are γ.
    """

    weight: float = 1e-4
    include: tuple[str, ...] = ("(^|/)scale$",)

    parts: ClassVar[tuple[str, ...]] = ("scales",)

    def __call__(self, params: Tree, masks: Tree) -> tuple[Array, dict[str, Array]]:
        """Σ|γ|, a float32 scalar, and {"scales": the same}."""
        named = named_leaves(apply(masks, params))
        scales = [w for name, w in named.items() if any(_found(p, name) for p in self.include)]
        require(
            bool(scales),
            f"include {' '.join(self.include)} finds no parameter: name the factors of the norms, "
            "or take another penalty, as this network may have none",
        )
        total = sum((jnp.sum(_size(jnp.asarray(w, jnp.float32))) for w in scales), jnp.zeros(()))
        return total, {"scales": total}


def _size(w: Array) -> Array:
    """|w|, whose gradient is 0 at w = 0; that of jnp.abs is 1 there."""
    return w * jnp.sign(w)


def _found(pattern: str, name: str) -> bool:
    require_pattern("include", pattern)
    return re.search(pattern, name) is not None


PENALTIES: dict[str, Penalty] = {"l1_count": PruningLoss(), "slimming": Slimming()}
