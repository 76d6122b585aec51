"""An experiment as data: models, data, and stages that name what they start from and learn from."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Annotated, Literal

import tyro

from kd_jax import config_order
from kd_jax.config_distill import Distill, Retrain
from kd_jax.config_fuse import Fuse
from kd_jax.config_gate import Gate
from kd_jax.config_prune import Prune
from kd_jax.config_quantize import Quantize
from kd_jax.config_shift import Shift
from kd_jax.config_shrink import Shrink
from kd_jax.config_stages import ROLES, Stage, Train, variants
from kd_jax.datasets import Data
from kd_jax.errors import require, require_finite, require_path, shortened
from kd_jax.models import MODELS
from kd_jax.models.base import ModelConfig

__all__ = [
    "ROLES",
    "STAGES",
    "Distill",
    "Experiment",
    "Fuse",
    "Gate",
    "Prune",
    "Quantize",
    "Retrain",
    "Shift",
    "Shrink",
    "Stage",
    "Train",
    "smoke",
]

# The kinds of stages that there are. Another one is a class in a file of its own, which answers
# anew what config_stages.Train is asked, where it differs; and its entry here. One that makes more
# of the network it starts from than training does has an entry in kinds.KINDS, too.
STAGES: tuple[type[Stage], ...] = (Train, Distill, Prune, Shrink, Gate, Quantize, Shift, Fuse)

# A stage's name; and after a stroke, of a variant of it, in which values it differs.
STAGE = re.compile(r"[^\W\d]\w*(/[\w.]+=[\w.=,+-]*)?")
WHERE = {"where": True}  # a field that says where, when or how to run, not what to compute


@dataclasses.dataclass(frozen=True, kw_only=True)
class Debug:
    """What helps to find out what went wrong. It changes no result."""

    nans: bool = False
    """Where a number is not finite any more, which ends a run with the step, the part of the loss
    and the parameter, make that step once more, operation by operation, and name the first one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is run: stages in an order given by what each starts from and learns from."""

    name: tyro.conf.Suppress[str]
    """Names the run's folder."""
    data: Data = dataclasses.field(default_factory=Data)
    teacher: ModelConfig | None = dataclasses.field(
        default=None, metadata=variants(MODELS, or_none=True)
    )
    """The large network."""
    assistant: ModelConfig | None = dataclasses.field(
        default=None, metadata=variants(MODELS, or_none=True)
    )
    """One of a size between: it learns from the teacher, and the student from it (Mirzadeh et al.
    2020)."""
    student: ModelConfig = dataclasses.field(
        default_factory=lambda: MODELS["lenet_300_100"], metadata=variants(MODELS)
    )
    """The small network, or the one to be made small."""
    stages: Annotated[dict[str, Stage], tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=dict
    )
    """The stages by name; their flags are --NAME.FIELD."""
    only: tuple[str, ...] = dataclasses.field(default=(), metadata=WHERE)
    """Run just these stages and what they need; empty: all."""
    sweep: tuple[str, ...] = ()
    """Settings to compare, STAGE.FIELD=VALUE,VALUE,...: numbers (temperatures, rates, weights,
    sparsities) train in one program, as seeds do; of several, all combinations."""
    take_from: str = dataclasses.field(default="", metadata=WHERE)
    """Folder of an earlier run: its finished stages of which nothing differs here are copied, and
    not trained again; empty: none."""
    compare: tuple[str, ...] = dataclasses.field(default=(), metadata=WHERE)
    """Stages with which the networks of all later ones are compared; empty: each with the first of
    its architecture."""
    deliver: str = dataclasses.field(default="", metadata=WHERE)
    """Stage whose network, of the first seed, is written as one file in the end (as by run.py
    encode), and evaluated by a process that has nothing else; empty: none."""
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
    model_axis: int = dataclasses.field(default=1, metadata=WHERE)
    """Devices that share one copy of the parameters, where they don't fit into one: kernels, masks
    and moments are split over it; the batch is then split over devices / model-axis."""
    latency_batch: int = dataclasses.field(default=256, metadata=WHERE)
    """The large batch at which latency is measured, beside 1."""
    checkpoint_seconds: float = dataclasses.field(default=30.0, metadata=WHERE)
    """Seconds between two checkpoints within a stage."""
    debug: Debug = dataclasses.field(default_factory=Debug, metadata=WHERE)
    """What helps to find out what went wrong."""
    out: str = dataclasses.field(default="runs", metadata=WHERE)
    """Folder that holds the runs' folders."""

    def __post_init__(self) -> None:
        require_finite(self)
        require(1 <= self.seeds <= 10_000, f"seeds {self.seeds} must be in [1, 10000]")
        require(0 <= self.seed < 2**31, f"seed {self.seed} must be in [0, 2**31)")
        require(self.devices >= 0, f"devices {self.devices} must not be negative")
        axis = self.model_axis
        require(axis >= 1, f"model-axis {axis} must be at least 1")
        require(
            self.devices % axis == 0,
            f"model-axis {axis} does not divide the {self.devices} devices: use a divisor, or 1",
        )
        # An upper bound because its images are made after training, when it is too late to fail.
        batch = self.latency_batch
        require(1 <= batch <= 2**16, f"latency-batch {batch} must be in [1, 65536]")
        seconds = self.checkpoint_seconds
        require(0 < seconds <= 60, f"checkpoint-seconds {seconds} must be in (0, 60]")
        require(bool(self.out), "out is empty: name a folder, for instance runs")
        require_path("out", self.out)
        require_path("take-from", self.take_from)
        roles = [role for role in ROLES if getattr(self, role) is not None]
        for name in self.stages:
            self._check_name(name)
            config_order.check_taken(self.stages, name, roles, self.seeds)
        if self.deliver:
            config_order.check_reference(self.stages, "deliver", self.deliver)
        for field in ("only", "compare"):
            for name in getattr(self, field):
                config_order.check_reference(self.stages, field, name)
        config_order.check_order(self.stages)

    @property
    def layout(self) -> tuple[int, int]:
        """How many devices, and over how many of them the parameters are split."""
        return self.devices, self.model_axis

    def _check_name(self, name: str) -> None:
        taken = {field.name for field in dataclasses.fields(self)}
        require(
            bool(STAGE.fullmatch(name)) and name not in taken,
            f"stages {shortened(repr(name))}: a stage is named by letters, digits and _ (it is a "
            f"flag and a folder), and not {', '.join(sorted(taken))}",
        )

    def needs(self, name: str) -> tuple[str, ...]:
        """The stages whose networks a stage takes."""
        return config_order.needs(self.stages[name])

    def lineage(self, name: str) -> Iterator[str]:
        """A stage, and those that its network is a changed form of, the last one first."""
        return config_order.lineage(self.stages, name)

    def order(self) -> tuple[str, ...]:
        """The stages to run, each after those it needs."""
        return config_order.ordered(self.stages, self.only or self.stages)


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment in small, to see that it works: the families' smallest members, a
    hundred examples or so, two seeds, two epochs a stage."""
    data = dataclasses.replace(
        experiment.data,
        train_limit=min(experiment.data.train_limit or 128, 128),
        test_limit=min(experiment.data.test_limit or 100, 100),
    )
    stages = {
        name: dataclasses.replace(stage, **stage.small())
        for name, stage in experiment.stages.items()
    }
    return dataclasses.replace(
        experiment,
        data=data,
        teacher=experiment.teacher and experiment.teacher.tiny(),
        assistant=experiment.assistant and experiment.assistant.tiny(),
        student=experiment.student.tiny(),
        stages=stages,
        seeds=min(experiment.seeds, 2),
        latency_batch=min(experiment.latency_batch, 16),
    )
