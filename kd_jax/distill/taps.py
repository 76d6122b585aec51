"""Which features of student and teacher a term compares: named ones of our models, or the outputs
of any of a network's modules."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import jax

from kd_jax.distill.term import Lesson, Own, Term
from kd_jax.errors import did_you_mean, require
from kd_jax.forward import Outputs
from kd_jax.tree import Tree, traceable

Array = jax.Array
Names = tuple[str, ...]
Pairs = list[tuple[Array, Array]]

KINDS = {
    "stages": "the end of each stage",
    "pre": "the end of each stage, before its last activation",
    "second": "the end of the second stage",
    "last": "the end of the last stage",
    "last_pre": "the end of the last stage, before its last activation",
    "pooled": "what the classifier is given",
    "stages_pooled": "the end of each stage, and what the classifier is given",
    "pre_pooled": "the end of each stage, before its last activation, and what the classifier is "
    "given",
    "from_stem": "the stem and the end of each stage",
    "attention": "a block's attention scores, before the softmax",
    "last_attention": "the last block's attention scores and its values",
}


@traceable
class FeatureTerm(Term):
    """A loss of features. Which, is said by names; left out, they are those of the publication.

    Names are those that the model's documentation lists (stem, stage1, stage1_pre, ..., pooled), or
    paths of modules such as stage2_block0/conv1. Both lists must be of one length; nothing is cut.
    """

    student_taps: Names = ()
    """Features of the student; none: those that the loss was published with."""
    teacher_taps: Names = ()
    """Features of the teacher, one for each of the student's; none: the published ones."""

    kind: ClassVar[str] = "stages"
    """Which features were published with it, see KINDS."""
    teacher_kind: ClassVar[str] = ""
    """Which of the teacher, if not the same."""
    rank: ClassVar[int | None] = None
    """Axes that a feature must have: 4 for maps [B, H, W, C]; None: any."""
    axes: ClassVar[str] = "maps [batch, height, width, channels]"
    """What they are."""
    logits_alone: ClassVar[bool] = False

    def taps(self) -> tuple[Names, Names]:
        return self.student_taps, self.teacher_taps

    def reads(self, student: Outputs, teacher: Outputs | None) -> tuple[list[str], list[str]]:
        assert teacher is not None, "the config checks that there is a teacher"
        theirs = self.teacher_kind or self.kind
        names = [
            list(self.student_taps) or published(self.kind, student, "student"),
            list(self.teacher_taps) or published(theirs, teacher, "teacher"),
        ]
        counts = [len(of) for of in names]
        require(
            counts[0] == counts[1],
            f"student-taps {', '.join(names[0])} are {counts[0]}, and the teacher's "
            f"{', '.join(names[1])} are {counts[1]}: name as many of both by student-taps and "
            "teacher-taps",
        )
        for said, of, who in zip((student, teacher), names, ("student", "teacher"), strict=True):
            _check(said, of, who, self.rank, self.axes)
        return names[0], names[1]

    def pairs(self, student: Outputs, teacher: Outputs | None) -> Pairs:
        """(the student's feature, the teacher's) of each tap."""
        assert teacher is not None
        ours, theirs = self.reads(student, teacher)
        features = student.features, teacher.features
        return [(features[0][a], features[1][b]) for a, b in zip(ours, theirs, strict=True)]

    def init(self, key: Array, student: Outputs, teacher: Outputs | None, labels: Array) -> Own:
        return Own(params=self.connectors(key, self.pairs(student, teacher)))

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        """Fresh parameters that bring the student's features, as shapes, to the teacher's; by
        default there are none."""
        return {}

    def evaluate(self, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
        return self(self.pairs(lesson.student, lesson.teacher), own.params), own.state

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """The unweighted loss, float32 [B] or a scalar, of pairs of features and what
        `connectors` made."""
        raise NotImplementedError


def stages(said: Outputs, name: str = "stage{}") -> list[str]:
    """stage1, stage2, ... as far as they go, or others that are numbered so."""
    names = [name.format(i) for i in range(1, 1 + len(said.features))]
    return [name for name in names if name in said.features]


def published(
    kind: str, said: Outputs, who: Literal["student", "teacher"] = "student"
) -> list[str]:
    """The names of a kind of features. Raises UsageError where the network has none."""
    ends = stages(said)
    # Where a stage ends without an activation, its end is its pre-activation.
    pre = [f"{name}_pre" if f"{name}_pre" in said.features else name for name in ends]
    pooled = ["pooled"] if "pooled" in said.features else []
    scores, values = (stages(said, f"attention{{}}_{what}") for what in ("scores", "values"))
    names = {
        "stages": ends,
        "pre": pre,
        "second": ends[1:2],
        "last": ends[-1:],
        "last_pre": pre[-1:],
        "pooled": pooled,
        "stages_pooled": ends + pooled if ends and pooled else [],
        "pre_pooled": pre + pooled if ends and pooled else [],
        "from_stem": ["stem", *ends] if "stem" in said.features and ends else [],
        "attention": scores,
        "last_attention": [*scores[-1:], *values[-1:]] if scores and values else [],
    }[kind]
    require(
        bool(names),
        f"{who}-taps: the {who} has no feature that is {KINDS[kind]}; name one of "
        f"{', '.join(said.features) or 'a module by its path'}",
    )
    return names


def _check(said: Outputs, names: Sequence[str], who: str, rank: int | None, axes: str) -> None:
    for name in names:
        require(
            name in said.features,
            f"{who}-taps {name}: the {who} has neither a feature nor a module of this name."
            f"{did_you_mean(name, said.features)}",
        )
        shape = said.features[name].shape
        require(
            rank in (None, len(shape)),
            f"{who}-taps {name}: it is of shape {tuple(shape)}, and this loss needs {axes}",
        )
