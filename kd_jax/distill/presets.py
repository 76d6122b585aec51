"""What methods were published with: their terms, weights, temperatures and warm-ups, by name.

A table of facts: an entry is a setting that somebody has published, and says where it is written
down. Where nothing else is said it is of CIFAR-100. Where a method's numbers were published for
each pair of teacher and student, these are taken for them, and the entry's own for all others.
"""

import dataclasses
from typing import Any

from kd_jax.augment import Augment
from kd_jax.distill import TERMS
from kd_jax.distill.pairs import Preset
from kd_jax.distill.presets_features import FEATURES
from kd_jax.distill.presets_logits import LOGITS
from kd_jax.errors import UsageError, did_you_mean
from kd_jax.models import MODELS
from kd_jax.models.base import ModelConfig

PRESETS: dict[str, Preset] = {**LOGITS, **FEATURES}
STRONG: dict[str, Any] = {"operations": 2, "magnitude": None}  # on top, in a second view


def find(name: str, called: str = "preset") -> Preset:
    """The entry of a name; names joined by + may come in any order.

    Raises:
      UsageError: there is none; `called` is what to call it.
    """
    for known, entry in PRESETS.items():
        if sorted(known.split("+")) == sorted(name.split("+")):
            return entry
    if set(name.split("+")) <= set(TERMS):
        raise UsageError(
            f"{called} {name!r} is none of the published settings: set terms to {name}, and their "
            "weights"
        )
    raise UsageError(f"{called} {name!r} is unknown.{did_you_mean(name, PRESETS)}")


def preset(
    name: str,
    teacher: str | ModelConfig | None = None,
    student: str | ModelConfig | None = None,
    augment: Augment | None = None,
) -> dict[str, Any]:
    """The fields of a stage that a method was published with: `Distill(**preset("dkd"))`.

    Args:
      name: one of PRESETS.
      teacher, student: names of MODELS or their configs.
      augment: the stage's; comes back with mixup where the method needs it, and with random
        operations as `second_view` where it has a second one.

    Raises:
      UsageError: a name that is unknown.
    """
    entry, pair = find(name), (_config(teacher, "teacher"), _config(student, "student"))
    found = [c for names, c in entry.pairs.items() if tuple(MODELS[n] for n in names) == pair]
    changes = found[0] if found else {}
    terms = {n: dataclasses.replace(t, **changes.get(n, {})) for n, t in entry.terms.items()}
    fields: dict[str, Any] = {"hard_weight": entry.hard_weight, "terms": terms}
    if entry.classifier != "own":
        fields["classifier"] = entry.classifier
    if entry.mixup is not None:
        fields["augment"] = dataclasses.replace(augment or Augment(), mixup=entry.mixup)
    if entry.second is not None:
        fields["second_view"] = dataclasses.replace(augment or Augment(), **STRONG)
        fields["second_hard_weight"] = entry.second
    return fields


def _config(model: str | ModelConfig | None, role: str) -> ModelConfig | None:
    if isinstance(model, str) and model not in MODELS:
        raise UsageError(f"{role} {model!r} is no model.{did_you_mean(model, MODELS)}")
    return MODELS[model] if isinstance(model, str) else model
