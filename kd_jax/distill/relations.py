"""Distillation from how the examples of a batch lie to one another.

Each is one loss of the whole batch, a scalar. Of a batch that is split over devices it sees all; it
depends on how many examples that are.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import safe_root, unit
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class Relation(FeatureTerm):
    """A loss of the examples' embeddings, [B, N] each, summed over the taps."""

    kind: ClassVar[str] = "pooled"

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        del params
        total = jnp.zeros(())
        for student, teacher in pairs:
            total = total + self.compare(*flat(student, teacher))
        return total

    def compare(self, e_s: Array, e_t: Array) -> Array:
        raise NotImplementedError


def flat(*features: Array) -> list[Array]:
    """[B, ...] -> [B, N]."""
    return [f.reshape(f.shape[0], -1) for f in floats(*features)]


@traceable
class SP(Relation):
    """‖Ĝ_s − Ĝ_t‖² / B², G = FFᵀ [B, B] of flattened maps, Ĝ its rows as unit vectors.

    Tung, Mori, "Similarity-Preserving Knowledge Distillation", 2019,
    https://arxiv.org/abs/1907.09682.
    """

    about: ClassVar[str] = "similarities of examples by their maps"

    weight: float = 3000.0

    kind: ClassVar[str] = "last"

    def compare(self, e_s: Array, e_t: Array) -> Array:
        g_s, g_t = unit(e_s @ e_s.T), unit(e_t @ e_t.T)
        return jnp.mean((g_s - g_t) ** 2)


@traceable
class CC(FeatureTerm):
    """mean_i Σ_d δ_{i,d} δ_{i+1,d}, δ = |φ_s(e_s) − φ_t(e_t)|, over the B−1 pairs of neighbours.

    Peng et al., "Correlation Congruence for Knowledge Distillation", 2019,
    https://arxiv.org/abs/1904.01802, as the common CIFAR-100 benchmark has it: φ are linear and
    both trained, and neighbours are those that the shuffled batch happens to have. The paper
    compares kernels (a Taylor series of a Gaussian) of all pairs instead.

    Attributes:
      dim: of the common space.
    """

    about: ClassVar[str] = "how neighbours in the batch differ, in student and teacher"

    dim: int = 128
    weight: float = 0.02

    kind: ClassVar[str] = "pooled"

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        made = {}
        for i, pair in enumerate(pairs):
            for who, f in zip(("student", "teacher"), pair, strict=True):
                key, one = jax.random.split(key)
                made[f"{who}{i}"] = connect.init_dense(one, math.prod(f.shape[1:]), self.dim)
        return made

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """Without params, the embeddings as they are."""
        total = jnp.zeros(())
        for i, pair in enumerate(pairs):
            e_s, e_t = flat(*pair)
            if params:
                e_s = connect.dense(params[f"student{i}"], e_s)
                e_t = connect.dense(params[f"teacher{i}"], e_t)
            delta = jnp.abs(e_s - e_t)
            total = total + jnp.sum(delta[:-1] * delta[1:]) / max(1, delta.shape[0] - 1)
        return total


@traceable
class RKD(Relation):
    """λ_D · mean_ij h(ψ_D(s) − ψ_D(t)) + λ_A · mean_ijk h(ψ_A(s) − ψ_A(t)).

    ψ_D(i, j) = ‖e_i − e_j‖ over its mean for i ≠ j; ψ_A(i, j, k) = the cosine of the angle at i
    between j and k; h(x) = x²/2 for |x| < 1, |x| − 1/2 beyond. Means are over all of B² and B³,
    i = j too, as in the authors' code. B³ values are held: 0.5 GB at 512 examples.

    Park et al., "Relational Knowledge Distillation", 2019, https://arxiv.org/abs/1904.05068.

    Attributes:
      distance, angle: λ_D and λ_A.
    """

    about: ClassVar[str] = "distances and angles between examples"

    distance: float = 25.0
    angle: float = 50.0

    def compare(self, e_s: Array, e_t: Array) -> Array:
        d_s, d_t = (e[None] - e[:, None] for e in (e_s, e_t))
        by_distance = jnp.mean(huber(distances(d_s) - distances(d_t)))
        by_angle = jnp.mean(huber(angles(d_s) - angles(d_t)))
        return self.distance * by_distance + self.angle * by_angle


def distances(differences: Array) -> Array:
    """Differences [B, B, N] -> their lengths [B, B], in units of the mean of those for i ≠ j."""
    batch = differences.shape[0]
    square = jnp.sum(differences**2, axis=-1)
    away = jnp.where(jnp.eye(batch, dtype=bool), 0.0, jnp.sqrt(jnp.maximum(square, 1e-12)))
    return away / jnp.maximum(jnp.sum(away) / max(1, batch * (batch - 1)), 1e-6)


def angles(differences: Array) -> Array:
    """Differences [B, B, N] -> cosines [B, B, B] at the first of three."""
    direction = unit(differences)
    return jnp.einsum("ijn,ikn->ijk", direction, direction)


def huber(x: Array) -> Array:
    size = jnp.abs(x)
    return jnp.where(size < 1, x**2 / 2, size - 0.5)


@traceable
class PKT(Relation):
    """mean_ij K_t log(K_t / K_s), K_ij = (1 + cos(e_i, e_j)) / 2, its rows made to sum to 1.

    Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018,
    https://arxiv.org/abs/1803.10837. The authors' code takes the mean over B², not the paper's sum,
    and has 1e-7 at each norm and in the logarithm.
    """

    about: ClassVar[str] = "similarities of examples as probabilities"

    weight: float = 30000.0

    def compare(self, e_s: Array, e_t: Array) -> Array:
        k_s, k_t = affinities(e_s), affinities(e_t)
        return jnp.mean(k_t * jnp.log((k_t + 1e-7) / (k_s + 1e-7)))


def affinities(e: Array) -> Array:
    """[B, N] -> [B, B], how likely each example is to choose each other."""
    length = safe_root(jnp.sum(e**2, axis=-1, keepdims=True))
    e = jnp.where(length > 0, e, 0.0) / (length + 1e-7)
    cosines = (e @ e.T + 1) / 2
    return cosines / jnp.sum(cosines, axis=-1, keepdims=True)
