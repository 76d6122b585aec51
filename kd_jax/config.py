"""An experiment as data: models, data, and stages that name what they start from and learn from."""

import dataclasses
from typing import Annotated, Any, Literal

import tyro

from kd_jax.augment import Augment
from kd_jax.datasets import Data
from kd_jax.distill import TERMS, LogitTerm
from kd_jax.errors import UsageError, did_you_mean, require
from kd_jax.models import MODELS
from kd_jax.models.base import ModelConfig
from kd_jax.optim import Optim
from kd_jax.prune import CRITERIA, PENALTIES, SCHEDULES, PruningLoss, Schedule

WHERE = {"where": True}  # a field that says where or how often to write, not what to compute


def _variants(table: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a field whose value a flag picks from a table by plain name."""
    return {"variants": table}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network on labels."""

    model: Literal["teacher", "student"] = "student"
    """Which of the experiment's two models."""
    start: str = ""
    """Stage whose network it goes on from, masks and all; empty: fresh parameters."""
    epochs: int = 30
    """Passes over the training examples."""
    batch: int = 128
    """Examples a step."""
    fraction: float = 1.0
    """Share of the training examples that this stage may see."""
    optim: Optim = dataclasses.field(default_factory=Optim)
    augment: Augment = dataclasses.field(default_factory=Augment)
    label_smoothing: float = 0.0
    """Share of the uniform distribution in the hard targets (Szegedy et al. 2016)."""
    ema: float | None = None
    """Decay of an average of the parameters, evaluated in their place; None: no average."""
    evaluate_every: int = 1
    """Epochs between two readings of the validation accuracy."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "evaluate_every"):
            value = getattr(self, name)
            require(value >= 1, f"{name.replace('_', '-')} {value} must be at least 1")
        require(0 < self.fraction <= 1, f"fraction {self.fraction} must be in (0, 1]")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, f"label-smoothing {smoothing} must be in [0, 1)")
        require(self.ema is None or 0 < self.ema < 1, f"ema {self.ema} must be in (0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(Train):
    """Train a network on labels and on what a teacher says."""

    teacher: str = "train"
    """Stage whose network teaches."""
    hard_weight: float = 0.1
    """Weight of the cross-entropy with the labels."""
    terms: dict[str, LogitTerm] = dataclasses.field(
        default_factory=lambda: {"kd": TERMS["kd"]}, metadata=_variants(TERMS)
    )
    """Distillation terms by name, each with its own weight; as a flag: names joined by +."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.hard_weight >= 0, f"hard-weight {self.hard_weight} must not be negative")
        require(bool(self.teacher) or not self.terms, "terms need a teacher: set teacher to a stage")
        complete = [name for name, term in self.terms.items() if term.complete]
        require(
            not complete or self.hard_weight == 0,
            f"hard-weight {self.hard_weight} with the term {' and '.join(complete)}, which holds the "
            "hard labels itself: set hard-weight to 0",
        )
        weights = [self.hard_weight, *(term.weight for term in self.terms.values())]
        require(any(w > 0 for w in weights), "hard-weight and all weights of the terms are 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(Distill):
    """Remove weights and retrain, on labels alone or with a teacher."""

    teacher: str = ""
    """Stage whose network teaches while retraining; empty: labels alone."""
    hard_weight: float = 1.0
    terms: dict[str, LogitTerm] = dataclasses.field(
        default_factory=dict, metadata=_variants(TERMS)
    )
    sparsity: float = 0.8
    """Fraction of the prunable weights that are zero at the end, exactly."""
    criterion: str = "magnitude"
    """How weights are scored."""
    scope: Literal["layer", "global", "threshold", "std"] = "layer"
    """layer: the same sparsity in each layer; global: over all layers; threshold: |w| < threshold;
    std: |w| < threshold x the layer's standard deviation (Han 2015)."""
    threshold: float = 0.0
    """For the scopes threshold and std, which then decide the sparsity."""
    schedule: Schedule = dataclasses.field(
        default_factory=lambda: SCHEDULES["one_shot"], metadata=_variants(SCHEDULES)
    )
    """When masks change."""
    include: tuple[str, ...] = ("kernel$", "embedding$")
    """Regular expressions of the parameters that may be pruned."""
    exclude: tuple[str, ...] = ()
    """Regular expressions of parameters that are left alone."""
    penalty: PruningLoss | None = dataclasses.field(
        default=None, metadata=_variants({"none": None, **PENALTIES})
    )
    """Regulariser on the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.sparsity < 1, f"sparsity {self.sparsity} must be in [0, 1)")
        if self.criterion not in CRITERIA:
            hint = did_you_mean(self.criterion, CRITERIA)
            raise UsageError(f"criterion {self.criterion!r} is unknown.{hint}")
        by_threshold = self.scope in ("threshold", "std")
        require(
            (self.threshold > 0) == by_threshold,
            f"threshold {self.threshold} with scope {self.scope!r}: the scopes threshold and std "
            "need a threshold above 0, and the others take none",
        )
        require(
            not self.teacher or bool(self.terms),
            f"teacher {self.teacher!r} without terms teaches nothing: set terms, for instance to kd",
        )


Stage = Train  # every stage so far is a training of some kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is run: stages in an order given by what each starts from and learns from."""

    name: tyro.conf.Suppress[str]
    """Names the run's folder."""
    data: Data = dataclasses.field(default_factory=Data)
    teacher: ModelConfig | None = dataclasses.field(default=None, metadata=_variants(MODELS))
    """The large network."""
    student: ModelConfig = dataclasses.field(
        default_factory=lambda: MODELS["lenet_300_100"], metadata=_variants(MODELS)
    )
    """The small network, or the one to be made small."""
    stages: Annotated[dict[str, Stage], tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=dict
    )
    """The stages by name; their flags are --NAME.FIELD."""
    only: tuple[str, ...] = ()
    """Run just these stages and what they need; empty: all."""
    seeds: int = 3
    """How many runs, with seeds seed, seed + 1, ..."""
    seed: int = 0
    """The first seed."""
    together: bool = True
    """Train all seeds in one program (vmap): cheaper for small networks; on a CPU dearer for
    convolutional ones, which are then trained one seed after another."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """What networks compute in; parameters and losses stay float32."""
    devices: int = dataclasses.field(default=0, metadata=WHERE)
    """Devices over which a batch is split; 0: all there are."""
    latency_batch: int = dataclasses.field(default=256, metadata=WHERE)
    """The large batch at which latency is measured, beside 1."""
    checkpoint_seconds: float = dataclasses.field(default=30.0, metadata=WHERE)
    """Seconds between two checkpoints within a stage."""
    out: str = dataclasses.field(default="runs", metadata=WHERE)
    """Folder that holds the runs' folders."""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"seeds {self.seeds} must be at least 1")
        require(0 <= self.seed < 2**31, f"seed {self.seed} must be in [0, 2**31)")
        require(self.devices >= 0, f"devices {self.devices} must not be negative")
        require(self.latency_batch >= 1, f"latency-batch {self.latency_batch} must be at least 1")
        seconds = self.checkpoint_seconds
        require(0 < seconds <= 60, f"checkpoint-seconds {seconds} must be in (0, 60]")
        for name, stage in self.stages.items():
            self._check_stage(name, stage)
        for name in self.only:
            self._check_reference("only", name)
        self.order()

    def _check_stage(self, name: str, stage: Stage) -> None:
        require(
            stage.model == "student" or self.teacher is not None,
            f"{name}.model is 'teacher', but the experiment has no teacher: set teacher",
        )
        if stage.start:
            self._check_reference(f"{name}.start", stage.start)
            require(
                self.stages[stage.start].model == stage.model,
                f"{name}.start {stage.start!r} holds a {self.stages[stage.start].model}, "
                f"but {name}.model is {stage.model!r}",
            )
        if isinstance(stage, Distill):
            needs = not isinstance(stage, Prune)
            require(bool(stage.teacher) or not needs, f"{name} needs a teacher: set {name}.teacher")
            if stage.teacher:
                self._check_reference(f"{name}.teacher", stage.teacher)
        before = self.stages.get(stage.start)
        if isinstance(stage, Prune) and isinstance(before, Prune) and not stage.threshold:
            require(
                before.threshold > 0 or stage.sparsity >= before.sparsity,
                f"{name}.sparsity {stage.sparsity} is below the {before.sparsity} of "
                f"{stage.start!r}, which it starts from: what is pruned stays pruned",
            )

    def _check_reference(self, flag: str, stage: str) -> None:
        if stage not in self.stages:
            hint = did_you_mean(stage, self.stages)
            raise UsageError(f"{flag} {stage!r} is no stage.{hint}")

    def needs(self, name: str) -> tuple[str, ...]:
        """The stages whose networks a stage takes."""
        stage = self.stages[name]
        return tuple(s for s in (stage.start, getattr(stage, "teacher", "")) if s)

    def order(self) -> tuple[str, ...]:
        """The stages to run, each after those it needs."""
        done: list[str] = []

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise UsageError(f"stages in a circle: {' -> '.join((*path, name))}")
            for other in self.needs(name):
                visit(other, (*path, name))
            if name not in done:
                done.append(name)

        for name in self.only or self.stages:
            visit(name, ())
        return tuple(done)


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment in small, to see that it works: the families' smallest members, a few
    hundred examples, two seeds, two epochs a stage."""
    data = dataclasses.replace(
        experiment.data,
        train_limit=min(experiment.data.train_limit or 320, 320),
        test_limit=min(experiment.data.test_limit or 200, 200),
    )
    stages = {
        name: dataclasses.replace(
            stage,
            epochs=2,
            batch=min(stage.batch, 32),
            fraction=1.0,
            evaluate_every=1,
            optim=dataclasses.replace(stage.optim, warmup=min(stage.optim.warmup, 2)),
        )
        for name, stage in experiment.stages.items()
    }
    return dataclasses.replace(
        experiment,
        data=data,
        teacher=experiment.teacher and experiment.teacher.tiny(),
        student=experiment.student.tiny(),
        stages=stages,
        seeds=min(experiment.seeds, 2),
        latency_batch=min(experiment.latency_batch, 16),
    )
