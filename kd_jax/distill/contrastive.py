"""Distillation by contrast with what student and teacher have said of other examples."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import unit
from kd_jax.distill.taps import FeatureTerm
from kd_jax.distill.term import Lesson, Own
from kd_jax.errors import require, require_between
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class CRD(FeatureTerm):
    """−log D(v, w⁺) − Σ_k log(1 − D(v, w_k)), of the student's v against the teacher's w and of the
    teacher's against the student's, added; D(v, w) = P / (P + K/n), P = exp(v·w / τ) / Z.

    v are unit vectors of embeddings' linear maps, both trained. w come from memory banks [N, dim],
    which hold of each of the n training examples a running mean of its v: w⁺ is the example's own,
    w_k those of K examples of other classes. The authors' code has P + K/n + 1e-7. Z, one a
    direction, is n times the mean of exp(v·w / τ) over the first batch, and stays.

    Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
    https://arxiv.org/abs/1910.10699. Negatives are drawn with replacement, uniformly among all
    examples of other classes; the authors draw without where there are enough.

    Attributes:
      dim: of the common space.
      negatives: K.
      shared: one set of negatives for the whole batch, drawn from all classes; each example leaves
        out those of its own and weighs the others so that they count as K. A matrix product of
        K rows in place of N.
      temperature: τ > 0.
      momentum: of the banks.
    """

    about: ClassVar[str] = (
        "which embedding of the teacher is of the same example, against many others"
    )

    dim: int = 128
    negatives: int = 16384
    shared: bool = False
    temperature: float = 0.07
    momentum: float = 0.5
    weight: float = 0.8

    kind: ClassVar[str] = "pooled"
    remembers: ClassVar[bool] = True

    def __post_init__(self):
        FeatureTerm.__post_init__(self)
        require_between("CRD.temperature", self.temperature, 0, open_low=True)
        require_between("CRD.momentum", self.momentum, 0, 1)
        require_between("CRD.dim", self.dim, 1)
        require_between("CRD.negatives", self.negatives, 1)

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        pairs = self.pairs(student, teacher)
        require(len(pairs) == 1, f"student-taps: {len(pairs)} features; name the embedding alone")
        keys = jax.random.split(key, 4)
        widths = [math.prod(f.shape[1:]) for f in pairs[0]]
        shape, bound = (labels.size, self.dim), math.sqrt(3 / self.dim)
        banks = [jax.random.uniform(k, shape, minval=-bound, maxval=bound) for k in keys[2:]]
        return Own(
            params={
                "student": connect.init_dense(keys[0], widths[0], self.dim),
                "teacher": connect.init_dense(keys[1], widths[1], self.dim),
            },
            state={
                "student": banks[0],
                "teacher": banks[1],
                "begun": jnp.zeros((), bool),
                "log_z": jnp.zeros((2,)),
                "classes": by_class(labels, student.logits.shape[-1]),
            },
        )

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        pair = floats(*self.pairs(lesson.student, lesson.teacher)[0])
        v_s, v_t = (
            unit(connect.dense(own.params[who], e.reshape(e.shape[0], -1)))
            for who, e in zip(("student", "teacher"), pair, strict=True)
        )
        draw = shared_negatives if self.shared else other_classes
        rows, kept = draw(lesson.key, own.state["classes"], lesson.labels, self.negatives)
        values, log_z = self(v_s, v_t, own.state, lesson.ids, rows, kept)
        moved = {
            name: self.move(own.state[name], lesson.ids, jax.lax.stop_gradient(v))
            for name, v in (("student", v_s), ("teacher", v_t))
        }
        begun = jnp.ones((), bool)
        return values, {**own.state, **moved, "log_z": log_z, "begun": begun}

    def __call__(
        self, v_s: Array, v_t: Array, state: Tree, ids: Array, rows: Array, kept: Array
    ) -> tuple[Array, Array]:
        """(the loss [B], log Z [2]).

        Args:
          v_s, v_t: unit vectors [B, dim].
          ids: rows of the banks of the examples themselves, [B].
          rows: those of the negatives, [B, K], or [K] for all.
          kept: whether they are negatives, boolean [B, K].
        """
        n = jnp.sum(state["classes"]["count"]).astype(v_s.dtype)
        log_c = jnp.log(rows.shape[-1] / n)
        values, constants = jnp.zeros(()), []
        for i, (v, other) in enumerate(((v_s, "teacher"), (v_t, "student"))):
            bank = state[other].astype(v.dtype)
            positive, negative = similarities(v / self.temperature, bank, ids, rows)
            log_z = jnp.log(n) + log_mean_exp(positive, negative, kept)
            log_z = jnp.where(state["begun"], state["log_z"][i].astype(v.dtype), log_z)
            constants.append(log_z)
            values = values + discriminate(positive - log_z, negative - log_z, kept, log_c)
        return values, jnp.stack(constants).astype(state["log_z"].dtype)

    def move(self, bank: Array, ids: Array, v: Array) -> Array:
        new = self.momentum * bank[ids] + (1 - self.momentum) * v.astype(bank.dtype)
        return bank.at[ids].set(unit(new))


def similarities(v: Array, bank: Array, ids: Array, rows: Array) -> tuple[Array, Array]:
    """v·w with the examples' own [B] and with their negatives [B, K]."""
    positive = jnp.sum(v * bank[ids], axis=-1)
    if rows.ndim == 1:
        return positive, v @ bank[rows].T
    # One product with the whole bank moves less memory than B·K gathered rows would.
    return positive, jnp.take_along_axis(v @ bank.T, rows, axis=1)


