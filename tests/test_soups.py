"""Means of weights."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.soups import averaged, differing, greedy
from kd_jax.state import Snapshot


def network(value, mask=None, step=1):
    w = jnp.array([1.0, 2.0, 3.0, 4.0]) * value
    w = w if mask is None else w * jnp.array(mask, jnp.float32)
    statistics = {"mean": jnp.array([value, 0.0]), "seen": jnp.int32(step)}
    masks = {"w": None if mask is None else jnp.asarray(mask), "b": None}
    return Snapshot({"w": w, "b": jnp.array([value])}, {"statistics": statistics}, masks)


A = network(1.0, [True, True, False, False], step=7)
B = network(3.0, [True, False, True, False])
DENSE = network(5.0)


def test_weights_and_statistics_by_hand():
    found = averaged([A, B], jnp.array([0.75, 0.25]))
    np.testing.assert_allclose(found.params["w"], [1.5, 1.5, 2.25, 0.0])
    np.testing.assert_allclose(found.params["b"], [1.5])
    np.testing.assert_allclose(found.collections["statistics"]["mean"], [1.5, 0.0])
    assert int(found.collections["statistics"]["seen"]) == 7


def test_what_all_have_pruned_stays_pruned():
    half = jnp.array([0.5, 0.5])
    masks = averaged([A, B], half).masks
    np.testing.assert_array_equal(masks["w"], [True, True, True, False])
    assert masks["b"] is None
    same = averaged([A, A], half)
    np.testing.assert_array_equal(same.masks["w"], A.masks["w"])
    np.testing.assert_array_equal(same.params["w"], A.params["w"])
    np.testing.assert_array_equal(averaged([A, DENSE], half).masks["w"], [True] * 4)
    assert averaged([DENSE, DENSE], half).masks["w"] is None


def test_who_has_no_share_is_no_ingredient():
    found = averaged([A, B, DENSE], jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(found.masks["w"], B.masks["w"])
    np.testing.assert_array_equal(found.params["w"], B.params["w"])


def test_jit_says_the_same():
    shares = jnp.array([0.3, 0.7])
    compiled = jax.jit(averaged)([A, B], shares)
    eager = averaged([A, B], shares)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), compiled, eager)


def test_the_greedy_order_by_hand():
    """Two seeds. The first takes 1, tries 0 (worse), then 2 (as good: taken in). The second begins
    with 0, the first of two that are equal, and each that comes makes it better."""
    accuracies = np.array([[0.8, 0.9, 0.7], [0.6, 0.6, 0.5]])
    of_soup = [
        {"1": 0.9, "01": 0.85, "12": 0.9},
        {"0": 0.6, "01": 0.61, "012": 0.62},
    ]
    tried = []

    def accuracy_of(shares):
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)
        names = ["".join(str(i) for i in np.flatnonzero(row)) for row in shares]
        tried.append(names)
        return np.array([known[name] for known, name in zip(of_soup, names, strict=True)])

    found = greedy(accuracies, accuracy_of)
    assert tried == [["1", "0"], ["01", "01"], ["12", "012"]]
    np.testing.assert_allclose(found, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])


def test_where_forms_differ():
    assert differing([{"a": (2,), "b": (3,)}] * 2) == ""
    assert differing([{"a": (2,), "b": (3,)}, {"a": (2,), "b": (4,)}]) == "b"
    assert differing([{"a": (2,)}, {"a": (2,), "c": (1,)}]) == "c"
