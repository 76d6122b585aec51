"""Pruning by name: what to remove, when, and what to add to the loss meanwhile.

A new criterion, schedule or penalty is its class and a line in its table.
"""

from kd_jax.prune.amounts import choose
from kd_jax.prune.channels import CHANNEL_CRITERIA, scores
from kd_jax.prune.criteria import (
    SNIP,
    Criterion,
    DataCriterion,
    GraSP,
    Magnitude,
    Random,
    SynFlow,
    Taylor,
)
from kd_jax.prune.curvature import OBD, Fisher
from kd_jax.prune.evidence import Evidence
from kd_jax.prune.groups import Group, Structure, trace
from kd_jax.prune.penalty import PENALTIES, PruningLoss
from kd_jax.prune.schedule import SCHEDULES, Cubic, Iterative, OneShot, Schedule
from kd_jax.prune.shrink import Widths, rebuild, shrink, zeroed

CRITERIA: dict[str, Criterion] = {
    "magnitude": Magnitude(),
    "random": Random(),
    "taylor": Taylor(),
    "snip": SNIP(),
    "grasp": GraSP(),
    "synflow": SynFlow(),
    "obd": OBD(),
    "fisher": Fisher(),
}

__all__ = [
    "CHANNEL_CRITERIA",
    "CRITERIA",
    "OBD",
    "PENALTIES",
    "SCHEDULES",
    "SNIP",
    "Criterion",
    "Cubic",
    "DataCriterion",
    "Evidence",
    "Fisher",
    "GraSP",
    "Group",
    "Iterative",
    "Magnitude",
    "OneShot",
    "PruningLoss",
    "Random",
    "Schedule",
    "Structure",
    "SynFlow",
    "Taylor",
    "Widths",
    "choose",
    "rebuild",
    "scores",
    "shrink",
    "trace",
    "zeroed",
]
