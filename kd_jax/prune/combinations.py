"""Which criterion, allocation, structure and schedule go together; most do."""

from typing import Any

from kd_jax.errors import require
from kd_jax.prune.allocate import read_word
from kd_jax.prune.criteria import Magnitude, Random
from kd_jax.prune.granularity import NM, Layer, Weights
from kd_jax.prune.growing import ADMM, DNS, SET, SRSTE, Static
from kd_jax.prune.learned import Learned
from kd_jax.prune.schedule import Gradual, Iterative, OneShot


def check(stage: Any) -> None:
    """Raises UsageError, which begins with a field's name, for choices of a pruning stage that
    don't go together."""
    for word in stage.amounts:
        read_word("amounts", word)
    for word in stage.thresholds:
        read_word("thresholds", word)
    require(
        stage.normalise == "none" or stage.allocation == "global",
        f"normalise {stage.normalise} with allocation {stage.allocation}: only where layers are "
        "compared, by allocation global, does it matter: set it to none",
    )
    _check_thresholds(stage)
    _check_budget(stage)
    _check_groups(stage)
    _check_layers(stage)
    _check_draws(stage)
    _check_learned(stage)
    _check_rewrites(stage)
    require(
        not isinstance(stage.schedule, SRSTE) or stage.optim.name != "dot",
        "optim.name dot with schedule sr_ste, whose decay is neither's gradient: take sgd",
    )
    require(
        not isinstance(stage.schedule, ADMM) or stage.optim.name != "dot",
        "optim.name dot with schedule admm, whose pull is neither's gradient: take sgd",
    )


def _check_thresholds(stage: Any) -> None:
    allocation, by_threshold = stage.allocation, stage.allocation in ("threshold", "std")
    require(
        (stage.threshold > 0) == by_threshold,
        f"threshold {stage.threshold} with allocation {allocation!r}: the allocations threshold "
        "and std need a threshold above 0, and the others take none",
    )
    require(
        by_threshold or not stage.thresholds,
        f"thresholds {' '.join(stage.thresholds)} with allocation {allocation}, which goes by "
        "numbers of weights: leave them out, or set allocation to threshold or std",
    )
    require(
        by_threshold or not isinstance(stage.schedule, DNS),
        f"allocation {allocation} with schedule dns, which goes by thresholds: set allocation to "
        "std, and threshold to the factor of the standard deviation",
    )
    if not by_threshold:
        return
    plain = type(stage.criterion) is Magnitude
    name = type(stage.criterion).__name__
    require(plain, f"criterion {name} with allocation {allocation}, which cuts |w|: take magnitude")
    require(
        isinstance(stage.structure, Weights),
        f"structure {type(stage.structure).__name__} with allocation {allocation}, which cuts "
        "single weights: set structure to weights, or allocation to layer",
    )
    require(
        not stage.amounts,
        f"amounts {' '.join(stage.amounts)} with allocation {allocation}, which is told no amount: "
        "leave them out",
    )
    require(
        not isinstance(stage.schedule, (Static, SET, ADMM)),
        f"allocation {allocation} with schedule {type(stage.schedule).__name__}, which keeps a "
        "number of weights: set allocation to layer, erk or global",
    )


def _check_budget(stage: Any) -> None:
    require(stage.scan_batches >= 1, f"scan-batches {stage.scan_batches} must be at least 1")
    if stage.budget == "units":
        return
    require(
        stage.allocation == "sensitivity",
        f"budget {stage.budget} with allocation {stage.allocation}, which counts units: set it to "
        "units, or allocation to sensitivity",
    )
    require(
        not stage.amounts,
        f"amounts {' '.join(stage.amounts)} with budget {stage.budget}: leave them out, or set "
        "budget to units",
    )
    require(
        stage.budget != "bytes" or isinstance(stage.structure, Weights),
        f"budget bytes with structure {type(stage.structure).__name__}: a bitmask is of single "
        "weights: set structure to weights, or budget to units",
    )


