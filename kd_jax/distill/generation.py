"""Distillation by making the teacher's map from parts of the student's."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.distill.term import Lesson, Own
from kd_jax.errors import require_between
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class MGD(FeatureTerm):
    """Σ_hwc (G(M ⊙ F_s) − F_t)², M a random mask, G = conv3x3, ReLU, conv3x3, both trained.

    Yang et al., "Masked Generative Distillation", 2022, https://arxiv.org/abs/2205.01529. The mask
    takes away whole channels, as the authors do for classification (15 %, weight 7e-5, the
    defaults), or places with all their channels, as for detection (65 %, weight 2e-5). Some codes
    take the mean over HWC in place of the sum. Where widths differ, F_s first passes a trained 1x1
    convolution. The mask is drawn from the step's key.

    Attributes:
      mask: what is taken away.
      masked: how often, λ in [0, 1].
    """

    about: ClassVar[str] = "the teacher's maps generated from masked ones of the student"

    mask: Literal["channel", "spatial"] = "channel"
    masked: float = 0.15
    weight: float = 7e-5

    kind: ClassVar[str] = "last"
    rank: ClassVar[int | None] = 4

    def __post_init__(self):
        FeatureTerm.__post_init__(self)
        require_between("MGD.masked", self.masked, 0, 1)

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        made = {}
        for i, (f_s, f_t) in enumerate(pairs):
            ours, theirs = f_s.shape[-1], f_t.shape[-1]
            keys = jax.random.split(jax.random.fold_in(key, i), 3)
            made[f"generator{i}"] = {
                "conv0": connect.init_conv(keys[0], (3, 3), theirs, theirs, True),
                "conv1": connect.init_conv(keys[1], (3, 3), theirs, theirs, True),
            }
            if ours != theirs:
                made[f"width{i}"] = connect.init_conv(keys[2], (1, 1), ours, theirs, True)
        return made

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        pairs = self.pairs(lesson.student, lesson.teacher)
        return self(pairs, own.params, lesson.key), own.state

    def __call__(self, pairs: Pairs, params: Tree, key: Array) -> Array:
        total = jnp.zeros(())
        for i, pair in enumerate(pairs):
            f_s, f_t = connect.same_size(*floats(*pair))
            f_s = connect.widen(params, i, f_s)
            left = self.left(jax.random.fold_in(key, i), f_s.shape)
            conv0, conv1 = (params[f"generator{i}"][name] for name in ("conv0", "conv1"))
            made = connect.conv(conv1, jax.nn.relu(connect.conv(conv0, jnp.where(left, f_s, 0.0))))
            total = total + jnp.sum((made - f_t) ** 2, axis=(1, 2, 3))
        return total

    def left(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Where something is left of [B, H, W, C], boolean, broadcast to it."""
        batch, height, width, channels = shape
        one = (batch, 1, 1, channels) if self.mask == "channel" else (batch, height, width, 1)
        return jnp.broadcast_to(jax.random.uniform(key, one) >= self.masked, shape)
