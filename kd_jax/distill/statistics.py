"""Distillation from statistics of maps [B, H, W, C]: of their channels, and of one map given
another. Of a student's and a teacher's map the larger is pooled to the smaller."""

from itertools import pairwise
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import unit
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.errors import require, require_between
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class NST(FeatureTerm):
    """Σ over taps of E[k(t, t)] + E[k(s, s)] − 2 E[k(s, t)], k(a, b) = (aᵀb)².

    s and t are the channels of an example's maps, as unit vectors of H·W; E is over all pairs of
    channels. That is the squared maximum mean discrepancy of student's and teacher's channels.

    Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
    https://arxiv.org/abs/1707.01219, with its polynomial kernel (d = 2, c = 0).
    """

    about: ClassVar[str] = "distributions of channels by maximum mean discrepancy"

    weight: float = 50.0

    rank: ClassVar[int | None] = 4

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        del params
        total = jnp.zeros(())
        for student, teacher in pairs:
            s, t = (channels(f) for f in connect.same_size(*floats(student, teacher)))
            total = total + kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)
        return total


def channels(features: Array) -> Array:
    """[B, H, W, C] -> unit vectors [B, C, HW]."""
    batch, height, width, count = features.shape
    return unit(features.reshape(batch, height * width, count).swapaxes(1, 2))


def kernel(a: Array, b: Array) -> Array:
    """[B, C, N] and [B, D, N] -> the mean of (aᵀb)² over C·D pairs, [B]."""
    if a.shape[-1] < min(a.shape[1], b.shape[1]):
        # Σ (aᵀb)² = ⟨Σ aaᵀ, Σ bbᵀ⟩: N² numbers in place of C·D.
        outer = [jnp.einsum("bcm,bcn->bmn", x, x) / x.shape[1] for x in (a, b)]
        return jnp.sum(outer[0] * outer[1], axis=(1, 2))
    return jnp.mean(jnp.einsum("bcn,bdn->bcd", a, b) ** 2, axis=(1, 2))


@traceable
class VID(FeatureTerm):
    """Σ over taps of the mean over HWC of ½ [ (μ(F_s) − F_t)² / σ_c² + log σ_c² ].

    That is −log N(F_t; μ(F_s), σ²) up to a constant: maximised, a lower bound of the mutual
    information. μ is three 1x1 convolutions with ReLU between; σ_c² = log(1 + e^ρ_c) + 1e-5 is one
    trained number a channel.

    Ahn et al., "Variational Information Distillation for Knowledge Transfer", 2019,
    https://arxiv.org/abs/1904.05835.

    Attributes:
      variance: σ² at the start.
    """

    about: ClassVar[str] = "mutual information of the maps, with trained variances"

    variance: float = 5.0

    rank: ClassVar[int | None] = 4

    def __post_init__(self):
        FeatureTerm.__post_init__(self)
        require_between("VID.variance", self.variance, 1e-5, open_low=True)

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        made = {}
        for i, (f_s, f_t) in enumerate(pairs):
            inputs, outputs = f_s.shape[-1], f_t.shape[-1]
            convs = {}
            for j, width in enumerate((inputs, outputs, outputs)):
                key, one = jax.random.split(key)
                convs[f"conv{j}"] = connect.init_conv(one, (1, 1), width, outputs)
            made[f"regressor{i}"] = {**convs, "rho": jnp.full((outputs,), self._rho())}
        return made

    def _rho(self) -> Array:
        return jnp.log(jnp.expm1(self.variance - 1e-5))

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """Without params, μ is the identity and σ² what it starts with."""
        total = jnp.zeros(())
        for i, (student, teacher) in enumerate(pairs):
            mean, f_t = connect.same_size(*floats(student, teacher))
            rho = jnp.full((1,), self._rho(), f_t.dtype)
            if params:
                regressor = params[f"regressor{i}"]
                rho = regressor["rho"].astype(f_t.dtype)
                for j in range(3):
                    mean = jax.nn.relu(mean) if j else mean
                    mean = connect.conv(regressor[f"conv{j}"], mean)
            variance = (jax.nn.softplus(rho) + 1e-5).reshape(1, 1, 1, -1)
            loss = 0.5 * ((mean - f_t) ** 2 / variance + jnp.log(variance))
            total = total + jnp.mean(loss, axis=(1, 2, 3))
        return total


@traceable
class FSP(FeatureTerm):
    """Σ over successive taps of the mean over C·D of (G_s − G_t)², G = (1/HW) Σ_hw a_c b_d.

    a and b are the maps that a part of the network puts out and is given (the larger is pooled):
    G, [C, D], is the "flow" of the solution through that part.

    Yim et al., "A Gift from Knowledge Distillation", 2017,
    https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html.
    There it is a stage of its own, before the student learns from labels: a stage that distils this
    term alone, with hard weight 0, and one that starts from it. The common CIFAR-100 benchmark
    weighs it by 1 in that stage (its 50 is for one in which it does nothing). Student and teacher
    have equal widths there; where they differ, the student's maps pass trained 1x1 convolutions.
    """

    about: ClassVar[str] = "Gram matrices between successive stages"

    kind: ClassVar[str] = "from_stem"
    rank: ClassVar[int | None] = 4

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        require(len(pairs) > 1, "student-taps: a flow is between two features, name at least two")
        return connect.init_widths(key, pairs)

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        pairs = [(s, t) for s, t in (floats(*pair) for pair in pairs)]
        ours = [connect.widen(params, i, f_s) for i, (f_s, _) in enumerate(pairs)]
        theirs = [f_t for _, f_t in pairs]
        total = jnp.zeros(())
        for g_s, g_t in zip(flows(ours), flows(theirs), strict=True):
            total = total + jnp.mean((g_s - g_t) ** 2, axis=(1, 2))
        return total


def flows(maps: list[Array]) -> list[Array]:
    """G [B, C, D] of each map and the one before it."""
    found = []
    for before, after in pairwise(maps):
        b, a = connect.same_size(before, after)
        found.append(jnp.einsum("bhwc,bhwd->bcd", a, b) / (a.shape[1] * a.shape[2]))
    return found
