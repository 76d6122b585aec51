"""Distillation from the blocks of Transformers: hidden states, attention, relations of values.

Any network whose features have these names or are named by taps will do: stem and stageI [B, N, D],
attentionI_scores [B, heads, N, N] as they go into the softmax, attentionI_values [B, heads, N, d].
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats, kl_divergence
from kd_jax.distill.taps import FeatureTerm, Pairs, published
from kd_jax.errors import require
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array
Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, str, Shape, Shape]]


@traceable
class TinyBERT(FeatureTerm):
    """A loss of each of the student's blocks i = 1, 2, ... and the teacher's g(i) = i·k, where k is
    by how much the teacher is deeper; or of those that are named.

    Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020,
    https://arxiv.org/abs/1909.10351. They train by `tinybert_hidden` and `tinybert_attention`, each
    with weight 1 and without labels, and in a second stage by `soft_cross_entropy`.
    """

    before: ClassVar[int] = 0
    """Features that come before the first block's."""

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        assert teacher is not None, "the config checks that there is a teacher"
        term = self
        if not any(self.taps()):
            ours, theirs = published(self.kind, student), published(self.kind, teacher, "teacher")
            chosen = tuple(self._deeper(len(ours), theirs))
            term = dataclasses.replace(self, teacher_taps=chosen)
        return FeatureTerm.reads(term, student, teacher)

    def _deeper(self, count: int, theirs: list[str]) -> list[str]:
        """g: as many of the teacher's features as the student has."""
        depth, deeper = count - self.before, len(theirs) - self.before
        k = deeper // depth
        require(
            k * depth == deeper,
            f"student-taps: the student's {depth} blocks can't be spread evenly over the teacher's "
            f"{deeper}: take a depth that divides {deeper}, or name as many features of both by "
            "student-taps and teacher-taps",
        )
        return theirs[: self.before] + theirs[self.before + k - 1 :: k]


@traceable
class TinyBERTHidden(TinyBERT):
    """Σ over taps of mean over ND of (W h_s + b − h_t)², h the embeddings and what blocks put out.

    See `TinyBERT`. W and b are trained, and shared by all taps (of the same widths, where a network
    has several) as in the authors' code; in their paper the embeddings, here the first tap, have a
    W of their own, and there is no b: see `form`. Any places will do for tokens, [B, ..., D].
    """

    about: ClassVar[str] = "hidden states of embeddings and blocks"

    form: Literal["code", "paper"] = "code"
    """The authors' code or their paper."""

    kind: ClassVar[str] = "from_stem"
    before: ClassVar[int] = 1

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        names = super().reads(student, teacher)
        for ours, theirs, f_s, f_t in _shapes(student, teacher, names):
            _require_as_many("tokens", ours, f_s[1:-1], theirs, f_t[1:-1])
        return names

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        made = {}
        for i, (f_s, f_t) in enumerate(pairs):
            widths = f_s.shape[-1], f_t.shape[-1]
            new = connect.init_dense(jax.random.fold_in(key, i), *widths, self.form == "code")
            made.setdefault(self._map(i, *widths), new)
        return made

    def _map(self, tap: int, width: int, teacher_width: int) -> str:
        """The name of the linear map that a tap is read through."""
        first = "embeddings_" if self.form == "paper" and tap == 0 else ""
        return f"{first}{width}_to_{teacher_width}"

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """Without params, the features as they are."""
        total = jnp.zeros(())
        for i, (student, teacher) in enumerate(pairs):
            h_s, h_t = floats(student, teacher)
            if params:
                h_s = connect.dense(params[self._map(i, h_s.shape[-1], h_t.shape[-1])], h_s)
            total = total + jnp.mean((h_s - h_t) ** 2, axis=tuple(range(1, h_s.ndim)))
        return total


