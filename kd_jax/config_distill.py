"""The stages that learn from a teacher, as data: a network trained by it, or made smaller and
retrained."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from kd_jax.augment import Augment
from kd_jax.config_stages import Role, Train, variants
from kd_jax.distill import TERMS, Term
from kd_jax.distill import combinations as teaching
from kd_jax.distill.taps import FeatureTerm
from kd_jax.errors import require, shortened


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(Train):
    """Train a network on labels and on what a teacher says."""

    teacher: str = "train"
    """Stage whose network teaches; of several the names joined by +."""
    taught_by: Literal["teacher", "average", "peers"] = "teacher"
    """teacher: that stage; average: the student's own average (see ema); peers: `peers` students of
    different initial values learn together, each from the others (Zhang et al. 2018)."""
    peers: int = 2
    """Students that learn from one another, where these are who teaches."""
    peer_models: tuple[Role, ...] = ()
    """Peers of other architectures, each one of the experiment's models; then `peers` does not
    count, and the stage hands on its own model alone."""
    combine: Literal["logits", "probabilities", "losses", "adaptive"] = "logits"
    """Several teachers: the mean of their logits or probabilities; of the losses with each; or of
    these with weights found in each step, the common descent direction (AE-KD, Du et al. 2020)."""
    teacher_weights: tuple[float, ...] = ()
    """Shares of several teachers; none: equal ones."""
    classifier: Literal["own", "teacher"] = "own"
    """teacher: the student's last map, projected, is read by the teacher's classifier, now and for
    good (SimKD, Chen et al. 2022)."""
    gradient_norms: bool = True
    """Log the norm of the gradient of each part of the loss, by one batch at each epoch's end."""
    hard_weight: float = 0.1
    """Weight of the cross-entropy with the labels."""
    terms: Mapping[str, Term] = dataclasses.field(
        default_factory=lambda: {"kd": TERMS["kd"]}, metadata=variants(TERMS)
    )
    """Distillation terms by name, each with its own weight; as a flag: names joined by +."""
    second_view: Augment = dataclasses.field(default_factory=lambda: Augment(operations=2))
    """How examples are varied for terms that read a second view of them, such as mlkd with strong;
    there is none for others."""
    second_hard_weight: float = 0.0
    """Weight of the cross-entropy with the labels on the second view."""
    replay: Literal["off", "float16", "float32"] = "off"
    """Keep what the teacher says of each augmented view, in this precision, and replay it to every
    student that is shown the same views; off: ask the teacher at each step."""
    replay_top: int = 0
    """Keep only so many of the largest logits of a view; 0: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.teacher or all(self.teacher.split("+")),
            f"teacher {shortened(repr(self.teacher))} has no name beside a +: put one there, or "
            "drop the +",
        )
        teaching.check(self)

    def small(self) -> dict[str, Any]:
        """With clipped gradients where features are learned without labels: those of a teacher that
        has hardly begun to learn are of any size."""
        fields = super().small()
        optim = fields["optim"]
        features = any(isinstance(term, FeatureTerm) for term in self.terms.values())
        if features and not self.hard_weight and optim.name != "dot" and optim.clip_norm is None:
            fields["optim"] = dataclasses.replace(optim, clip_norm=1.0)
        return fields

    @property
    def looking_twice(self) -> tuple[str, ...]:
        """The terms that read a second view of the examples."""
        return tuple(name for name, term in self.terms.items() if term.views > 1)

    @property
    def teachers(self) -> tuple[str, ...]:
        if self.taught_by != "teacher":
            return ()
        return tuple(name for name in self.teacher.split("+") if name)

    @property
    def alike(self) -> int:
        """How many students of its own model learn from one another; 0: none do."""
        return self.peers if self.taught_by == "peers" and not self.peer_models else 0

    @property
    def by_member(self) -> bool:
        """Whether terms are taken with each of several teachers."""
        return len(self.teachers) > 1 and self.combine in ("losses", "adaptive")

    @property
    def taught(self) -> tuple[str, ...]:
        """The terms that need a teacher."""
        return tuple(name for name, term in self.terms.items() if term.taught)

    def flag_of(self, name: str) -> str:
        return "start" if name == self.start else "teacher"

    def renaming(self, named: Callable[[str], str]) -> dict[str, Any]:
        others = "+".join(map(named, self.teachers))
        return super().renaming(named) | ({"teacher": others} if others else {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrain(Distill):
    """Make a network smaller, and retrain it on labels alone or with a teacher."""

    teacher: str = ""
    """Stage whose network teaches while retraining, such as the one that it starts from; empty:
    labels alone."""
    hard_weight: float = 1.0
    terms: Mapping[str, Term] = dataclasses.field(default_factory=dict, metadata=variants(TERMS))

    def __post_init__(self) -> None:
        require(
            not self.peer_models,
            f"peer-models {' '.join(self.peer_models)}: peers of other architectures learn in a "
            "stage that distils, not in one that makes a network smaller: leave them out",
        )
        super().__post_init__()
        require(
            not self.teachers or bool(self.taught),
            f"teacher {shortened(repr(self.teacher))} without terms teaches nothing: set terms, "
            "such as kd",
        )

    @property
    def at_once(self) -> bool:
        return True
