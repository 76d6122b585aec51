"""What a published setting is, and the pairs of teacher and student that several are of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kd_jax.distill.term import Term

Pair = tuple[str, str]  # teacher and student, by their names in MODELS
Changes = Mapping[str, Mapping[str, Any]]  # {term: {field: value}}


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a stage learns from, as a method was published.

    Attributes:
      hard_weight: of the cross-entropy with the labels.
      terms: by name.
      source: where it is written down.
      pairs: fields of the terms that were published for a pair.
      mixup: α of the stage's mixup, where the method needs it.
      classifier: whose the student ends in, its own or the teacher's.
      second: weight of the cross-entropy on a second view, which is the stage's own and two random
        operations on top (FixMatch's RandAugment); None where the method has one view.
    """

    hard_weight: float
    terms: Mapping[str, Term]
    source: str
    pairs: Mapping[Pair, Changes] = dataclasses.field(default_factory=dict)
    mixup: float | None = None
    classifier: str = "own"
    second: float | None = None


def each(path: str, values: Mapping[Any, tuple[Pair, ...]]) -> dict[Pair, Changes]:
    """For one field, TERM.FIELD: the pairs for which each value was published."""
    term, _, field = path.partition(".")
    return {pair: {term: {field: value}} for value, pairs in values.items() for pair in pairs}


def several(paths: tuple[str, ...], values: Mapping[Pair, tuple[Any, ...]]) -> dict[Pair, Changes]:
    """For each pair the values of several fields, TERM.FIELD."""
    changes: dict[Pair, dict[str, dict[str, Any]]] = {pair: {} for pair in values}
    for pair, of_pair in values.items():
        for path, value in zip(paths, of_pair, strict=True):
            term, _, field = path.partition(".")
            changes[pair].setdefault(term, {})[field] = value
    return {**changes}


GITHUB = "https://github.com/"
REPDISTILLER = f"{GITHUB}HobbitLong/RepDistiller, scripts/run_cifar_distill.sh"
CLS_KD = f"{GITHUB}yzd-v/cls_KD, configs/distillers/cifar100 (ResNet-34 to -18)"

R56_R20 = ("resnet56", "resnet20")
R110_R32 = ("resnet110", "resnet32")
R32X4_R8X4 = ("resnet32x4", "resnet8x4")
R32X4_SV1 = ("resnet32x4", "shufflenet_v1")
R32X4_SV2 = ("resnet32x4", "shufflenet_v2")
R32X4_W16_2 = ("resnet32x4", "wrn_16_2")
R32X4_W40_2 = ("resnet32x4", "wrn_40_2")
W40_2_W16_2 = ("wrn_40_2", "wrn_16_2")
W40_2_W40_1 = ("wrn_40_2", "wrn_40_1")
W40_2_MV2 = ("wrn_40_2", "mobilenet_v2_half")
W40_2_SV1 = ("wrn_40_2", "shufflenet_v1")
V13_V8 = ("vgg13", "vgg8")
V13_MV2 = ("vgg13", "mobilenet_v2_half")
R50_MV2 = ("resnet50", "mobilenet_v2_half")