def log_mean_exp(positive: Array, negative: Array, kept: Array) -> Array:
    """log of the mean of the exponentials of all that are compared; a constant."""
    every = jnp.concatenate([positive[:, None], jnp.where(kept, negative, -jnp.inf)], axis=1)
    count = positive.size + jnp.sum(kept)
    return jax.nn.logsumexp(jax.lax.stop_gradient(every)) - jnp.log(count)


def discriminate(positive: Array, negative: Array, kept: Array, log_c: Array) -> Array:
    """−log(P / (P + c + ε)) − Σ_k log(c / (P_k + c + ε)), [B], of log P [B] and log P_k [B, K]."""
    log_c_epsilon = jnp.log(jnp.exp(log_c) + 1e-7)
    each = jax.nn.softplus(negative - log_c_epsilon) + log_c_epsilon - log_c
    share = negative.shape[1] / jnp.maximum(jnp.sum(kept, axis=1), 1)
    return jax.nn.softplus(log_c_epsilon - positive) + share * jnp.sum(each * kept, axis=1)


def by_class(labels: Array, classes: int) -> Tree:
    """The training examples' ids in order of their classes; [K] where each begins, and its size."""
    order = jnp.argsort(labels).astype(jnp.int32)  # first the ids that nobody has, labelled -1
    ends = jnp.searchsorted(labels[order], jnp.arange(classes + 1)).astype(jnp.int32)
    return {"order": order, "first": ends[:-1], "count": ends[1:] - ends[:-1]}


def other_classes(key: Array, classes: Tree, labels: Array, count: int) -> tuple[Array, Array]:
    """(ids [B, K] of examples of other classes than each label's, all of them kept)."""
    first, size = classes["first"][labels][:, None], classes["count"][labels][:, None]
    begin = classes["first"][0]
    others = jnp.sum(classes["count"]) - size
    shape = (labels.size, count)
    place = begin + jax.random.randint(key, shape, 0, jnp.maximum(others, 1))
    place = jnp.where(place >= first, place + size, place)
    order = classes["order"]
    # Where there is one class alone, there are no others.
    return order[jnp.minimum(place, order.size - 1)], jnp.broadcast_to(others > 0, shape)


def shared_negatives(key: Array, classes: Tree, labels: Array, count: int) -> tuple[Array, Array]:
    """(ids [K] of examples, which of them [B, K] are of another class than each label's)."""
    first, size = classes["first"][labels][:, None], classes["count"][labels][:, None]
    total = jnp.maximum(jnp.sum(classes["count"]), 1)
    place = classes["first"][0] + jax.random.randint(key, (count,), 0, total)
    place = jnp.minimum(place, classes["order"].size - 1)
    own = (place[None] >= first) & (place[None] < first + size)
    return classes["order"][place], ~own
