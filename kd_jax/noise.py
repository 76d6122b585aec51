"""Means and spreads over seeds, and whether a difference is more than noise."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from kd_jax.errors import require
from kd_jax.results import Results, Row
from kd_jax.units import significant

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1 below the fraction) of n values, one a seed.
    One value has no standard deviation."""

    mean: float
    std: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Gain:
    """How much higher one network's values are than another's, paired by seed.

    Attributes:
      difference: of the values of one seed, summarised over seeds.
      better: seeds in which it is above zero.
      low, high: 95 % interval of the mean difference (Student's t); None for one seed.
      p: two-sided probability of such a mean difference if there were none; None for one seed.
    """

    difference: Summary
    better: int
    low: float | None
    high: float | None
    p: float | None

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the interval leaves zero out. None for one seed: its noise is unknown."""
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0


def summary(values: Sequence[float]) -> Summary:
    """Mean ± sample standard deviation."""
    x = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # of a seed that diverged
        return Summary(float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else None, x.size)


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Mean ± standard deviation, for people: 0.205 ± 0.012. As many decimals as show two digits of
    the latter, but not more than four of the former; three of one value."""
    of = summary(np.multiply(values, scale).tolist())
    if of.std is None or not math.isfinite(of.std):
        return significant(of.mean)
    texts = [significant(of.mean, 4)] * (of.mean != 0) + [significant(of.std, 2)] * (of.std != 0)
    decimals = min((len(text.partition(".")[2]) for text in texts), default=0)
    return f"{of.mean:,.{decimals}f} ± {of.std:,.{decimals}f}"


def gain(values: Sequence[float], others: Sequence[float]) -> Gain:
    """Paired comparison: entry i of both is of the same seed.

    Student, "The Probable Error of a Mean", 1908, https://doi.org/10.2307/2331554. Seeds share
    their initial parameters and order of examples between two stages, so that much of the noise
    is common to a pair; the interval says nothing of what another test set would give.
    """
    require(len(values) == len(others), "a paired comparison needs the same seeds on both sides")
    differences = np.subtract(values, others, dtype=np.float64)
    of = summary(differences.tolist())
    better = int(np.sum(differences > 0))
    if of.std is None:
        return Gain(of, better, None, None, None)
    error = of.std / math.sqrt(of.n)
    from scipy import special  # here: it takes a while to import, and few compare

    reach = float(special.stdtrit(of.n - 1, (1 + CONFIDENCE) / 2)) * error
    return Gain(of, better, of.mean - reach, of.mean + reach, _p_value(of.mean, error, of.n))


def _p_value(mean: float, error: float, n: int) -> float:
    if error == 0:  # the same difference for every seed
        return 1.0 if mean == 0 else 0.0
    from scipy import special

    return 2 * float(special.stdtr(n - 1, -abs(mean) / error))


def comparisons(results: Results) -> list[tuple[Row, Row, Gain]]:
    """(row, other, gain in accuracy of the row over the other) for all that are to be compared."""
    found = []
    for index, row in enumerate(results.rows):
        names = row.compared_with
        if names is None:
            earlier = [other.stage for other in results.rows[:index] if other.model == row.model]
            names = earlier[:1]
        for other in map(results.row, names):
            found.append((row, other, gain(row.accuracy, other.accuracy)))
    return found


def class_gains(results: Results) -> list[tuple[Row, Row, list[Summary]]]:
    """(row, the first other that it is compared with, by how much higher its accuracy is on each
    class) for all that are to be compared and have an accuracy for each class."""
    found = {}
    for row, other, _ in comparisons(results):
        if row.stage not in found and row.class_accuracy and other.class_accuracy:
            differences = np.subtract(row.class_accuracy, other.class_accuracy).T
            found[row.stage] = (row, other, [summary(values) for values in differences])
    return list(found.values())
