"""Exact counts and thresholds, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.prune import allocate


@pytest.mark.parametrize(
    ("size", "sparsity", "keep"),
    [
        (4, 0.5, 2),
        (10, 0.0, 10),
        (10, 0.9, 1),
        (1, 0.987, 1),
        (3, 0.999, 1),
        (10, 0.25, 8),  # 2.5 rounds to the even 2
        (10, 0.35, 6),  # 3.5 to 4
        (1000, 0.0005, 1000),  # 0.5 to 0
        (100, 0.545, 46),  # 54.5 to 54; the binary product 54.50000000000001 would go to 55
        (1000, 0.9985, 2),  # 998.5 to 998
        (235200, 0.92, 18816),
        (10**9 + 1, 0.9, 100000000),  # 900000000.9 to 900000001
    ],
)
def test_counts(size, sparsity, keep):
    assert allocate.per_layer({"a": size}, sparsity) == {"a": keep}
    assert allocate.total({"a": size}, sparsity) == keep


def test_a_layer_is_never_emptied_and_the_whole_is_exact():
    sizes = {"large": 994, "small": 3, "tiny": 3}
    assert allocate.per_layer(sizes, 0.98) == {"large": 20, "small": 1, "tiny": 1}
    assert allocate.total(sizes, 0.98) == 20
    assert allocate.total({"tiny": 3}, 0.98) == 1


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 90, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(sparsity):
    with pytest.raises(UsageError, match="sparsity is"):
        allocate.per_layer({"a": 3}, sparsity)
    with pytest.raises(UsageError, match="sparsity is"):
        allocate.total({"a": 3}, sparsity)


def test_std_thresholds_by_hand():
    params = {"a": jnp.array([[1.0, 3, 100, 5]]), "b": jnp.array([[2.0, 4]]), "c": jnp.ones(2)}
    masks = {"a": jnp.array([[True, True, False, True]]), "b": jnp.zeros((1, 2), bool), "c": None}
    thresholds = jax.jit(allocate.std_thresholds)(params, masks, 0.5)
    np.testing.assert_allclose(thresholds["a"], 0.5 * np.std([1, 3, 5]), rtol=1e-6)
    assert thresholds["b"] == 0
    assert thresholds.keys() == {"a", "b"}
    each = allocate.std_thresholds(params, masks, {"a": 2.0, "b": 1.0})
    np.testing.assert_allclose(each["a"], 2 * np.std([1, 3, 5]), rtol=1e-6)
