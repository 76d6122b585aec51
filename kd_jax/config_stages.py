"""What a stage of an experiment is, as data: train, distil or prune."""

import dataclasses
import re
from collections import ChainMap
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from kd_jax.augment import Augment
from kd_jax.distill import TERMS, Term
from kd_jax.distill import combinations as teaching
from kd_jax.errors import require, require_finite
from kd_jax.freezing import check_patterns
from kd_jax.optim import Optim
from kd_jax.prune import (
    CRITERIA,
    PENALTIES,
    SCHEDULES,
    STRUCTURES,
    Criterion,
    Granularity,
    Penalty,
    Schedule,
    combinations,
)
from kd_jax.prune.allocate import Allocation, Budget
from kd_jax.prune.cut import Normalise

Role = Literal["teacher", "assistant", "student"]
ROLES: tuple[Role, ...] = get_args(Role)


def variants(table: dict[str, Any], or_none: bool = False) -> dict[str, Any]:
    """Metadata of a field whose value a flag picks from a table by plain name; of the table itself,
    to which entries may be added later."""
    return {"variants": ChainMap(table, {"none": None}) if or_none else table}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network on labels."""

    least_epochs: ClassVar[int] = 1

    model: Role = "student"
    """Which of the experiment's models."""
    start: str = ""
    """Stage whose network it goes on from, masks and all; empty: fresh parameters."""
    weights: str = ""
    """File of pre-trained weights that it begins with, safetensors as torchvision, timm or kd_jax
    name them; a classifier of other classes than the data's is replaced by a fresh one."""
    weights_sha256: str = ""
    """The file's SHA-256: filled in when the run begins; one that is given is checked."""
    freeze: tuple[str, ...] = ()
    """Regular expressions of parameters that are not trained, such as ^(?!classifier) for all but
    the classifier; masks of the stage's own may still make them zero."""
    freeze_statistics: bool = False
    """Batch norms that are frozen use and keep their running statistics; otherwise these go on
    being estimated."""
    epochs: int = 30
    """Passes over the training examples."""
    batch: int = 128
    """Examples a step."""
    fraction: float = 1.0
    """Share of the training examples that this stage may see."""
    labels: tuple[int, ...] = ()
    """Labels whose examples the stage sees; empty: all. The fraction is then one of these."""
    optim: Optim = dataclasses.field(default_factory=Optim)
    augment: Augment = dataclasses.field(default_factory=Augment)
    label_smoothing: float = 0.0
    """Share of the uniform distribution in the hard targets (Szegedy et al. 2016)."""
    ema: float | None = None
    """Decay of an average of the parameters, evaluated in their place; None: no average."""
    swa: float | None = None
    """Share of the epochs after which the parameters at each epoch's end are averaged, equally, and
    the learning rate stays as it is by then; the average is evaluated in their place (stochastic
    weight averaging, Izmailov et al. 2018). Often 0.75; None: no average."""
    recalibrate: int = 20
    """Batches by which batch statistics, if there are any, are estimated anew: at the end with swa;
    before retraining begins after a cut at once, by schedule one_shot or of channels."""
    evaluate_every: int = 1
    """Epochs between two readings of the validation accuracy."""

    least_epochs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_finite(self)
        least = {"epochs": self.least_epochs, "batch": 1, "evaluate_every": 1}
        for name, low in least.items():
            value = getattr(self, name)
            require(value >= low, f"{name.replace('_', '-')} {value} must be at least {low}")
        require(0 < self.fraction <= 1, f"fraction {self.fraction} must be in (0, 1]")
        listed = " ".join(map(str, self.labels))
        require(min(self.labels, default=0) >= 0, f"labels {listed}: none is below 0")
        require(len(set(self.labels)) == len(self.labels), f"labels {listed}: one is named twice")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, f"label-smoothing {smoothing} must be in [0, 1)")
        require(
            self.optim.name != "dot" or bool(getattr(self, "taught", ())),
            "optim.name dot is for what a teacher says, and nothing is: set terms, or take sgd",
        )
        require(self.ema is None or 0 < self.ema < 1, f"ema {self.ema} must be in (0, 1)")
        require(self.recalibrate >= 0, f"recalibrate {self.recalibrate} must not be negative")
        self._check_swa()
        self._check_weights()
        check_patterns(self.freeze)
        require(
            bool(self.freeze) or not self.freeze_statistics,
            "freeze-statistics True, but nothing is frozen: set freeze, or leave it out",
        )

    def _check_swa(self) -> None:
        if self.swa is None:
            return
        require(0 < self.swa < 1, f"swa {self.swa} must be in (0, 1)")
        require(self.ema is None, f"swa {self.swa} and ema {self.ema}: set one of them alone")
        require(
            self.epochs > 1,
            f"swa {self.swa} averages the ends of epochs, and there is one: raise epochs",
        )

    def _check_weights(self) -> None:
        file, digest = self.weights, self.weights_sha256
        require(
            not (file and self.start),
            f"weights {file} with start {self.start!r}: a stage begins with one network: leave one "
            "of them out",
        )
        parted = getattr(self, "peer_models", ()) or getattr(self, "classifier", "own") != "own"
        require(
            not (file and parted),
            f"weights {file}: no file is of a network with peer-models, or with its teacher's "
            "classifier: load it in a stage before, or leave it out",
        )
        require(
            not digest or (bool(file) and bool(re.fullmatch("[0-9a-f]{64}", digest))),
            f"weights-sha256 {digest!r}: give the 64 hexadecimal digits of the file of weights",
        )


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
        teaching.check(self)

    @property
    def looking_twice(self) -> tuple[str, ...]:
        """The terms that read a second view of the examples."""
        return tuple(name for name, term in self.terms.items() if term.views > 1)

    @property
    def teachers(self) -> tuple[str, ...]:
        """The stages whose networks teach."""
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
            f"teacher {self.teacher!r} without terms teaches nothing: set terms, such as kd",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(Retrain):
    """Remove weights and retrain, on labels alone or with a teacher."""

    sparsity: float = 0.8
    """Fraction of the prunable weights that are zero at the end, exactly."""
    criterion: Criterion = dataclasses.field(
        default_factory=lambda: CRITERIA["magnitude"], metadata=variants(CRITERIA)
    )
    """How weights are scored."""
    allocation: Allocation = "layer"
    """layer: the same sparsity in each layer; global: over all layers; erk: by Erdos-Renyi-Kernel
    (RigL), small layers less; sensitivity: found by a scan, each layer pruned alone by more and
    more, whenever masks change; threshold: |w| < threshold; std: |w| < threshold x the layer's
    standard deviation (Han 2015)."""
    budget: Budget = "units"
    """sensitivity: what the sparsity is a fraction of; units (weights, filters, ...), the
    multiply-accumulates of the layers, or their bytes, as bitmasks and values."""
    scan_batches: int = 2
    """sensitivity: batches of the stage's own data by which the scan reads the loss."""
    threshold: float = 0.0
    """For the allocations threshold and std, which then decide the sparsity."""
    thresholds: tuple[str, ...] = ()
    """Thresholds of single layers, PATTERN=THRESHOLD, PATTERN a regular expression of their names;
    the others have `threshold`."""
    normalise: Normalise = "none"
    """global: what a layer's scores are divided by before layers are compared; their length (l2) or
    mean."""
    amounts: tuple[str, ...] = ()
    """Sparsities of single layers, PATTERN=SPARSITY, PATTERN a regular expression of their names;
    by allocation global the others then make the total exact."""
    structure: Granularity = dataclasses.field(
        default_factory=lambda: STRUCTURES["weights"], metadata=variants(STRUCTURES)
    )
    """What one decision removes; the sparsity is then a fraction of such units."""
    schedule: Schedule = dataclasses.field(
        default_factory=lambda: SCHEDULES["one_shot"], metadata=variants(SCHEDULES)
    )
    """When masks change."""
    include: tuple[str, ...] = ("kernel$", "embedding$")
    """Regular expressions of the parameters that may be pruned."""
    exclude: tuple[str, ...] = ()
    """Regular expressions of parameters that are left alone."""
    penalty: Penalty | None = dataclasses.field(
        default=None, metadata=variants(PENALTIES, or_none=True)
    )
    """Regulariser on the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.sparsity < 1, f"sparsity {self.sparsity} must be in [0, 1)")
        require(self.threshold >= 0, f"threshold {self.threshold} must not be below 0")
        combinations.check(self)


Stage = Train  # every stage is a training of some kind, be it one of no epochs
