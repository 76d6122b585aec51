"""Masks by hand, and what optimizers' states become under them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

from kd_jax.errors import UsageError
from kd_jax.prune import masks as masks_lib
from kd_jax.tree import named_leaves


def _params():
    """Six parameters of 24 + 4 + 12 + 3 + 3 + 10 entries, all different and none zero."""
    shapes = {
        "Conv_0": {"kernel": (3, 2, 4), "bias": (4,)},
        "Dense_0": {"kernel": (4, 3), "bias": (3,)},
        "Embed_0": {"embedding": (5, 2)},
        "LayerNorm_0": {"scale": (3,)},
    }
    random = np.random.default_rng(0)
    draw = lambda shape: jnp.array(random.normal(size=shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


LAYERS = {"Conv_0/kernel": 24, "Dense_0/kernel": 12, "Embed_0/embedding": 10}


def _half_pruned(params):
    masks = masks_lib.start(params)
    scores = jax.tree.map(jnp.abs, params)
    return masks_lib.keep_per_layer(scores, masks, {name: n // 2 for name, n in LAYERS.items()})


def test_start_takes_kernels_and_embeddings_only():
    masks = masks_lib.start(_params())
    assert masks_lib.sizes(masks) == LAYERS
    assert masks["Conv_0"]["bias"] is None
    assert masks["LayerNorm_0"]["scale"] is None
    for mask in jax.tree.leaves(masks):
        assert mask.dtype == bool
        assert mask.all()


def test_start_needs_shapes_alone():
    abstract = jax.tree.map(lambda w: jax.ShapeDtypeStruct(w.shape, w.dtype), _params())
    chex.assert_trees_all_equal(masks_lib.start(abstract), masks_lib.start(_params()))


@pytest.mark.parametrize(
    ("include", "exclude", "layers"),
    [
        (("Conv_.*/kernel",), (), {"Conv_0/kernel"}),
        (("Conv", "Dense"), (), {"Conv_0/kernel", "Dense_0/kernel"}),
        (("kernel$",), (), {"Conv_0/kernel", "Dense_0/kernel"}),
        (("",), ("Embed", "^Conv"), {"Dense_0/kernel"}),
        (masks_lib.DEFAULT_INCLUDE, ("Embed_0/.*", "bias"), {"Conv_0/kernel", "Dense_0/kernel"}),
    ],
)
def test_start_by_pattern(include, exclude, layers):
    assert masks_lib.sizes(masks_lib.start(_params(), include, exclude)).keys() == layers


@pytest.mark.parametrize(
    ("include", "exclude", "fault"),
    [
        (("kernal",), (), "include pattern 'kernal' finds no parameter.*Conv_0/kernel, Dense_0"),
        (("kernel", "typo"), (), "include pattern 'typo'"),
        (("bias",), (), "include pattern 'bias' finds no parameter"),
        (("kernel",), ("Conv_1",), "exclude pattern 'Conv_1' finds no parameter"),
        (("kernel",), ("Conv", "Dense"), "leaves nothing to prune"),
        (("kernel(",), (), "no regular expression"),
    ],
)
def test_start_refuses_a_pattern_that_does_nothing(include, exclude, fault):
    with pytest.raises(UsageError, match=fault):
        masks_lib.start(_params(), include, exclude)


def test_start_says_so_where_nothing_is_prunable():
    with pytest.raises(UsageError, match="rank >= 2 are: none"):
        masks_lib.start({"bias": jnp.ones(3)})


def test_apply_zeroes_the_weights_and_their_gradients():
    params = {"kernel": jnp.array([[1.0, -2], [3, jnp.inf]]), "bias": jnp.array([5.0])}
    masks = {"kernel": jnp.array([[True, False], [True, False]]), "bias": None}
    masked = masks_lib.apply(masks, params)
    np.testing.assert_array_equal(masked["kernel"], [[1, 0], [3, 0]])
    np.testing.assert_array_equal(masked["bias"], [5])
    square = lambda p: optax.tree.norm(masks_lib.apply(masks, p), squared=True)  # noqa: E731
    gradient = jax.grad(square)(params)
    np.testing.assert_array_equal(gradient["kernel"], [[2, 0], [6, 0]])
    np.testing.assert_array_equal(gradient["bias"], [10])


def test_apply_keeps_dtypes_and_passes_where_there_are_no_masks():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), _params())
    masked = masks_lib.apply(_half_pruned(_params()), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(masked, params)
    none = jax.tree.map(lambda _: None, params)
    chex.assert_trees_all_equal(masks_lib.apply(none, params), params)


OPTIMIZERS = {
    "sgd with momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "adamw by mask": optax.adamw(1e-2, mask=lambda p: jax.tree.map(lambda w: w.ndim > 1, p)),
    "chain and clip": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)),
    "two groups": optax.multi_transform(
        {"matrix": optax.adam(1e-2), "vector": optax.sgd(1e-2, momentum=0.9)},
        lambda p: jax.tree.map(lambda w: "matrix" if w.ndim > 1 else "vector", p),
    ),
    "accumulated": optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("container", [dict, FrozenDict])
def test_moments_of_pruned_weights_are_zero_and_nothing_else_changes(name, container):
    params = container(_params())
    state = OPTIMIZERS[name].init(params)
    state = jax.tree.map(lambda x: jnp.full(x.shape, 3, x.dtype), state)  # no zero is there yet
    masks = container(_half_pruned(_params()))
    masked = masks_lib.mask_like(masks, params, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(masked, state)
    moments = 0
    before = named_leaves(state)
    for path, leaf in named_leaves(masked).items():
        layer = next((name for name in LAYERS if path.endswith(f"/{name}")), None)
        expected = np.asarray(before[path])
        if layer is not None:
            expected = np.where(named_leaves(masks)[layer], expected, 0)
            assert np.count_nonzero(expected) == LAYERS[layer] // 2
            moments += 1
        np.testing.assert_array_equal(leaf, expected)
    assert moments in (3, 6, 9)  # one, two or (with the accumulator) three for each layer


def test_an_average_of_weights_is_masked_too():
    params = _params()
    masks = _half_pruned(params)
    extra = {"ema": params, "none": {}}
    masked = masks_lib.mask_like(masks, params, extra)
    chex.assert_trees_all_equal(masked, {"ema": masks_lib.apply(masks, params), "none": {}})


def test_a_nested_leaf_does_not_take_the_mask_of_a_shorter_path():
    params = {"kernel": jnp.ones((2, 2)), "a": {"kernel": jnp.ones((2, 2))}}
    masks = {"kernel": jnp.zeros((2, 2), bool), "a": {"kernel": None}}
    masked = masks_lib.mask_like(masks, params, {"mu": params, "factor": {"kernel": jnp.ones(2)}})
    np.testing.assert_array_equal(masked["mu"]["kernel"], 0)
    np.testing.assert_array_equal(masked["mu"]["a"]["kernel"], 1)
    np.testing.assert_array_equal(masked["factor"]["kernel"], 1)


def test_a_single_array_of_parameters_is_its_own_path():
    params, mask = jnp.ones((2, 2)), jnp.array([[True, False], [True, True]])
    count, moment = masks_lib.mask_like(mask, params, (jnp.int32(3), 5 * params))
    assert count == 3
    np.testing.assert_array_equal(moment, [[5, 0], [5, 5]])


def test_keep_per_layer_by_hand():
    scores = {"a": jnp.array([[0.1, 0.5], [0.5, 0.9]]), "b": jnp.ones((2, 3)), "c": jnp.ones(2)}
    masks = {"a": jnp.ones((2, 2), bool), "b": jnp.ones((2, 3), bool), "c": None}
    kept = masks_lib.keep_per_layer(scores, masks, {"a": 2, "b": 3})
    np.testing.assert_array_equal(kept["a"], [[False, True], [False, True]])
    np.testing.assert_array_equal(kept["b"], [[True, True, True], [False, False, False]])
    assert kept["c"] is None


def test_keep_global_by_hand():
    scores = {"a": jnp.array([[1.0, 2]]), "b": jnp.array([[2.0, 3], [2, 0]])}
    masks = jax.tree.map(lambda x: jnp.ones(x.shape, bool), scores)
    kept = masks_lib.keep_global(scores, masks, 3)  # 3, then the first two of the three 2s
    np.testing.assert_array_equal(kept["a"], [[False, True]])
    np.testing.assert_array_equal(kept["b"], [[True, True], [False, False]])
    one = masks_lib.keep_global(scores, masks, 1)
    assert masks_lib.emptied(one) == ["a"]
    assert masks_lib.emptied(kept) == []


def test_nothing_pruned_comes_back_even_where_more_is_to_be_kept():
    scores = {"a": jnp.array([[9.0, 8, 1, 2]])}
    masks = {"a": jnp.array([[False, False, True, True]])}
    for k, expected in ((1, [[False, False, False, True]]), (2, masks["a"]), (4, masks["a"])):
        np.testing.assert_array_equal(masks_lib.keep_global(scores, masks, k)["a"], expected)
        by_layer = masks_lib.keep_per_layer(scores, masks, {"a": k})
        np.testing.assert_array_equal(by_layer["a"], expected)


@pytest.mark.parametrize(
    ("keep", "fault"),
    [
        ({"a": 1}, "layer 'b/kernel' has no count"),
        ({"a": 1, "b/kernel": 1, "b/kernl": 2}, "'b/kernl' is in keep but.*mean 'b/kernel'"),
    ],
)
def test_keep_per_layer_wants_one_count_a_layer(keep, fault):
    masks = {"a": jnp.ones((2, 2), bool), "b": {"kernel": jnp.ones((2, 2), bool)}}
    with pytest.raises(UsageError, match=fault):
        masks_lib.keep_per_layer(masks, masks, keep)


def test_without_masks_there_is_nothing_to_do():
    params = {"a": jnp.ones((2, 2))}
    none = {"a": None}
    assert masks_lib.keep_global(params, none, 3) == none
    assert masks_lib.keep_per_layer(params, none, {}) == none
    assert masks_lib.below(params, none, 2.0) == none
    assert masks_lib.report(none, params)["sparsity"] == 0


def test_straight_through_hides_weights_but_not_their_gradients():
    params = {"kernel": jnp.array([[1.0, -2], [3, 4]]), "bias": jnp.array([5.0])}
    masks = {"kernel": jnp.array([[True, False], [False, True]]), "bias": None}
    seen = masks_lib.straight_through(masks, params)
    np.testing.assert_array_equal(seen["kernel"], [[1, 0], [0, 4]])
    np.testing.assert_array_equal(seen["bias"], [5])
    square = lambda p: optax.tree.norm(masks_lib.straight_through(masks, p), squared=True) / 2  # noqa: E731
    # By what the loss sees, of a zero zero; and by a sum, of all weights alike.
    chex.assert_trees_all_equal(jax.grad(square)(params), seen)
    total = lambda p: optax.tree.sum(masks_lib.straight_through(masks, p))  # noqa: E731
    chex.assert_trees_all_equal(jax.grad(total)(params), jax.tree.map(jnp.ones_like, params))


def test_only_what_is_kept_of_what_is_prunable():
    tree = {"a": jnp.array([[1.0, 2, 3]]), "b": jnp.array([4.0])}
    masks = {"a": jnp.array([[True, False, True]]), "b": None}
    within = masks_lib.within(masks, tree)
    np.testing.assert_array_equal(within["a"], [[1, 0, 3]])
    np.testing.assert_array_equal(within["b"], [0])


def test_masks_of_some_layers_and_those_of_the_others():
    params = _params()
    masks = _half_pruned(params)
    some = masks_lib.among(masks, params, ("kernel",), ("Conv",))
    assert masks_lib.sizes(some) == {"Dense_0/kernel": 12}
    np.testing.assert_array_equal(some["Dense_0"]["kernel"], masks["Dense_0"]["kernel"])
    few = masks_lib.among(masks, params, ("",), (), lambda name, shape: len(shape) == 3)
    assert masks_lib.sizes(few) == {"Conv_0/kernel": 24}
    full = masks_lib.start(params)
    both = masks_lib.first(some, full)
    assert masks_lib.sizes(both) == LAYERS
    assert masks_lib.pruned(both) == {**dict.fromkeys(LAYERS, 0), "Dense_0/kernel": 6}


def test_splicing_by_hand():
    # θ = 2: gone at 1 or less, back above 4, and in between as they were.
    w = {"a": jnp.array([[1.0, -1.5, 4, -4.5, -0.5, 9]]), "b": jnp.ones(3)}
    splice = lambda mask: masks_lib.splice(w, {"a": mask, "b": None}, {"a": 2.0}, 0.5, 2.0)  # noqa: E731
    kept, back = splice(jnp.ones((1, 6), bool)), splice(jnp.zeros((1, 6), bool))
    assert kept["a"].astype(int).tolist() == [[0, 1, 1, 1, 0, 1]]
    assert back["a"].astype(int).tolist() == [[0, 0, 0, 1, 0, 1]]
    assert kept["b"] is None


def test_below_by_hand():
    params = {"a": jnp.array([[0.1, -0.2, 0.3, -0.4]]), "b": jnp.array([[0.1, jnp.nan]])}
    masks = {"a": jnp.array([[True, True, True, False]]), "b": jnp.ones((1, 2), bool)}
    one = masks_lib.below(params, masks, 0.2)
    np.testing.assert_array_equal(one["a"], [[False, True, True, False]])
    np.testing.assert_array_equal(one["b"], [[False, True]])  # NaN is not below: it must be seen
    each = jax.jit(masks_lib.below)(params, masks, {"a": jnp.float32(0.25), "b": 0.0})
    np.testing.assert_array_equal(each["a"], [[False, False, True, False]])
    np.testing.assert_array_equal(each["b"], [[True, True]])
    assert masks_lib.emptied(masks_lib.below(params, masks, {"a": 1.0, "b": 1.0})) == ["a"]


def test_report_counts_prunable_and_all_parameters_apart():
    params = _params()
    report = masks_lib.report(_half_pruned(params), params)
    assert report["parameters"] == 24 + 4 + 12 + 3 + 10 + 3
    assert report["prunable"] == 46
    assert report["pruned"] == 23
    assert report["sparsity"] == 0.5
    assert report["total_sparsity"] == 23 / 56
    assert report["layers"]["Dense_0/kernel"] == {"size": 12, "pruned": 6, "sparsity": 0.5}
    assert type(report["pruned"]) is int
