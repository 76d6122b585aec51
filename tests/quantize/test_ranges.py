"""Which range a calibration chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.quantize import CALIBRATIONS, Grid, Percentile, Seen
from kd_jax.quantize.ranges import BINS, Entropy, histogram, magnitudes

BITS = jnp.asarray(4)


def chosen(name, x, symmetric=False, bits=BITS):
    rule = CALIBRATIONS[name] if isinstance(name, str) else name
    return [float(end) for end in rule(Seen.of(jnp.asarray(x)), bits, symmetric)]


def test_a_histogram_by_hand():
    x = jnp.array([-1.0, -1.0, 0.0, 0.9999, 1.0])
    counts = np.asarray(histogram(x, jnp.array(1.0)))
    assert counts[0] == 2
    assert counts[BINS] == 1
    assert counts[-1] == 2
    folded = np.asarray(magnitudes(Seen.of(x)))
    assert folded[0] == 1
    assert folded[-1] == 4
    assert folded.sum() == 5


def test_by_extremes():
    x = [-1.0, 0.5, 4.0]
    assert chosen("absmax", x) == [-4, 4]
    assert chosen("minmax", x) == [-1, 4]


def test_percentile_by_hand():
    """Of 1000 magnitudes 1 lies beyond 99.9 %."""
    x = jnp.concatenate([jnp.full(999, 0.5), jnp.array([8.0])])
    least, most = chosen(Percentile(percent=99.9), x)
    assert least == 0.5  # of what was seen none is less
    assert most == pytest.approx(0.5, abs=8 / BINS)
    assert chosen(Percentile(percent=100.0), x)[1] == 8


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_no_worse_than_any_range_tried(symmetric):
    x = jax.random.laplace(jax.random.key(1), (5000,))
    least, most = chosen("mse", x, symmetric)

    def error(least, most):
        extent = max(-least, most)
        grid = Grid.symmetric(jnp.array(extent), 4) if symmetric else Grid.affine(least, most, 4)
        return float(jnp.mean((grid(x) - x) ** 2))

    a, b = float(jnp.min(x)), float(jnp.max(x))
    extent = max(-a, b)
    ranges = [(max(a, -t), min(b, t)) for t in np.linspace(0.05, 1, 40) * extent]
    assert error(least, most) <= 1.01 * min(error(*pair) for pair in ranges)
    assert max(-least, most) < 0.8 * extent


def test_entropy_by_brute_force():
    """KL of what is left, in NumPy as the method is described, for each threshold."""
    x = np.asarray(jax.random.normal(jax.random.key(2), (20000,))) ** 3
    seen = Seen.of(jnp.asarray(x))
    counts, levels = np.asarray(magnitudes(seen), np.float64), 8

    def divergence(size):
        p, q = counts[:size].copy(), np.zeros(size)
        level = np.arange(size) * levels // size
        for one in range(levels):
            filled = (level == one) & (counts[:size] > 0)
            if filled.any():
                q[filled] = counts[:size][level == one].sum() / filled.sum()
        p[-1] += counts[size:].sum()
        p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-9)
        return np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))

    sizes = list(range(Entropy.first, BINS + 1, 8))
    found = [divergence(size) for size in sizes]
    best = sizes[len(sizes) - 1 - int(np.argmin(found[::-1]))]
    _, most = chosen("entropy", x)
    assert most == pytest.approx(min(x.max(), np.abs(x).max() * best / BINS), rel=1e-4)
    assert most < 0.9 * np.abs(x).max()


def test_lsq_by_hand():
    x = [-1.0, 3.0, 2.0, -2.0]
    assert chosen("lsq", x, True) == pytest.approx([-4 * 7**0.5, 4 * 7**0.5])
    assert chosen("lsq", [1.0, 3.0]) == pytest.approx([0, 4 * 15**0.5])


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_nothing_but_zeros_and_one_number(name):
    for x in (jnp.zeros(9), jnp.full(9, 2.0), jnp.full(9, -1e-6)):
        for bits in (2, 8):
            least, most = chosen(name, x, bits=jnp.asarray(bits))
            assert np.isfinite([least, most]).all()
            assert np.isfinite(np.asarray(Grid.affine(least, most, bits)(x))).all()


def test_bad_percentile():
    with pytest.raises(UsageError, match="percent 0"):
        Percentile(percent=0.0)
