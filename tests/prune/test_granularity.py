"""What one decision removes: masks by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.prune import NM, STRUCTURES, Block, Filter, Layer, Row, Weights
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.cut import cut, swap

each_structure = pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES.keys())
SHAPES = [pytest.param((8, 6), marks=pytest.mark.slow), (3, 3, 4, 5)]
SHAPES += [pytest.param((2, 8, 7), marks=pytest.mark.slow)]


def only(structure, scores, count, mask=None):
    """The mask of one layer that keeps so many units."""
    scores = jnp.asarray(scores, jnp.float32)
    masks = {"a": jnp.ones(scores.shape, bool) if mask is None else jnp.asarray(mask)}
    return np.asarray(cut(structure, {"a": scores}, masks, {"a": count})["a"]).astype(int)


def test_two_of_four_along_the_inputs():
    scores = np.array([[1, 5, 2, 2], [3, 4, 2, 9], [2, 1, 2, 8], [9, 0, 2, 7], [1, 1, 1, 1]])[:4]
    assert only(NM(2, 4), scores, 2).tolist() == [
        [0, 1, 1, 0],
        [1, 1, 1, 1],
        [0, 0, 0, 1],
        [1, 0, 0, 0],
    ]
    # Groups of two: the first two inputs of each output, and the last two.
    assert only(NM(1, 2), scores, 1).tolist() == [
        [0, 1, 1, 0],
        [1, 0, 0, 1],
        [0, 1, 1, 1],
        [1, 0, 0, 0],
    ]


def test_groups_lie_along_the_input_channels_of_a_convolution():
    scores = jax.random.uniform(jax.random.key(0), (3, 3, 8, 5))
    mask = only(NM(2, 4), scores, 2)
    assert mask.reshape(3, 3, 2, 4, 5).sum(axis=3).tolist() == np.full((3, 3, 2, 5), 2).tolist()
    kept = np.where(mask, scores, np.inf).reshape(3, 3, 2, 4, 5).min(axis=3)
    gone = np.where(mask, -np.inf, scores).reshape(3, 3, 2, 4, 5).max(axis=3)
    assert (kept > gone).all()


def test_a_group_keeps_what_it_has_left_and_nan_is_lowest():
    scores = np.array([[5.0], [np.nan], [1.0], [-np.inf]])
    assert only(NM(2, 4), scores, 2).ravel().tolist() == [1, 0, 1, 0]
    dead = np.array([[False], [True], [False], [True]])
    assert only(NM(2, 4), scores, 3, dead).ravel().tolist() == [0, 1, 0, 1]
    assert only(NM(2, 4), scores, 1, dead).ravel().tolist() == [0, 1, 0, 0]


def test_layers_that_do_not_divide_are_refused_or_left_out():
    with pytest.raises(
        UsageError, match=r"structure\.m 4 does not divide the 6 inputs of b/kernel"
    ):
        NM(2, 4).fits("b/kernel", (6, 8))
    assert not NM(2, 4, skip=True).fits("b/kernel", (6, 8))
    assert NM(2, 4).fits("b/kernel", (3, 3, 8, 2))
    params = {"a": {"kernel": jnp.ones((8, 2))}, "b": {"kernel": jnp.ones((6, 2))}}
    masks = masks_lib.start(params, fits=NM(skip=True).fits)
    assert masks["b"]["kernel"] is None
    assert masks["a"]["kernel"].shape == (8, 2)


def test_blocks_by_mean_and_by_max():
    scores = np.array([[1, 1, 9, 0, 3], [1, 1, 0, 0, 3], [2, 2, 2, 2, 1]])
    # Means of blocks of 2 x 2, the last ones smaller: 1, 2.25, 3; 2, 2, 1.
    block = Block(rows=2, columns=2)
    np.testing.assert_allclose(
        block.scored(jnp.asarray(scores, jnp.float32)), [[1, 2.25, 3], [2, 2, 1]]
    )
    assert only(block, scores, 3).tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]
    highest = Block(rows=2, columns=2, pool="max")
    assert only(highest, scores, 2).tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    negative = highest.scored(-jnp.asarray(scores, jnp.float32))
    np.testing.assert_allclose(negative, [[-1, 0, -3], [-2, -2, -1]])


def test_blocks_of_one_are_weights():
    scores = jax.random.normal(jax.random.key(0), (3, 5))
    np.testing.assert_array_equal(only(Block(1, 1), scores, 7), only(Weights(), scores, 7))
    flat = only(Block(1, 5), scores, 2)
    np.testing.assert_array_equal(flat, only(Row(), scores, 2))


def test_filters_and_rows():
    scores = np.arange(2 * 3 * 4).reshape(2, 3, 4) % 7
    # Sums of outputs: (0+4+1)+(5+2+6), 1+5+2+6+3+0, 2+6+3+0+4+1, 3+0+4+1+5+2
    assert scores.sum(axis=(0, 1)).tolist() == [18, 17, 16, 15]
    np.testing.assert_array_equal(
        only(Filter(), scores, 2), np.broadcast_to([1, 1, 0, 0], (2, 3, 4))
    )
    assert scores.sum(axis=(0, 2)).tolist() == [18, 29, 19]
    rows = np.broadcast_to(np.array([0, 1, 0])[:, None], (2, 3, 4))
    np.testing.assert_array_equal(only(Row(), scores, 1), rows)
    assert Filter(pool="max").scored(jnp.asarray(scores, jnp.float32)).tolist() == [6, 6, 6, 5]


def test_whole_layers_by_hand():
    """Of three layers the one of the lowest mean goes, or of the lowest maximum."""
    scores = {"a": jnp.array([[9.0, 0], [0, 0]]), "b": jnp.full((2, 3), 2.0), "c": jnp.eye(3)}
    masks = jax.tree.map(lambda s: jnp.ones(s.shape, bool), scores)
    for pool, gone in (("mean", "c"), ("max", "c")):
        kept = cut(Layer(pool), scores, masks, 2)
        assert {name: bool(mask.all()) for name, mask in kept.items()} == {
            name: name != gone for name in scores
        }
        assert not kept[gone].any()
    assert [n for n, m in cut(Layer("mean"), scores, masks, 1).items() if m.any()] == ["a"]
    low = {**scores, "a": jnp.array([[0.5, 0.5], [0.5, 0.5]])}
    assert not cut(Layer("max"), low, masks, 2)["a"].any()
    assert not cut(Layer("mean"), low, masks, 2)["c"].any()


@each_structure
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_counts_are_exact_with_ties_and_what_is_gone_stays_gone(structure, shape):
    size = structure.size(shape)
    start = jnp.ones(shape, bool)
    for scores in (jnp.ones(shape), jax.random.normal(jax.random.key(1), shape)):
        mask = start
        if not structure.fits("x", (1, 4, 1)) or shape[-2] % 4:
            continue
        for count in (size, max(1, size // 2), 1):
            new = cut(structure, {"a": scores}, {"a": mask}, {"a": count})["a"]
            assert int(structure.alive(new)) == count
            assert not jnp.any(new & ~mask)
            mask = new


@each_structure
def test_a_count_of_all_is_the_mask_itself(structure):
    mask = jax.random.bernoulli(jax.random.key(2), 0.5, (8, 8))
    scores = jax.random.normal(jax.random.key(3), (8, 8))
    new = cut(structure, {"a": scores}, {"a": mask}, {"a": structure.size((8, 8))})["a"]
    np.testing.assert_array_equal(new, mask)


# Over several layers

LAYERS = {"a": jnp.array([[1.0, 2, 3, 4]]), "b": jnp.array([[10.0, 20, 30, 40]])}
ALL = jax.tree.map(lambda x: jnp.ones(x.shape, bool), LAYERS)


@pytest.mark.parametrize(
    ("normalise", "a", "b"),
    [
        ("none", [0, 0, 0, 0], [1, 1, 1, 1]),
        # a and b are the same but for a factor, and ties go to the earlier layer
        ("l2", [0, 0, 1, 1], [0, 0, 1, 1]),
        ("mean", [0, 0, 1, 1], [0, 0, 1, 1]),
    ],
)
def test_layers_compared_by_their_share(normalise, a, b):
    masks = cut(Weights(), LAYERS, ALL, 4, normalise)
    assert masks["a"].astype(int).tolist() == [a]
    assert masks["b"].astype(int).tolist() == [b]


def kept_of(scores, count, normalise, masks=None):
    layers = {name: jnp.array([score], jnp.float32) for name, score in scores.items()}
    full = {name: jnp.ones(layer.shape, bool) for name, layer in layers.items()}
    masks = cut(Weights(), layers, full | (masks or {}), count, normalise)
    return {name: mask.astype(int).tolist()[0] for name, mask in masks.items()}


def test_a_share_of_a_length_is_less_in_a_larger_layer_and_that_of_a_mean_is_not():
    layers = {"a": [1, 1, 1, 1], "b": [1, 1]}
    # Shares of ½ and of √½; all of them 1, and ties go to the earlier layer.
    assert kept_of(layers, 2, "l2") == {"a": [0, 0, 0, 0], "b": [1, 1]}
    assert kept_of(layers, 2, "mean") == {"a": [1, 1, 0, 0], "b": [0, 0]}
    # What is gone has no part in either.
    gone = {"a": jnp.array([[True, False, False, False]])}
    for normalise in ("l2", "mean"):
        found = kept_of({"a": [2, 9, 9, 9], "b": [4, 3]}, 2, normalise, gone)
        assert found == {"a": [1, 0, 0, 0], "b": [1, 0]}


@pytest.mark.parametrize("normalise", ["l2", "mean"])
def test_scores_below_zero_count_by_their_size(normalise):
    # By the mean 1.5, −1.5, 0.5, −0.5 and 1.33, 0.67; by the length 0.67, ..., 0.22 and 0.89, 0.45.
    found = kept_of({"a": [3, -3, 1, -1], "b": [4, 2]}, 2, normalise)
    assert found == {"a": [1, 0, 0, 0], "b": [1, 0]}


def test_some_layers_by_their_own_count_and_the_others_together():
    layers = LAYERS | {"c": jnp.array([[5.0, 15]])}
    masks = jax.tree.map(lambda x: jnp.ones(x.shape, bool), layers)
    masks = cut(Weights(), layers, masks, ({"b": 1}, 2))
    assert {n: m.astype(int).tolist()[0] for n, m in masks.items()} == {
        "a": [0, 0, 0, 0],
        "b": [0, 0, 0, 1],
        "c": [1, 1],
    }


def test_a_swap_loses_the_lowest_and_grows_the_highest():
    masks = {"a": jnp.array([[True, True, True, True, False, False, False, False]])}
    scores = {"a": jnp.array([[4.0, 1, 3, 2, 0, 0, 0, 0]])}
    growth = {"a": jnp.array([[9.0, 5, 9, 1, 4, 6, 7, 6]])}
    new = swap(Weights(), scores, growth, masks, 0.5)["a"]
    # 1 and 2 go; 7 and the first 6 come. Those that stayed don't count, though their growth is 9.
    assert new.astype(int).tolist() == [[1, 0, 1, 0, 0, 1, 1, 0]]
    # What was just lost may come back at once.
    back = swap(Weights(), scores, growth | {"a": growth["a"].at[0, 1].set(8)}, masks, 0.5)["a"]
    assert back.astype(int).tolist() == [[1, 1, 1, 0, 0, 0, 1, 0]]
    same = swap(Weights(), scores, growth, masks, 0.2)["a"]  # less than one
    np.testing.assert_array_equal(same, masks["a"])


def test_a_swap_of_filters_leaves_what_is_masked_within_them():
    mask = jnp.array([[True, True, False], [False, True, False]])
    scores, growth = jnp.array([[3.0, 2, 0], [3, 2, 0]]), jnp.ones((2, 3))
    same = swap(Filter(), {"a": scores}, {"a": growth}, {"a": mask}, 0.0)["a"]
    np.testing.assert_array_equal(same, mask)
    new = swap(Filter(), {"a": scores}, {"a": growth.at[:, 1].set(0)}, {"a": mask}, 0.5)["a"]
    assert new.astype(int).tolist() == [[1, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: NM(4, 4), "NM.n is 4: it must be at least 1 and at most 3"),
        (lambda: NM(1, 1), "NM.n is 1"),
        (lambda: Block(rows=0), "Block.rows is 0"),
        (lambda: Block(columns=0), "Block.columns is 0"),
    ],
)
def test_a_bad_value_is_refused_by_name(call, fault):
    with pytest.raises(UsageError, match=fault):
        call()
