"""Amounts found from a scan: by hand, and against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.models import MODELS
from kd_jax.prune import STRUCTURES, sensitivity
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.cut import cut
from kd_jax.tree import named_leaves


def test_levels_go_from_all_to_one():
    kept = np.asarray(sensitivity.levels(jnp.array([100, 3, 0])))
    assert kept[0].tolist() == [100, 80, 60, 40, 30, 20, 10, 5, 2, 1]
    assert (kept[1, 0], kept[1, -1]) == (3, 1)
    assert (np.diff(kept[1]) <= 0).all()
    assert not kept[2].any()  # of a layer that is gone nothing can be kept


def test_the_scan_changes_one_layer_at_a_time():
    kept = jnp.array([[4, 2, 1], [6, 3, 1]])
    seen = sensitivity.scan(lambda k: (10 * k[0] + k[1]).astype(jnp.float32), kept)
    assert seen.tolist() == [[46, 26, 16], [46, 43, 41]]


def test_curves_are_made_convex_and_never_fall():
    kept = jnp.array([[4, 3, 2, 1], [4, 3, 2, 1]])
    # A hump is bridged; what the loss gains from losing costs nothing.
    losses = jnp.array([[0.0, 3.0, 2.0, 6.0], [5.0, 1.0, 2.0, jnp.nan]])
    found = np.asarray(sensitivity.convex(losses, kept))
    assert found[0].tolist() == [0.0, 1.0, 2.0, 6.0]
    assert found[1, :3].tolist() == [1.0, 1.0, 2.0]
    assert found[1, 3] > 1e30


def test_the_least_slope_goes_first_by_hand():
    kept = jnp.array([[4, 2, 1], [8, 4, 1]])
    losses = jnp.array([[0.0, 2.0, 9.0], [0.0, 1.0, 13.0]])
    # Slopes: 1 and 7 a unit; 1/4 and 4. So first 4 of the second, then 2 of the first, then 3 of
    # the second, then the last of the first.
    costs = jnp.array([1, 1])
    found = {room: sensitivity.allot(losses, kept, costs, room).tolist() for room in range(2, 13)}
    assert found[12] == [4, 8]
    assert found[9] == [4, 5]  # a part of a step
    assert found[8] == [4, 4]
    assert found[7] == [3, 4]
    assert found[6] == [2, 4]
    assert found[5] == [2, 3]
    assert found[3] == [2, 1]
    assert found[2] == [1, 1]
    assert all(sum(keep) == room for room, keep in found.items())
    # No room at all: what must be kept is.
    assert sensitivity.allot(losses, kept, costs, 0).tolist() == [1, 1]


def test_no_other_choice_of_units_is_better():
    rng, allot = np.random.default_rng(0), jax.jit(sensitivity.allot)
    for _ in range(20):
        # Convex curves, of which each unit is a level: the least sum of all is then found exactly.
        falls = np.sort(rng.random((3, 4)), axis=1)
        losses = np.concatenate([np.zeros((3, 1)), np.cumsum(falls, axis=1)], axis=1)
        kept = np.broadcast_to(np.arange(5, 0, -1), (3, 5)).astype(np.int32)
        costs = rng.integers(1, 4, 3).astype(np.int32)
        costs[:] = costs[0]
        room = int(rng.integers(3, 16)) * int(costs[0])
        keep = np.asarray(allot(jnp.asarray(losses), jnp.asarray(kept), costs, room))
        assert costs @ keep <= room

        def loss(units, losses=losses):
            return sum(losses[i, 5 - k] for i, k in enumerate(units))

        fits = [u for u in itertools.product(range(1, 6), repeat=3) if costs @ u <= room]
        assert loss(keep) == pytest.approx(min(map(loss, fits)), rel=1e-5)


def test_dear_units_are_what_saves_most():
    kept = jnp.broadcast_to(jnp.array([10, 5, 1]), (2, 3))
    losses = jnp.array([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]])
    cheap, dear = sensitivity.allot(losses, kept, jnp.array([1.0, 4.0]), 35.0).tolist()
    assert (cheap, dear) == (10, 6)  # 10 + 24 <= 35, and one more would be 38


@pytest.mark.slow
def test_it_cuts_as_the_scan_did_and_jit_is_like_eager():
    rng = np.random.default_rng(1)
    params = {
        "a": {"kernel": jnp.asarray(rng.normal(size=(6, 8)), jnp.float32)},
        "b": {"kernel": jnp.asarray(rng.integers(-2, 3, (8, 4)), jnp.float32)},  # many ties
    }
    masks = masks_lib.start(params)
    masks["a"]["kernel"] = masks["a"]["kernel"].at[:, 0].set(False)
    scores = jax.tree.map(jnp.abs, params)
    for name in ("weights", "filter", "block"):
        structure = STRUCTURES[name]
        places, alive = sensitivity.ranks(structure, scores, masks)
        keep = {layer: int(count) // 2 for layer, count in alive.items()}
        tried = sensitivity.lowest(structure, places, masks, keep)
        tree_equal(tried, cut(structure, scores, masks, keep))

        def loss(changed):
            kept = masks_lib.apply(changed, params)
            return jnp.sum((kept["a"]["kernel"] @ kept["b"]["kernel"] - 1.0) ** 2)

        def found(room, structure=structure, loss=loss):
            costs = {"a/kernel": 1, "b/kernel": 1}
            return sensitivity.of_masks(structure, scores, masks, loss, costs, room)

        room = sum(map(int, alive.values())) * 2 // 3
        eager, compiled = found(room), jax.jit(found)(room)
        assert {n: int(k) for n, k in eager.items()} == {n: int(k) for n, k in compiled.items()}
        assert sum(map(int, eager.values())) == room


def tree_equal(a, b):
    for name, leaf in named_leaves(a).items():
        np.testing.assert_array_equal(leaf, named_leaves(b)[name], err_msg=name)


def test_work_of_each_layer_and_what_cannot_be_told():
    model = from_linen(MODELS["lenet5"].build(10, "float32"))
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    masks = masks_lib.start(variables["params"])
    macs = sensitivity.macs(model, (28, 28, 1), masks)
    assert set(macs) == set(named_leaves(masks))
    kernel = variables["params"]["conv1"]["kernel"]
    assert macs["conv1/kernel"] == 24 * 24 * kernel.size
    model = from_linen(MODELS["lstm"].build(10, "float32"))
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    masks = masks_lib.start(variables["params"])
    with pytest.raises(UsageError, match=r"^budget macs: the work of .*loop"):
        sensitivity.macs(model, (28, 28, 1), masks)
