"""What every term has: a weight over time, and fields that are not below zero."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.distill import CRD, KD, MLKD
from kd_jax.distill.term import ramp
from kd_jax.errors import UsageError


def test_a_ramp_is_up_at_once_or_after_its_length():
    epochs = jnp.array([0.0, 1.0, 4.0, 9.0])
    np.testing.assert_allclose(ramp(epochs, 4.0), [0, 0.25, 1, 1])
    np.testing.assert_allclose(ramp(epochs, 0.0), 1)


def test_a_weight_rises_from_its_start_and_falls_to_its_stop():
    epochs = jnp.array([0.0, 0.9, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0, 9.0])
    term = KD(start=1.0, warmup=2.0, stop=6.0, cooldown=2.0)
    np.testing.assert_allclose(term.factor(epochs), [0, 0, 0, 0.5, 1, 1, 0.5, 0.25, 0, 0])
    np.testing.assert_allclose(KD(start=1.0).factor(epochs), [0, 0, *[1] * 8])
    np.testing.assert_allclose(KD(stop=6.0).factor(epochs), [*[1] * 8, 0, 0])
    np.testing.assert_allclose(KD().factor(epochs), 1)


def test_one_view_is_read_unless_a_term_says_otherwise():
    assert (KD().views, MLKD().views, MLKD(strong=True).views) == (1, 1, 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KD(weight=-1.0), r"KD\.weight is -1: it must be at least 0"),
        (lambda: KD(start=-1.0), r"KD\.start is -1"),
        (lambda: CRD(dim=0), r"CRD\.dim is 0: it must be at least 1"),
        (lambda: KD(start=2.0, stop=2.0), r"KD\.stop is 2: it must come after start, 2"),
        (lambda: KD(start=3, stop=2), r"KD\.stop is 2: it must come after start, 3"),
    ],
)
def test_a_bad_value_is_refused_by_name(build, message):
    with pytest.raises(UsageError, match=message):
        build()
    assert KD(weight=0.0, start=0.0).weight == 0
    assert CRD(dim=1).dim == 1
    assert KD(start=2.0, stop=2.5).stop == 2.5
