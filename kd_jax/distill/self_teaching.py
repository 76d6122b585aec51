"""A network's own output teaches exits that leave it earlier."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.classifier import mean_of_places
from kd_jax.distill.divergences import cross_entropy, floats
from kd_jax.distill.taps import Names, stages
from kd_jax.distill.term import Lesson, Own, Term
from kd_jax.errors import did_you_mean, require, require_between
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class BYOT(Term):
    """Σ_i [ (1 − α)·H(y, p_i) + α·T²·H(p, p_i) at T ] + β·Σ_b Σ_i ‖f_i − f‖², over the exits i.

    p and f are what the network puts out and what its classifier is given, without a gradient. An
    exit is a head on an earlier feature: a 1x1 convolution to a quarter of f's channels, one whose
    window and stride bring the map to the size of the last stage's, and a 1x1 to f's channels, each
    with batch norm and ReLU; f_i is the mean over places of that, and a linear layer gives p_i. The
    heads learn with the network and end with the stage: what is used is the last output alone.

    Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via
    Self Distillation", 2019, https://arxiv.org/abs/1905.08094, with the numbers and the heads of
    the common PyTorch version, which has 0.9 × hard labels beside it (the paper has 1 ×). As there
    H(p, p_i) is the soft cross-entropy, and the squares are summed over the batch, there of 128.
    """

    about: ClassVar[str] = "exits at earlier stages learn from the network's own output"

    student_taps: Names = ()
    """Features that exits leave from and, last, f; none: the ends of all stages but the last, and
    what the classifier is given."""
    alpha: float = 0.1
    """α in [0, 1], the weight of the network's output against the labels."""
    temperature: float = 3.0
    """T > 0."""
    beta: float = 1e-6
    """β, the weight of the hints."""

    taught: ClassVar[bool] = False
    logits_alone: ClassVar[bool] = False

    def __post_init__(self):
        Term.__post_init__(self)
        require_between("BYOT.alpha", self.alpha, 0, 1)
        require_between("BYOT.temperature", self.temperature, 0, open_low=True)
        require_between("BYOT.beta", self.beta, 0)

    def taps(self) -> tuple[Names, Names]:
        return self.student_taps, ()

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        *earlier, last = stages(student) or [""]
        final = "pooled" if "pooled" in student.features else last
        names = list(self.student_taps) or [*earlier, final]
        known = ", ".join(student.features) or "a module by its path"
        require(
            len(names) > 1,
            f"student-taps {' '.join(self.student_taps) or 'are none'}: name the features that "
            f"exits leave from and, last, what the classifier is given, of {known}",
        )
        for name in names:
            fits = name in student.features and student.features[name].ndim > 1
            hint = did_you_mean(name, student.features)
            require(fits, f"student-taps {name}: the student has no such feature.{hint}")
        return names, []

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        *exits, final = self.reads(student, teacher)[0]
        last = student.features[(stages(student) or [final])[-1]].shape
        outputs, heads = student.features[final].shape[-1], {}
        for i, name in enumerate(exits):
            feature = student.features[name].shape
            window = _times_larger(feature, last)
            keys, few = jax.random.split(jax.random.fold_in(key, i), 4), max(1, outputs // 4)
            heads[f"exit{i}"] = {
                "narrow": connect.init_conv_norm(keys[0], 1, feature[-1], few),
                "shrink": connect.init_conv_norm(keys[1], window, few, few),
                "widen": connect.init_conv_norm(keys[2], 1, few, outputs),
                "classifier": connect.init_dense(keys[3], outputs, student.logits.shape[-1]),
            }
        return Own(params=heads)

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        said = lesson.student
        *exits, f = floats(*(said.features[name] for name in self.reads(said, None)[0]))
        hints = [embed(own.params[f"exit{i}"], x) for i, x in enumerate(exits)]
        logits = [
            connect.dense(own.params[f"exit{i}"]["classifier"], hint)
            for i, hint in enumerate(hints)
        ]
        return self(logits, hints, said.logits, mean_of_places(f), lesson.targets), own.state

    def __call__(
        self, exits: list[Array], hints: list[Array], logits: Array, f: Array, targets: Array
    ) -> Array:
        """The unweighted loss, float32 [B], of the exits' logits [B, K] and embeddings [B, C], of
        the network's own, and of distributions [B, K]; the hints' part is one of the batch."""
        logits, f = (jax.lax.stop_gradient(x) for x in floats(logits, f))
        total, squares, T = jnp.zeros(()), jnp.zeros(()), self.temperature
        for z_i, f_i in zip(exits, hints, strict=True):
            soft = cross_entropy(z_i / T, jax.nn.softmax(logits / T))
            total += (1 - self.alpha) * cross_entropy(z_i, targets) + self.alpha * T**2 * soft
            squares += jnp.sum((f_i - f) ** 2)
        return total + self.beta * squares


def _times_larger(feature: tuple[int, ...], last: tuple[int, ...]) -> int:
    """How many times a map [B, H, W, C] is as large as another; 1 of what is no map."""
    if len(feature) != 4 or len(last) != 4:
        return 1
    return max(1, min(feature[1] // last[1], feature[2] // last[2]))


def embed(head: Tree, x: Array) -> Array:
    """[B, ..., C] -> [B, outputs]."""
    if x.ndim != 4:
        x = x.reshape(x.shape[0], -1, 1, x.shape[-1])
    x = jax.nn.relu(connect.conv_norm(head["narrow"], x))
    shrink = head["shrink"]["conv"]
    x = connect.conv(shrink, x, stride=shrink["kernel"].shape[0], padding=0)
    x = jax.nn.relu(connect.norm(head["shrink"]["norm"], x))
    return mean_of_places(jax.nn.relu(connect.conv_norm(head["widen"], x)))
