"""Pruning by name: what to remove, when, and what to add to the loss meanwhile.

A new criterion, structure, schedule or penalty is its class and a line in its table.
"""

from kd_jax.prune.activations import Wanda
from kd_jax.prune.amounts import choose
from kd_jax.prune.channel_scores import scores
from kd_jax.prune.channels import CHANNEL_CRITERIA, ChannelCriterion
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
from kd_jax.prune.cycles import Cyclic, Lottery
from kd_jax.prune.evidence import Evidence
from kd_jax.prune.granularity import (
    NM,
    STRUCTURES,
    Block,
    Filter,
    Granularity,
    Layer,
    Row,
    Weights,
)
from kd_jax.prune.groups import Group, Structure, trace
from kd_jax.prune.growing import ADMM, DNS, SET, SRSTE, STE, RigL, Static
from kd_jax.prune.learned import Learned, Movement, SoftMovement
from kd_jax.prune.penalty import PENALTIES, Penalty, PruningLoss, Slimming
from kd_jax.prune.reconstruction import SparseGPT
from kd_jax.prune.relaxations import L0, STR
from kd_jax.prune.schedule import Cubic, Event, Exponential, Iterative, OneShot, Schedule
from kd_jax.prune.shrink import Widths, rebuild, shrink, zeroed
from kd_jax.prune.unit_evidence import UnitEvidence
from kd_jax.prune.unit_scan import UnitScan, scan_units

CRITERIA: dict[str, Criterion] = {
    "magnitude": Magnitude(),
    "random": Random(),
    "taylor": Taylor(),
    "snip": SNIP(),
    "grasp": GraSP(),
    "synflow": SynFlow(),
    "obd": OBD(),
    "fisher": Fisher(),
    "wanda": Wanda(),
    "sparsegpt": SparseGPT(),
    "movement": Movement(),
    "soft_movement": SoftMovement(),
    "str": STR(),
    "l0": L0(),
}

SCHEDULES: dict[str, Schedule] = {
    "one_shot": OneShot(),
    "iterative": Iterative(),
    "cubic": Cubic(),
    "exponential": Exponential(),
    "lottery": Lottery(),
    "cyclic": Cyclic(),
    "static": Static(),
    "set": SET(),
    "rigl": RigL(),
    "ste": STE(),
    "sr_ste": SRSTE(),
    "dns": DNS(),
    "admm": ADMM(),
}

__all__ = [
    "ADMM",
    "CHANNEL_CRITERIA",
    "CRITERIA",
    "DNS",
    "L0",
    "NM",
    "OBD",
    "PENALTIES",
    "SCHEDULES",
    "SET",
    "SNIP",
    "SRSTE",
    "STE",
    "STR",
    "STRUCTURES",
    "Block",
    "ChannelCriterion",
    "Criterion",
    "Cubic",
    "Cyclic",
    "DataCriterion",
    "Event",
    "Evidence",
    "Exponential",
    "Filter",
    "Fisher",
    "GraSP",
    "Granularity",
    "Group",
    "Iterative",
    "Layer",
    "Learned",
    "Lottery",
    "Magnitude",
    "Movement",
    "OneShot",
    "Penalty",
    "PruningLoss",
    "Random",
    "RigL",
    "Row",
    "Schedule",
    "Slimming",
    "SoftMovement",
    "SparseGPT",
    "Static",
    "Structure",
    "SynFlow",
    "Taylor",
    "UnitEvidence",
    "UnitScan",
    "Wanda",
    "Weights",
    "Widths",
    "choose",
    "rebuild",
    "scan_units",
    "scores",
    "shrink",
    "trace",
    "zeroed",
]
