"""Masked generation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import F_S, F_T
from made_lessons import lesson, own

from kd_jax.distill import MGD
from kd_jax.errors import UsageError

PAIR = [(jnp.asarray(F_S, jnp.float32), jnp.asarray(F_T, jnp.float32))]
PASSING = {"kernel": jnp.zeros((3, 3, 3, 3)).at[1, 1].set(jnp.eye(3)), "bias": jnp.zeros(3)}
PARAMS = {"generator0": {"conv0": PASSING, "conv1": PASSING}}


@pytest.mark.parametrize("mask", ["channel", "spatial"])
def test_a_mask_takes_whole_channels_or_places_as_often_as_told(mask):
    left = MGD(mask=mask, masked=0.3).left(jax.random.key(0), (64, 8, 8, 64))
    np.testing.assert_allclose(jnp.mean(left), 0.7, atol=0.03)
    same, differ = ((1, 2), 3) if mask == "channel" else (3, (1, 2))
    assert jnp.all(left.all(same) | ~left.any(same))
    assert not jnp.any(left.all(differ))


def test_the_teachers_map_is_made_of_what_is_left():
    # A generator that only passes on what is above zero.
    term = MGD(masked=0.0)
    gap = np.maximum(F_S, 0) - F_T
    np.testing.assert_allclose(
        term(PAIR, PARAMS, jax.random.key(0)), np.sum(gap**2, (1, 2, 3)), rtol=1e-5
    )
    nothing = MGD(masked=1.0)(PAIR, PARAMS, jax.random.key(0))
    np.testing.assert_allclose(nothing, np.sum(F_T**2, (1, 2, 3)), rtol=1e-5)


def test_the_mask_is_of_the_steps_key():
    given, term = lesson(), MGD(masked=0.5)
    carried = own(term, given)
    values = [
        term.evaluate(carried, dataclasses.replace(given, key=jax.random.key(key)))[0]
        for key in (1, 1, 2)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2], rtol=1e-3)


def test_equal_widths_need_no_connector():
    assert MGD().connectors(jax.random.key(0), PAIR).keys() == {"generator0"}
    assert own(MGD(), lesson()).params.keys() == {"generator0", "width0"}


def test_the_generator_is_two_convolutions_in_the_teachers_width():
    params = own(MGD(), lesson()).params
    shapes = jax.tree.map(jnp.shape, params)
    conv = {"kernel": (3, 3, 8, 8), "bias": (8,)}
    assert shapes["generator0"] == {"conv0": conv, "conv1": conv}
    assert shapes["width0"] == {"kernel": (1, 1, 6, 8), "bias": (8,)}
    kernels = [params["generator0"][name]["kernel"] for name in ("conv0", "conv1")]
    assert jnp.all(kernels[0] != kernels[1])


def test_no_more_than_all_can_be_masked():
    with pytest.raises(UsageError, match=r"MGD\.masked is 1.5"):
        MGD(masked=1.5)
