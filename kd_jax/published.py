"""Numbers that papers report, each with how ours is read off a run and when it counts as the same.

An experiment file that reproduces some has them beside its CONFIG, as PUBLISHED.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from kd_jax.errors import require
from kd_jax.results import Row

Measure = Literal["errors", "error", "accuracy", "class_errors", "kept", "fewer", "smaller"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a measure is called, in what unit, with how many decimals, and whether more of it is
    better."""

    words: str
    unit: str
    decimals: int
    more_is_better: bool


KINDS: dict[str, Kind] = {
    "errors": Kind("test errors", "", 0, False),
    "error": Kind("test error", " %", 2, False),
    "accuracy": Kind("test accuracy", " %", 2, True),
    "class_errors": Kind("test errors on classes", "", 0, False),
    "kept": Kind("parameters left", " %", 2, False),
    "fewer": Kind("times fewer parameters", "×", 1, True),
    "smaller": Kind("times smaller as a file", "×", 1, True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of a paper, and where ours comes from.

    Attributes:
      what: of what it is, in a reader's words.
      stage: whose network has it.
      measure: errors: wrong test examples; error, accuracy: in per cent; class_errors: wrong
        examples of `classes`; kept: per cent of the parameters that are not zero; fewer: parameters
        over those that are not zero; smaller: bytes of all parameters in float32 over those of the
        file that `encode` writes, which decodes to the network bit for bit.
      published: the paper's; None where there is none, and ours stands alone.
      source: where the paper says so.
      bar: (least, most) that the mean of ours may be to count as reproduced; without one it is to
        be as good as the paper's.
      against: a stage whose value is taken off, seed by seed.
    """

    what: str
    stage: str
    measure: Measure
    published: float | None = None
    source: str = ""
    bar: tuple[float | None, float | None] = (None, None)
    classes: tuple[int, ...] = ()
    against: str = ""

    def __post_init__(self) -> None:
        require(self.measure in KINDS, f"measure {self.measure!r}: take one of {', '.join(KINDS)}")
        classes = bool(self.classes) == (self.measure == "class_errors")
        require(classes, f"classes {self.classes}: they are for class_errors, which needs some")
        require(
            self.published is None or bool(self.source),
            f"source of {self.what!r} is empty: say where {self.published} is written",
        )


def values(figure: Figure, row: Row, counts: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """Ours, one a seed, without what is taken off.

    Args:
      counts: test examples of each class.
      sizes: bytes of each seed's file; only for `smaller`.
    """
    wrong = 1 - np.asarray(row.accuracy, float)
    left = np.asarray(row.nonzero, float) / row.parameters
    if figure.measure == "errors":
        return np.round(wrong * sum(counts)).tolist()
    if figure.measure == "class_errors":
        require(row.class_accuracy is not None, f"{row.stage} has no accuracies of classes")
        by_class = np.round((1 - np.asarray(row.class_accuracy, float)) * np.asarray(counts))
        return by_class[:, list(figure.classes)].sum(axis=1).tolist()
    if figure.measure == "smaller":
        return (4 * row.parameters / np.asarray(sizes, float)).tolist()
    return {
        "error": lambda: 100 * wrong,
        "accuracy": lambda: 100 * np.asarray(row.accuracy, float),
        "kept": lambda: 100 * left,
        "fewer": lambda: 1 / left,
    }[figure.measure]().tolist()


def verdict(figure: Figure, ours: Sequence[float]) -> str:
    """Whether the mean of ours says what the paper's does, to the decimals in which such numbers
    are printed: of the paper's no more are known. It is better where that is more than two standard
    deviations of the seeds away."""
    mean, (least, most) = float(np.mean(ours)), figure.bar
    if least is not None or most is not None:
        within = (least is None or mean >= least) and (most is None or mean <= most)
        return "reproduced" if within else "not reproduced"
    if figure.published is None:
        return "ours alone"
    kind = KINDS[figure.measure]
    ahead = round(mean, kind.decimals) - round(figure.published, kind.decimals)
    ahead = ahead if kind.more_is_better else -ahead
    noise = 2 * float(np.std(ours, ddof=1)) if len(ours) > 1 else np.inf
    if ahead >= 0:
        return "better" if ahead > noise else "reproduced"
    return "short"
