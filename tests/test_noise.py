"""Means and spreads by hand; the paired test against scipy's own."""

import dataclasses
import math

import pytest
from made_results import make, rows
from scipy import stats

from kd_jax.errors import UsageError
from kd_jax.noise import comparisons, gain, spread, summary


def test_summary_by_hand():
    of = summary([0.90, 0.92, 0.94])
    assert of.mean == pytest.approx(0.92)
    assert of.std == pytest.approx(0.02)  # sqrt((0.02² + 0 + 0.02²) / 2)
    assert of.n == 3


def test_one_value_has_no_spread():
    assert summary([0.5]).std is None


def test_a_diverged_seed_gives_no_warning():
    assert summary([1.0, math.inf]).mean == math.inf


def test_gain_is_paired_by_seed():
    """Differences 1, 2, 3: mean 2, std 1, error 1 / sqrt(3); t(0.975, 2) = 4.3027."""
    of = gain([11, 22, 33], [10, 20, 30])
    assert (of.difference.mean, of.difference.std, of.better) == (2, 1, 3)
    assert of.low == pytest.approx(2 - 4.302653 / math.sqrt(3))
    assert of.high == pytest.approx(2 + 4.302653 / math.sqrt(3))
    assert of.p == pytest.approx(stats.ttest_rel([11, 22, 33], [10, 20, 30]).pvalue)
    assert of.beyond_noise is False


def test_a_clear_gain_and_a_clear_loss():
    assert gain([2.0, 2.1, 2.2], [1.0, 1.1, 1.21]).beyond_noise is True
    loss = gain([1.0, 1.1, 1.21], [2.0, 2.1, 2.2])
    assert loss.beyond_noise is True
    assert loss.high is not None
    assert loss.high < 0
    assert loss.better == 0


def test_gain_without_spread():
    assert gain([0.5, 0.75], [0.25, 0.5]).p == 0.0
    same = gain([0.5, 0.75], [0.5, 0.75])
    assert (same.p, same.beyond_noise, same.better) == (1.0, False, 0)


def test_one_seed_knows_no_noise():
    of = gain([0.9], [0.8])
    assert (of.low, of.high, of.p, of.beyond_noise) == (None, None, None, None)


def test_unequal_seeds_are_refused():
    with pytest.raises(UsageError, match="same seeds"):
        gain([1.0, 2.0], [1.0])


def test_comparisons_with_the_first_of_a_model_or_as_told():
    pairs = [(row.stage, other.stage) for row, other, _ in comparisons(make())]
    assert pairs == [("distill", "alone"), ("prune", "alone"), ("prune", "distill")]


def test_comparisons_can_be_switched_off_or_name_an_unknown_stage():
    *rest, last = rows()
    off = make(rows=[*rest, dataclasses.replace(last, compared_with=[])])
    assert [row.stage for row, _, _ in comparisons(off)] == ["distill"]
    wrong = make(rows=[*rest, dataclasses.replace(last, compared_with=["distil"])])
    with pytest.raises(UsageError, match="Did you mean 'distill'"):
        comparisons(wrong)


@pytest.mark.parametrize(
    ("values", "scale", "text"),
    [
        ([0.19, 0.21], 1, "0.200 ± 0.014"),
        ([0.19, 0.21], 100, "20.0 ± 1.4"),
        ([19.0, 19.4], 1, "19.20 ± 0.28"),
        ([1 - 1e-12, 1], 1, "1.000 ± 0.000"),
        ([0.5, 0.5], 1, "0.5000 ± 0.0000"),
        ([0.0, 0.0], 1, "0 ± 0"),
        ([-3.0, 3.0], 1, "0.0 ± 4.2"),
        ([0.25], 1, "0.250"),
        ([math.nan, 1.0], 1, "nan"),
    ],
)
def test_spread_for_people(values, scale, text):
    assert spread(values, scale) == text