def _check_groups(stage: Any) -> None:
    if not isinstance(stage.structure, NM):
        return
    n, m = stage.structure.n, stage.structure.m
    require(
        stage.allocation == "layer",
        f"allocation {stage.allocation} with structure n_m, of which each group keeps as many: set "
        "it to layer",
    )
    require(
        not stage.amounts,
        f"amounts {' '.join(stage.amounts)} with structure n_m, which is {n} of {m} everywhere: "
        "leave them out",
    )
    require(
        abs(stage.sparsity - (1 - n / m)) < 1e-6,
        f"sparsity {stage.sparsity:g} with structure n_m, {n} of {m}: set it to {1 - n / m:g}, or "
        "structure.n and structure.m",
    )
    require(
        not isinstance(stage.schedule, SET),
        f"structure n_m with schedule {type(stage.schedule).__name__}, which moves weights from "
        "group to group: take schedule sr_ste or ste",
    )


def _check_layers(stage: Any) -> None:
    if not isinstance(stage.structure, Layer):
        return
    require(
        stage.allocation == "global",
        f"allocation {stage.allocation} with structure layer, of which each would keep its only "
        "unit: set it to global",
    )
    require(
        not stage.amounts,
        f"amounts {' '.join(stage.amounts)} with structure layer: name what may go by include",
    )
    require(
        not isinstance(stage.schedule, SET),
        f"structure layer with schedule {type(stage.schedule).__name__}, which moves units within "
        "a layer: take schedule one_shot, iterative or cubic",
    )


def _check_learned(stage: Any) -> None:
    """What is learned takes some steps, and stands for the masks that other schedules move."""
    if not isinstance(stage.criterion, Learned):
        return
    name, schedule = type(stage.criterion).__name__, stage.schedule
    require(
        stage.optim.name != "dot",
        f"optim.name dot with criterion {name}, whose gradient is neither's: take sgd",
    )
    require(
        isinstance(schedule, OneShot | Gradual),
        f"criterion {name} with schedule {type(schedule).__name__}: while it learns masks are "
        "chosen by one_shot, cubic or exponential: take one of these",
    )
    require(
        stage.allocation != "sensitivity",
        f"allocation sensitivity with criterion {name}: a scan knows nothing of what is learned: "
        "take allocation layer, erk or global",
    )
    late, field = (schedule.at, "at") if isinstance(schedule, OneShot) else (schedule.end, "end")
    require(
        late > 0,
        f"schedule.{field} 0 with criterion {name}, which has learned nothing by then: set it to "
        "a fraction of training, such as 0.8",
    )


def _check_rewrites(stage: Any) -> None:
    """What is left of a layer makes up for what goes, layer by layer, once and for all."""
    if not stage.criterion.rewrites:
        return
    name, schedule = type(stage.criterion).__name__, stage.schedule
    require(
        stage.allocation in ("layer", "erk"),
        f"allocation {stage.allocation} with criterion {name}, which is told how much each layer "
        "keeps: take layer or erk, and amounts for single layers",
    )
    require(
        isinstance(stage.structure, Weights | NM),
        f"structure {type(stage.structure).__name__} with criterion {name}, which weighs single "
        "weights: take weights or n_m",
    )
    require(
        isinstance(schedule, OneShot | Iterative | Gradual),
        f"criterion {name} with schedule {type(schedule).__name__}: weights that come back would "
        "not be what was made up for: take one_shot, iterative, cubic or exponential",
    )


def _check_draws(stage: Any) -> None:
    """A criterion that would never be asked is a mistake."""
    plain = isinstance(stage.criterion, (Magnitude, Random))
    require(
        plain or not isinstance(stage.schedule, Static),
        f"criterion {type(stage.criterion).__name__} with schedule static, whose mask is random: "
        "take schedule one_shot",
    )
