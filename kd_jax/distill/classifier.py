"""Distillation with the networks' classifiers: their last linear layer, [C] -> [K]."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import unit
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.distill.term import Lesson, Own
from kd_jax.errors import require
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array
PROJECTED = "projected"  # the feature of a student that has a projector of its own


def linear(params: Any, path: str, width: int, field: str) -> Tree:
    """{kernel [C, K], maybe bias [K]} of the layer at a path. Raises UsageError if there is none
    that takes `width` channels."""
    node = params
    for name in path.split("/"):
        node = node.get(name, {}) if isinstance(node, Mapping) else {}
    kernel = node.get("kernel") if isinstance(node, Mapping) else None
    takes = kernel.shape[0] if kernel is not None and kernel.ndim == 2 else None
    require(
        takes is not None,
        f"{field} {path}: there is no linear layer; give the path of the last one, among "
        f"{', '.join(params or ())}",
    )
    require(
        takes == width,
        f"{field} {path}: it takes {takes} channels, and the feature has {width}: name what it is "
        "given by student-taps or teacher-taps",
    )
    return node


def mean_of_places(features: Array) -> Array:
    """[B, ..., C] -> [B, C]."""
    return jnp.mean(features, axis=tuple(range(1, features.ndim - 1)))


def only(pairs: Pairs) -> tuple[Array, Array]:
    require(len(pairs) == 1, f"student-taps: {len(pairs)} features; name what the classifier sees")
    return pairs[0]


@traceable
class SRRL(FeatureTerm):
    """mean_C (e_s − e_t)² + β · mean_K (W_t e_s − z_t)², e_s the mean over HW of r(F_s).

    r is a trained 1x1 convolution with batch norm and ReLU, e_t what the teacher's classifier is
    given. W_t, that classifier, tells what the student's features mean to it.

    Yang et al., "Knowledge Distillation via Softmax Regression Representation Learning", 2021,
    https://openreview.net/forum?id=ZzwDy_wiWv. A later codebase has β = 5.

    Attributes:
      beta: β.
      teacher_classifier: path of the teacher's last linear layer.
    """

    about: ClassVar[str] = "embeddings, judged by the teacher's classifier too"

    beta: float = 1.0
    teacher_classifier: str = "classifier"

    kind: ClassVar[str] = "last"
    teacher_kind: ClassVar[str] = "pooled"

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        f_s, f_t = only(pairs)
        return connect.init_conv_norm(key, 1, f_s.shape[-1], f_t.shape[-1])

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        assert lesson.teacher is not None
        f_s, f_t = floats(*only(self.pairs(lesson.student, lesson.teacher)))
        f_s = f_s.reshape(f_s.shape[0], -1, 1, f_s.shape[-1])
        e_s = mean_of_places(jax.nn.relu(connect.conv_norm(own.params, f_s)))
        path, params = self.teacher_classifier, lesson.teacher_params
        layer = linear(params, path, e_s.shape[-1], "teacher-classifier")
        z_s = connect.dense(layer, e_s)
        return self(e_s, mean_of_places(f_t), z_s, lesson.teacher.logits), own.state

    def __call__(self, e_s: Array, e_t: Array, z_s: Array, z_t: Array) -> Array:
        """Embeddings [B, C], and the teacher's classifier's logits of both [B, K]."""
        e_s, e_t, z_s, z_t = floats(e_s, e_t, z_s, z_t)
        return jnp.mean((e_s - e_t) ** 2, axis=-1) + self.beta * jnp.mean((z_s - z_t) ** 2, axis=-1)


@traceable
class CATKD(FeatureTerm):
    """mean over r·r·K of (M_s − M_t)², M the class activation maps, averaged to r x r.

    M_k = Σ_c w_ck F_c: what each place adds to the logit of class k. With `normalise`, each map is
    made a unit vector.

    Guo et al., "Class Attention Transfer Based Knowledge Distillation", 2023,
    https://arxiv.org/abs/2304.12777. The weight is of the pair: 0.7 for ResNet-56 → 20, 1.8 for
    ResNet-110 → 32, 15 for ResNet-32x4 → 8x4 (the default), 12 for Wide ResNet 40-2 → 16-2, 1.5 for
    40-2 → 40-1, 4.5 for VGG-13 → 8; normalised, 15 for VGG-13 and 40 for ResNet-50 → MobileNet-V2,
    and with resolution 4, 600 for ResNet-32x4 and 80 for Wide ResNet 40-2 → ShuffleNet.

    The features are those whose mean the classifiers are given. They pass a ReLU here, which
    changes nothing of most and lets pre-activations be named.

    Attributes:
      resolution: r.
      normalise: compare where the maps are, not how large.
      student_classifier, teacher_classifier: paths of the last linear layers.
    """

    about: ClassVar[str] = "class activation maps"

    resolution: int = 2
    normalise: bool = False
    student_classifier: str = "classifier"
    teacher_classifier: str = "classifier"
    weight: float = 15.0

    kind: ClassVar[str] = "last_pre"
    rank: ClassVar[int | None] = 4

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        only(pairs)
        require(self.resolution >= 1, f"resolution {self.resolution} must be at least 1")
        return {}

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        f_s, f_t = floats(*only(self.pairs(lesson.student, lesson.teacher)))
        layers = [
            linear(
                lesson.student_params, self.student_classifier, f_s.shape[-1], "student-classifier"
            ),
            linear(
                lesson.teacher_params, self.teacher_classifier, f_t.shape[-1], "teacher-classifier"
            ),
        ]
        return self(activations(layers[0], f_s), activations(layers[1], f_t)), own.state

    def __call__(self, m_s: Array, m_t: Array) -> Array:
        """Class activation maps [B, H, W, K]."""
        r = self.resolution
        m_s, m_t = (connect.pool_to(m, r, r) for m in floats(m_s, m_t))
        if self.normalise:
            m_s, m_t = (unit(m.reshape(-1, r * r, m.shape[-1]).swapaxes(1, 2)) for m in (m_s, m_t))
        return jnp.mean((m_s - m_t) ** 2, axis=tuple(range(1, m_s.ndim)))


def activations(layer: Tree, features: Array) -> Array:
    """[B, H, W, C] -> [B, H, W, K], without the bias, which has no place."""
    return jax.nn.relu(features) @ layer["kernel"].astype(features.dtype)


@traceable
class SimKD(FeatureTerm):
    """mean over HWC of (P(F_s) − F_t)², F the last maps, the larger pooled to the smaller.

    P, the projector, is 1x1, 3x3 and 1x1 convolutions, each with batch norm and ReLU, the inner
    ones with 1/`reduction` of the teacher's channels.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", 2022,
    https://arxiv.org/abs/2203.14001. There it is all that the student learns from (hard weight 0),
    and what is used is the student up to its last map, P and the teacher's classifier: set the
    stage's `classifier` to teacher for this, and P is a part of the network, whose feature
    `projected` is P(F_s). Otherwise P is a part of the term, and the student's own classifier
    learns from other terms and labels. F_t is the teacher's map after its last ReLU.

    Attributes:
      reduction: the teacher's channels over those within P.
    """

    about: ClassVar[str] = "the last maps, to be read by the teacher's classifier"

    reduction: int = 2

    kind: ClassVar[str] = "last"
    teacher_kind: ClassVar[str] = "last_pre"
    rank: ClassVar[int | None] = 4

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        if self.projected(student):
            return dataclasses.replace(self, student_taps=(PROJECTED,)).reads(student, teacher)
        return super().reads(student, teacher)

    def projected(self, student: Outputs) -> bool:
        """Whether the student has a projector of its own."""
        return not self.student_taps and PROJECTED in student.features

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        return Own() if self.projected(student) else super().init(key, student, teacher, labels)

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        made = {}
        for i, (f_s, f_t) in enumerate(pairs):
            ours, theirs = f_s.shape[-1], f_t.shape[-1]
            few = connect.reduced(theirs, self.reduction)
            keys = jax.random.split(jax.random.fold_in(key, i), 3)
            made[f"projector{i}"] = {
                "conv0": connect.init_conv_norm(keys[0], 1, ours, few),
                "conv1": connect.init_conv_norm(keys[1], 3, few, few),
                "conv2": connect.init_conv_norm(keys[2], 1, few, theirs),
            }
        return made

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """Without params, the student's features as they are."""
        total = jnp.zeros(())
        for i, (student, teacher) in enumerate(pairs):
            f_s, f_t = floats(student, teacher)
            f_s, f_t = connect.same_size(f_s, jax.nn.relu(f_t))
            for conv in params[f"projector{i}"].values() if params else ():
                f_s = jax.nn.relu(connect.conv_norm(conv, f_s))
            total = total + jnp.mean((f_s - f_t) ** 2, axis=(1, 2, 3))
        return total