@traceable
class TinyBERTAttention(TinyBERT):
    """Σ over blocks of the mean over heads and NN of (A_s − A_t)², A = Q Kᵀ / √d.

    See `TinyBERT`. The scores are those before the softmax. As in the authors' code, one of −100 or
    less counts as 0: it is of a token that a mask leaves out.
    """

    about: ClassVar[str] = "attention scores of each block"

    kind: ClassVar[str] = "attention"
    rank: ClassVar[int | None] = 4
    axes: ClassVar[str] = "attention scores [batch, heads, tokens, tokens]"

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        names = super().reads(student, teacher)
        _require_heads(student, teacher, names, scores=len(names[0]))
        return names

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        del params
        total = jnp.zeros(())
        for student, teacher in pairs:
            a_s, a_t = (jnp.where(a <= -100, 0, a) for a in floats(student, teacher))
            total = total + jnp.mean((a_s - a_t) ** 2, axis=(1, 2, 3))
        return total


@traceable
class MiniLM(FeatureTerm):
    """Mean over heads and tokens of KL(A_t ‖ A_s) + KL(R_t ‖ R_s), of the last block.

    A = softmax(Q Kᵀ / √d), to what a token attends, and R = softmax(V Vᵀ / √d), how its value
    relates to others, both [B, heads, N, N].

    Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers", 2020, https://arxiv.org/abs/2002.10957, without labels. Widths may
    differ, numbers of heads may not. Taps are the scores, before the softmax, and the values of any
    one block.
    """

    about: ClassVar[str] = "the last block's attention, and how its values relate"

    kind: ClassVar[str] = "last_attention"
    rank: ClassVar[int | None] = 4
    axes: ClassVar[str] = "[batch, heads, tokens, tokens or width of a head]"

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        names = super().reads(student, teacher)
        require(
            len(names[0]) == 2,
            f"student-taps {', '.join(names[0])}: name two of each network, attention scores "
            "before the softmax and values",
        )
        _require_heads(student, teacher, names, scores=1)
        return names

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        del params
        scores, values = pairs
        relations = [_relation(v) for v in floats(*values)]
        return _divergence(*floats(*scores)) + _divergence(*relations)


def _relation(values: Array) -> Array:
    """V Vᵀ / √d, [B, heads, N, N]."""
    return jnp.einsum("bhqd,bhkd->bhqk", values, values) / values.shape[-1] ** 0.5


def _divergence(student: Array, teacher: Array) -> Array:
    """Mean of KL(softmax(teacher) ‖ softmax(student)) over heads and tokens, [B]."""
    return jnp.mean(kl_divergence(teacher, student), axis=(1, 2))


def _shapes(student: Outputs, teacher: Outputs | None, names: Sequence[list[str]]) -> Shapes:
    """(name, the teacher's name, shape, the teacher's shape) of each tap."""
    assert teacher is not None
    for ours, theirs in zip(*names, strict=True):
        yield ours, theirs, student.features[ours].shape, teacher.features[theirs].shape


def _require_heads(
    student: Outputs, teacher: Outputs | None, names: Sequence[list[str]], scores: int
) -> None:
    """Raises UsageError unless each pair is of as many heads and tokens, and the first `scores` of
    them attention scores."""
    for i, (ours, theirs, f_s, f_t) in enumerate(_shapes(student, teacher, names)):
        for who, name, shape in (("student", ours, f_s), ("teacher", theirs, f_t)):
            require(
                i >= scores or shape[2] == shape[3],
                f"{who}-taps {name}: it is of shape {tuple(shape)}, and this loss needs attention "
                "scores [batch, heads, tokens, tokens]",
            )
        _require_as_many("heads", ours, f_s[1:2], theirs, f_t[1:2])
        _require_as_many("tokens", ours, f_s[2:3], theirs, f_t[2:3])


def _require_as_many(
    what: Literal["heads", "tokens"], ours: str, count: Shape, theirs: str, teachers: Shape
) -> None:
    fix = {
        "heads": "give the student as many heads as its teacher; their widths may differ",
        "tokens": "both must cut an example into as many (patch; a distill-token is one more)",
    }[what]
    ours_by, theirs_by = ("x".join(map(str, n)) or "no" for n in (count, teachers))
    require(
        count == teachers,
        f"student-taps {ours}: it has {ours_by} {what}, and the teacher's {theirs} {theirs_by}: "
        f"{fix}",
    )
