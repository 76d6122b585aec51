"""Exact counts and thresholds, by hand."""

import math

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


# Erdős-Rényi-Kernel: the values of RigL's code

LENET_300_100 = {"ip1": (784, 300), "ip2": (300, 100), "ip3": (100, 10)}
LENET_5 = {"conv1": (5, 5, 1, 20), "conv2": (5, 5, 20, 50), "ip1": (800, 500), "ip2": (500, 10)}


def sizes_of(shapes):
    return {name: math.prod(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "sparsity", "expected"),
    [
        (LENET_300_100, 0.9, [0.92043, 0.76981, 0]),
        (LENET_300_100, 0.95, [0.96152, 0.88867, 0.08149]),
        (LENET_300_100, 0.98, [0.98461, 0.95547, 0.63260]),
        (LENET_5, 0.9, [0, 0.91293, 0.91157, 0]),
        (LENET_5, 0.95, [0.27388, 0.96252, 0.96194, 0]),
        (LENET_5, 0.98, [0.72211, 0.98566, 0.98543, 0.54283]),
    ],
)
def test_erk_densities(shapes, sparsity, expected):
    sizes = sizes_of(shapes)
    found = allocate.erk_densities(shapes, sizes, sparsity)
    np.testing.assert_allclose([1 - d for d in found.values()], expected, atol=6e-6)
    keep = allocate.erk(shapes, sizes, sparsity)
    assert sum(keep.values()) == allocate.total(sizes, sparsity)
    for name, count in keep.items():
        assert abs(count - found[name] * sizes[name]) < 3


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.987, 0.9999])
def test_erk_counts_are_exact_and_never_rise(sparsity):
    sizes, most = sizes_of(LENET_300_100), sizes_of(LENET_300_100)
    for share in (0.3, 0.6, 0.9, 1.0):
        keep = allocate.erk(LENET_300_100, sizes, sparsity * share, most)
        assert sum(keep.values()) == allocate.total(sizes, sparsity * share)
        assert all(1 <= keep[name] <= most[name] for name in keep)
        most = keep


# Amounts by name


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("layer", {"a": 10, "b": 50, "c": 5}),
        # 210 − 105 are kept in all
        ("global", ({"a": 10}, 95)),
    ],
)
def test_layers_with_amounts_of_their_own(rule, expected):
    shapes = {"a": (10, 10), "b": (10, 10), "c": (5, 2)}
    amounts = allocate.of_layers("amounts", ["a=0.9"], [*shapes])
    assert amounts == {"a": 0.9}
    assert allocate.counts(rule, shapes, sizes_of(shapes), 0.5, amounts) == expected


def test_erk_is_of_the_layers_without_an_amount():
    shapes = LENET_300_100
    keep = allocate.counts("erk", shapes, sizes_of(shapes), 0.9, {"ip1": 0.5})
    rest = {name: shapes[name] for name in ("ip2", "ip3")}
    assert keep == {"ip1": 117600} | allocate.erk(rest, sizes_of(rest), 0.9)


def test_the_first_pattern_that_finds_a_layer_counts():
    layers = ["Dense_0/kernel", "Dense_1/kernel", "Conv_0/kernel"]
    found = allocate.of_layers("amounts", ["Dense_1=0.5", "Dense=0.9"], layers)
    assert found == {"Dense_1/kernel": 0.5, "Dense_0/kernel": 0.9}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "Dense_9=0.5",
            r"amounts 'Dense_9=0.5' finds no layer that is pruned: .* They are: a/b, c",
        ),
        ("a", "amounts 'a' is not of the form PATTERN=SPARSITY"),
        ("=0.5", "is not of the form"),
        ("a=x", "is not of the form"),
        ("(=0.5", r"amounts '\(' is no regular expression"),
        ("a=1.0", r"the sparsity must be in \[0, 1\)"),
    ],
)
def test_amounts_that_say_nothing_are_refused(word, message):
    with pytest.raises(UsageError, match=message):
        allocate.of_layers("amounts", [word], ["a/b", "c"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("Dense_9=0.5", r"thresholds 'Dense_9=0.5' finds no layer that is pruned"),
        ("a", "thresholds 'a' is not of the form PATTERN=THRESHOLD"),
        ("a=0", r"a threshold must be above 0"),
        ("a=nan", r"a threshold must be above 0"),
        ("a=inf", r"a threshold must be above 0"),
    ],
)
def test_thresholds_that_say_nothing_are_refused(word, message):
    assert allocate.of_layers("thresholds", ["a=1.5"], ["a/b", "c"]) == {"a/b": 1.5}
    with pytest.raises(UsageError, match=message):
        allocate.of_layers("thresholds", [word], ["a/b", "c"])


def test_amounts_that_leave_the_rest_no_room_are_refused():
    with pytest.raises(UsageError, match=r"amounts keep 99, and sparsity 0\.9 keeps 11 in all"):
        allocate.counts("global", {}, {"a": 100, "b": 10}, 0.9, {"a": 0.01})


def test_surgery_thresholds_by_hand():
    params = {"a": jnp.array([[1.0, -3, 0, 5]]), "b": jnp.array([[2.0, -2]])}
    masks = {"a": jnp.ones((1, 4), bool), "b": jnp.ones((1, 2), bool)}
    found = jax.jit(allocate.surgery_thresholds)(params, masks, 0.5)
    # Of 1, 3 and 5, without the zero: mean 3, σ² = 35/3 − 9.
    np.testing.assert_allclose(found["a"], 3 + 0.5 * np.sqrt(35 / 3 - 9), rtol=1e-6)
    np.testing.assert_allclose(found["b"], 2, rtol=1e-6)
    assert allocate.surgery_thresholds(params, masks, -9.0)["a"] == 0
    each = allocate.surgery_thresholds(params, masks, {"a": 1.0, "b": 2.0})
    np.testing.assert_allclose(each["a"], 3 + np.sqrt(35 / 3 - 9), rtol=1e-6)


def test_what_layers_may_keep_of_a_budget():
    sizes = {"a": 64, "b": 10}
    assert allocate.room("units", sizes, 0.5) == 37
    assert allocate.room("macs", sizes, 0.75) == 0.25
    # Half of 4·74 bytes, less bitmasks of 8 and 2, is room for 34 weights and a half.
    assert allocate.room("bytes", sizes, 0.5) == 34
    # 39 bytes at s = 0.96 less 32: 1.8 weights, where three layers keep one each.
    with pytest.raises(UsageError, match=r"budget bytes leaves no room: .* 0\.033 of the bytes"):
        allocate.room("bytes", {"a": 240, "b": 1, "c": 1}, 0.96)
    assert allocate.room("bytes", {"a": 240, "b": 8}, 0.96) == 2


def test_by_a_scan_each_layer_keeps_one():
    sizes = {"a": 10, "b": 10, "c": 10}
    assert allocate.counts("sensitivity", {}, sizes, 0.9) == 3
    with pytest.raises(UsageError, match=r"0\.93 keeps 2 of the 30 of 3 layers"):
        allocate.counts("sensitivity", {}, sizes, 0.93)
    assert allocate.counts("global", {}, sizes, 0.93) == 2
