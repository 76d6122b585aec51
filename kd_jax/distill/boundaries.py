"""Distillation of where maps [B, H, W, C] are activated, from what they are before the activation.

A trained 1x1 convolution with batch norm brings the student's to the teacher's width; the larger of
the two is pooled to the smaller.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.distill.term import Lesson, Own
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class Boundaries(FeatureTerm):
    """A loss of pre-activations. Each of the L taps counts half of the next: 2^(i−L+1)."""

    kind: ClassVar[str] = "pre"
    rank: ClassVar[int | None] = 4

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        keys = jax.random.split(key, len(pairs))
        return {
            f"connector{i}": connect.init_conv_norm(keys[i], 1, f_s.shape[-1], f_t.shape[-1])
            for i, (f_s, f_t) in enumerate(pairs)
        }


def connected(params: Tree, i: int, pair: tuple[Array, Array]) -> tuple[Array, Array]:
    """The student's map i in the teacher's width, and the other; without params, as they are."""
    f_s, f_t = connect.same_size(*floats(*pair))
    return (connect.conv_norm(params[f"connector{i}"], f_s) if params else f_s), f_t


@traceable
class AB(Boundaries):
    """3/1000 · Σ_i 2^(i−L+1) Σ_hwc [ (s + m)² where t ≤ 0 and s > −m, (m − s)² where t > 0 and
    s ≤ m ], s and t pre-activations.

    Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
    Neurons", 2019, https://arxiv.org/abs/1811.03233; the factor is that of the common CIFAR-100
    benchmark. There it is a stage of its own, of 30 epochs before the student learns from labels:
    a stage that distils this term alone, with hard weight 0, and one that starts from it.

    Attributes:
      margin: m.
    """

    about: ClassVar[str] = "which neurons of the teacher fire"

    margin: float = 1.0

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        total, m = jnp.zeros(()), self.margin
        for i, pair in enumerate(pairs):
            s, t = connected(params, i, pair)
            low = jnp.where((t <= 0) & (s > -m), s + m, 0.0) ** 2
            high = jnp.where((t > 0) & (s <= m), s - m, 0.0) ** 2
            layer = 2.0 ** (i - len(pairs) + 1)
            total = total + layer * jnp.sum(low + high, axis=(1, 2, 3))
        return 3 / 1000 * total


@traceable
class OFD(Boundaries):
    """Σ_i 2^(i−L+1) Σ_hwc (s − max(t, m_c))² where t > 0 or s > max(t, m_c), m_c = E[t | t < 0].

    Heo et al., "A Comprehensive Overhaul of Feature Distillation", 2019,
    https://arxiv.org/abs/1904.01866.

    Where a tap of the teacher is the path of a batch norm, its scale and bias give the margins m_c,
    for then t ~ N(β, |γ|). Otherwise, so by default, they are the means of the negative values that
    the teacher has shown in the stage, this batch's too: what the normal stands for, and right as
    well where a shortcut is added to it; but they move a little in the first steps. The authors'
    code leaves the teacher's batch norms in training mode; here it is as it is evaluated.
    """

    about: ClassVar[str] = "maps before their activation by partial squared error, with margins"

    weight: float = 1e-3

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        pairs = self.pairs(student, teacher)
        zeros = [jnp.zeros(f_t.shape[-1:]) for _, f_t in pairs]
        state = {f"negative{i}": {"sum": z, "count": z} for i, z in enumerate(zeros)}
        return Own(params=self.connectors(key, pairs), state=state)

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        assert lesson.teacher is not None
        pairs = self.pairs(lesson.student, lesson.teacher)
        margins, state = [], {}
        for i, name in enumerate(self.reads(lesson.student, lesson.teacher)[1]):
            seen = add_negatives(own.state[f"negative{i}"], lesson.teacher.features[name])
            state[f"negative{i}"] = seen
            norm = batch_norm_at(lesson.teacher_params, name)
            mean = seen["sum"] / jnp.maximum(seen["count"], 1.0)
            margins.append(mean if norm is None else negative_mean(norm["scale"], norm["bias"]))
        return self(pairs, own.params, margins), state

    def __call__(self, pairs: Pairs, params: Tree, margins: list[Array]) -> Array:
        """`margins`: m [C] of each tap."""
        total = jnp.zeros(())
        for i, (pair, margin) in enumerate(zip(pairs, margins, strict=True)):
            s, t = connected(params, i, pair)
            target = jnp.maximum(t, margin.astype(t.dtype).reshape(1, 1, 1, -1))
            gap = jnp.where((t > 0) | (s > target), s - target, 0.0)
            total = total + 2.0 ** (i - len(pairs) + 1) * jnp.sum(gap**2, axis=(1, 2, 3))
        return total


def add_negatives(seen: Tree, features: Array) -> Tree:
    """Sum and count [C] of the negative values, with those of [B, H, W, C]."""
    (x,) = floats(jax.lax.stop_gradient(features))
    new = {"sum": jnp.minimum(x, 0.0), "count": jnp.where(x < 0, 1.0, 0.0)}
    return {k: seen[k] + jnp.sum(new[k], (0, 1, 2)).astype(seen[k].dtype) for k in new}


def batch_norm_at(params: Any, path: str) -> Tree | None:
    """{scale, bias} of a module of the teacher, or None where there is none."""
    for name in path.split("/"):
        params = params.get(name) if isinstance(params, Mapping) else None
    return params if isinstance(params, Mapping) and {"scale", "bias"} <= params.keys() else None


def negative_mean(scale: Array, bias: Array) -> Array:
    """E[x | x < 0] of x ~ N(β, |γ|): β − |γ| φ(β/|γ|) / Φ(−β/|γ|); −3|γ| where Φ < 0.001."""
    spread = jnp.maximum(jnp.abs(scale), 1e-12)
    z = bias / spread
    below = jax.scipy.stats.norm.cdf(-z)
    mean = bias - spread * jax.scipy.stats.norm.pdf(z) / jnp.maximum(below, 1e-3)
    return jnp.where(below < 1e-3, -3 * spread, mean)
