"""Pruning by name: what to remove, when, and what to add to the loss meanwhile.

A new criterion, schedule or penalty is its function or class and a line in the table beside it.
"""

from kd_jax.prune.amounts import choose
from kd_jax.prune.channels import CHANNEL_CRITERIA, scores
from kd_jax.prune.criteria import CRITERIA, Criterion
from kd_jax.prune.groups import Group, Structure, trace
from kd_jax.prune.penalty import PENALTIES, PruningLoss
from kd_jax.prune.schedule import SCHEDULES, Cubic, Iterative, OneShot, Schedule
from kd_jax.prune.shrink import Widths, rebuild, shrink, zeroed

__all__ = [
    "CHANNEL_CRITERIA",
    "CRITERIA",
    "PENALTIES",
    "SCHEDULES",
    "Criterion",
    "Cubic",
    "Group",
    "Iterative",
    "OneShot",
    "PruningLoss",
    "Schedule",
    "Structure",
    "Widths",
    "choose",
    "rebuild",
    "scores",
    "shrink",
    "trace",
    "zeroed",
]
