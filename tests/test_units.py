"""Numbers as people read them."""

import pytest

from kd_jax.units import amount, duration, ratio, significant


@pytest.mark.parametrize(
    ("x", "text"),
    [(0, "0"), (9.996, "10.0"), (0.0421, "0.0421"), (128.4, "128"), (12345, "12,300")],
)
def test_significant(x, text):
    assert significant(x) == text


@pytest.mark.parametrize(
    ("x", "unit", "text"),
    [
        (812, "B", "812 B"),
        (1_066_440, "B", "1.07 MB"),
        (999_999, "", "1.00 M"),
        (12_345_678, "", "12.3 M"),
        (0, "B", "0 B"),
        (1202.667, "B", "1.20 kB"),
        (262.667, "", "263"),
    ],
)
def test_amount(x, unit, text):
    assert amount(x, unit) == text


def test_amount_of_a_tick():
    assert amount(20_000, "B", digits=1) == "20 kB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (41.7e-6, "41.7 µs"),
        (0.0032, "3.20 ms"),
        (0.9999, "1.00 s"),
        (5e-10, "0.500 ns"),
        (250, "4 min 10 s"),
        (3900, "1 h 5 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("x", "text"), [(16.4, "16×"), (3.14, "3.1×"), (0.523, "0.52×"), (1, "1.0×")]
)
def test_ratio(x, text):
    assert ratio(x) == text
