"""The stage that removes weights, as data."""

import dataclasses
from typing import Any, ClassVar

from kd_jax.config_distill import Retrain
from kd_jax.config_stages import variants
from kd_jax.errors import require, require_patterns
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(Retrain):
    """Remove weights and retrain, on labels alone or with a teacher."""

    done: ClassVar[str] = "pruned"

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
        for field in ("include", "exclude"):
            require_patterns(f"{field} pattern", getattr(self, field))
        combinations.check(self)

    @property
    def at_once(self) -> bool:
        return self.schedule.at_once

    @property
    def told(self) -> str:
        return f"pruned to sparsity {self.sparsity:g}"

    def small(self) -> dict[str, Any]:
        """With two rounds at most: for more there are too few steps."""
        if getattr(self.schedule, "rounds", 0) <= 2:
            return super().small()
        schedule: Any = self.schedule
        return super().small() | {"schedule": dataclasses.replace(schedule, rounds=2)}
