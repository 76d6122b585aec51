"""What a benchmark finds, and the ratios of its rows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from kd_jax.bench.cases import Case


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A row's numbers.

    Attributes:
      batch: examples a step, of each seed.
      parameters: {role: count}.
      versions: of the other framework, by name.
      steps: steps a block.
      seconds: of a step, the mean of each block.
      first_step: seconds from the start of the process to the end of its first step.
      compile: seconds that the first step took longer than the median of the later ones.
      peak_bytes: peak resident memory of the process, interpreter and libraries included.
    """

    label: str
    framework: str
    batch: int
    seeds: int
    parameters: dict[str, int]
    versions: dict[str, str]
    steps: int
    seconds: list[float]
    first_step: float
    compile: float
    peak_bytes: int

    @property
    def examples_per_second(self) -> np.ndarray:
        """Of each block; those of all seeds count."""
        return self.batch * self.seeds / np.asarray(self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A ratio of two rows.

    Attributes:
      ratios: a number a round.
      best: of the fastest blocks of both: what a disturbed machine still lets one see.
    """

    label: str
    ratios: list[float]
    best: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One case at one batch size.

    Attributes:
      busy: the share of all cores that was at work before the case began, 0 to 1; None: unknown.
    """

    case: str
    about: str
    busy: float | None
    rows: list[Measured]
    compared: list[Compared]


def compare(case: Case, rows: Sequence[Measured]) -> list[Compared]:
    """The case's ratios whose rows were both measured, round by round."""
    by_label = {row.label: row for row in rows}
    found = []
    for ratio in case.ratios:
        of, to = by_label.get(ratio.of), by_label.get(ratio.to)
        if of is None or to is None:
            continue
        times = np.asarray(of.seconds) / np.asarray(to.seconds)
        best = min(of.seconds) / min(to.seconds)
        if not ratio.time:
            more = of.batch * of.seeds / (to.batch * to.seeds)
            times, best = more / times, more / best
        found.append(Compared(label=ratio.label, ratios=times.tolist(), best=best))
    return found
