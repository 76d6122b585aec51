"""Distillation towards the centres of the teacher's classes."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import safe_root, unit
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.distill.term import Lesson, Own
from kd_jax.errors import require
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class ND(FeatureTerm):
    """1 − e_s · ĉ_y / max(‖e_s‖, ‖e_t‖), ĉ_y the teacher's mean embedding of class y, as a unit
    vector: embeddings are to have its direction and, at least, the teacher's norm.

    Wang et al., "Improving Knowledge Distillation via Regularizing Feature Norm and Direction",
    2023, https://arxiv.org/abs/2305.17007: KD++ is hard labels, KD with weight 1 and this; 2 is the
    weight of ResNet-56 → 20. Where widths differ, e_s first passes batch norm, dropout and a linear
    layer.

    There the means are of a pass over the training set before. Here they are of all views that the
    teacher has been shown in the stage, this batch's too: they are augmented ones, and in the first
    epoch few, so that the means still move; from the second on none is of fewer than a pass has.

    Attributes:
      dropout: within the projector.
    """

    about: ClassVar[str] = "direction of the class's mean embedding, and the teacher's norm"

    dropout: float = 0.5
    weight: float = 2.0

    kind: ClassVar[str] = "pooled"

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        require(len(pairs) == 1, f"student-taps: {len(pairs)} features; name the embedding alone")
        ours, theirs = (math.prod(f.shape[1:]) for f in pairs[0])
        if ours == theirs:
            return {}
        return {"norm": connect.init_norm(ours), "dense": connect.init_dense(key, ours, theirs)}

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        pairs = self.pairs(student, teacher)
        classes, width = student.logits.shape[-1], math.prod(pairs[0][1].shape[1:])
        state = {"sum": jnp.zeros((classes, width)), "count": jnp.zeros((classes,))}
        return Own(params=self.connectors(key, pairs), state=state)

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        ((student, teacher),) = self.pairs(lesson.student, lesson.teacher)
        e_s, e_t = (e.reshape(e.shape[0], -1) for e in floats(student, teacher))
        if own.params:
            e_s = connect.norm(own.params["norm"], e_s)
            kept = jax.random.uniform(lesson.key, e_s.shape) >= self.dropout
            e_s = jnp.where(kept, e_s / jnp.maximum(1 - self.dropout, 1e-6), 0.0)
            e_s = connect.dense(own.params["dense"], e_s)
        state = add(own.state, jax.lax.stop_gradient(e_t), lesson.labels)
        means = state["sum"] / jnp.maximum(state["count"], 1.0)[:, None]
        return self(e_s, e_t, means[lesson.labels]), state

    def __call__(self, e_s: Array, e_t: Array, centers: Array) -> Array:
        """All [B, C]; the class means are of each example's class."""
        e_s, e_t, centers = floats(e_s, e_t, centers)
        lengths = [safe_root(jnp.sum(e**2, axis=-1)) for e in (e_s, e_t)]
        longer = jnp.maximum(jnp.maximum(*lengths), 1e-12)
        return 1 - jnp.sum(e_s * unit(centers), axis=-1) / longer


def add(seen: Tree, embeddings: Array, labels: Array) -> Tree:
    """Sums [K, C] and counts [K] by class, with those of a batch."""
    member = jax.nn.one_hot(labels, seen["count"].size, dtype=seen["sum"].dtype)
    total = seen["sum"] + member.T @ embeddings.astype(seen["sum"].dtype)
    return {"sum": total, "count": seen["count"] + jnp.sum(member, axis=0)}
