"""What of a stage its programs are given, rather than built for."""

import dataclasses

import jax.numpy as jnp

from kd_jax import many
from kd_jax.config import Distill, Prune, Stage
from kd_jax.objective import Settings
from kd_jax.prune import Learned, Magnitude


def settings_of(*variants: Stage) -> Settings:
    """What the programs of a stage, or of several that differ in numbers alone, are given; the seed
    is filled in by them."""
    settings = many.joined([one_of(stage) for stage in variants])
    if getattr(variants[0], "alike", 0):
        settings = dataclasses.replace(settings, peer=jnp.arange(len(variants)))
    return dataclasses.replace(settings, variants=len(variants))


def one_of(stage: Stage) -> Settings:
    """Of one stage."""
    distills = isinstance(stage, Distill)
    criterion = stage.criterion if isinstance(stage, Prune) else Magnitude()
    return Settings(
        seed=0,
        optim=stage.optim,
        label_smoothing=stage.label_smoothing,
        hard_weight=stage.hard_weight if distills else 1.0,
        second_hard_weight=stage.second_hard_weight if distills else 0.0,
        terms=stage.terms if distills else {},
        penalty=stage.penalty if isinstance(stage, Prune) else None,
        criterion=criterion,
        learned=criterion.optim(stage.optim) if isinstance(criterion, Learned) else None,
        decay=getattr(stage.schedule, "decay", None) if isinstance(stage, Prune) else None,
        rho=getattr(stage.schedule, "rho", None) if isinstance(stage, Prune) else None,
        ema=stage.ema,
        teacher_weights=_shares(stage) if distills else (),
        combine=stage.combine if distills else "logits",
    )


def _shares(stage: Distill) -> tuple[float, ...]:
    """Of several teachers with each of which terms are taken."""
    if not stage.by_member:
        return ()
    weights = stage.teacher_weights or (1.0,) * len(stage.teachers)
    return tuple(weight / sum(weights) for weight in weights)
