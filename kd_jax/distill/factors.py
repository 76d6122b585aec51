"""Distillation of factors: what a small auto-encoder makes of the teacher's map."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import unit
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.distill.term import Lesson, Own
from kd_jax.errors import require_between
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class FT(FeatureTerm):
    """mean_HW |q(τ(F_s)) − q(π(F_t))|, q(F) = vec(mean_C F²) as a unit vector.

    In the form "paper" it is Σ_hwc |q − q|, q(F) = vec(F) as a unit vector. The paraphraser π is
    the encoder of an auto-encoder of F_t: three 3x3 convolutions to 1/`reduction` of the teacher's
    channels. The translator τ is three such with batch norm.

    Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", 2018,
    https://arxiv.org/abs/1802.04977. There π is trained before anything else. Here that takes the
    first `paraphrase` epochs from `start` on: the loss is then the mean squared error of the
    reconstruction, with weight 1 whatever `weight` is, and the student learns from labels and other
    terms alone. After them π stays as it is, and τ and the student learn. As in the usual code, π
    has no batch norm.

    Attributes:
      reduction: the teacher's channels over those of the factors, 1/k.
      paraphrase: epochs.
      form: the usual code or the paper.
    """

    about: ClassVar[str] = "factors of the maps by a paraphraser and a translator"

    reduction: int = 2
    paraphrase: float = 30.0
    form: Literal["code", "paper"] = "code"
    weight: float = 200.0

    kind: ClassVar[str] = "last"
    rank: ClassVar[int | None] = 4

    def __post_init__(self):
        FeatureTerm.__post_init__(self)
        require_between("FT.paraphrase", self.paraphrase, 0)

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        made = {}
        for i, (f_s, f_t) in enumerate(pairs):
            ours, theirs = f_s.shape[-1], f_t.shape[-1]
            few = connect.reduced(theirs, self.reduction)
            widths = [theirs, theirs, few, few, few, theirs, theirs]
            keys = jax.random.split(jax.random.fold_in(key, i), 9)
            convs = [
                connect.init_conv(keys[j], (3, 3), widths[j], widths[j + 1], True) for j in range(6)
            ]
            made[f"paraphraser{i}"] = {f"conv{j}": conv for j, conv in enumerate(convs[:3])}
            made[f"decoder{i}"] = {f"conv{j}": conv for j, conv in enumerate(convs[3:])}
            widths = [ours, ours, few, few]
            made[f"translator{i}"] = {
                f"conv{j}": connect.init_conv_norm(keys[6 + j], 3, widths[j], widths[j + 1])
                for j in range(3)
            }
        return made

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        params = self.connectors(key, self.pairs(student, teacher))
        return Own(params=params, state=paraphrasers(params))

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        pairs = self.pairs(lesson.student, lesson.teacher)
        early = lesson.epoch - self.start < self.paraphrase
        newest = jax.lax.stop_gradient(paraphrasers(own.params))
        kept = jax.tree.map(lambda new, old: jnp.where(early, new, old), newest, own.state)
        rebuilt = reconstruction(pairs, own.params)
        # The objective multiplies by the weight, which is the factors' alone.
        rebuilt = rebuilt / jnp.where(jnp.asarray(self.weight) > 0, self.weight, 1.0)
        return jnp.where(early, rebuilt, self(pairs, {**own.params, **own.state})), kept

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """Without params, the factors are the features as they are."""
        total = jnp.zeros(())
        for i, (student, teacher) in enumerate(pairs):
            f_s, f_t = floats(student, teacher)
            if params:
                f_s = translate(params[f"translator{i}"], f_s)
                f_t = leaky_convs(params[f"paraphraser{i}"], f_t)
            q_s, q_t = (self.embed(f) for f in connect.same_size(f_s, f_t))
            gap = jnp.abs(q_s - q_t)
            total = total + (gap.sum(-1) if self.form == "paper" else gap.mean(-1))
        return total

    def embed(self, features: Array) -> Array:
        if self.form == "code":
            features = jnp.mean(features**2, axis=-1)
        return unit(features.reshape(features.shape[0], -1))


def paraphrasers(params: Tree) -> Tree:
    return {name: part for name, part in params.items() if name.startswith("paraphraser")}


def reconstruction(pairs: Pairs, params: Tree) -> Array:
    """mean_HWC (d(π(F_t)) − F_t)², [B], summed over the taps."""
    total = jnp.zeros(())
    for i, (_, teacher) in enumerate(pairs):
        (f_t,) = floats(teacher)
        rebuilt = leaky_convs(params[f"decoder{i}"], leaky_convs(params[f"paraphraser{i}"], f_t))
        total = total + jnp.mean((rebuilt - f_t) ** 2, axis=(1, 2, 3))
    return total


def leaky_convs(params: Tree, x: Array) -> Array:
    for conv in params.values():
        x = jax.nn.leaky_relu(connect.conv(conv, x), 0.1)
    return x


def translate(params: Tree, x: Array) -> Array:
    for conv in params.values():
        x = jax.nn.leaky_relu(connect.conv_norm(conv, x), 0.1)
    return x
