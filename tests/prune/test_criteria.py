"""What every criterion must do, in each scope and at each target. A new one joins by its line in
CRITERIA."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.prune import CRITERIA, allocate
from kd_jax.prune import masks as masks_lib
from kd_jax.tree import named_leaves

SHAPES = {
    "Conv_0": {"kernel": (3, 3, 2, 5), "bias": (5,)},
    "Dense_0": {"kernel": (45, 8)},
    "Dense_1": {"kernel": (8, 3)},
    "Norm_0": {"scale": (5,)},
}
TARGETS = (0.0, 0.1, 0.5, 0.9, 0.987)
KEEP = {  # n − round(n·s) of n = 90, 360, 24 and of their sum, worked out by hand
    0.0: ((90, 360, 24), 474),
    0.1: ((81, 324, 22), 427),
    0.5: ((45, 180, 12), 237),
    0.9: ((9, 36, 2), 47),
    0.987: ((1, 5, 1), 6),
}

each_criterion = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA.keys())
each_scope = pytest.mark.parametrize("scope", ["layer", "global", "threshold"])


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _params(seed=0):
    random = np.random.default_rng(seed)
    draw = lambda shape: jnp.array(random.normal(size=shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def _inputs(seed=0):
    """params, gradients, key."""
    return _params(seed), _params(seed + 100), jax.random.key(seed)


def _counts(masks):
    gone = masks_lib.pruned(masks)
    return tuple(n - gone[name] for name, n in masks_lib.sizes(masks).items())


def _cut(scope, scores, masks, sparsity):
    """Masks at the target. By threshold, the scores stand for the weights."""
    sizes = masks_lib.sizes(masks)
    if scope == "layer":
        return masks_lib.keep_per_layer(scores, masks, allocate.per_layer(sizes, sparsity))
    keep = allocate.total(sizes, sparsity)
    if scope == "global":
        return masks_lib.keep_global(scores, masks, keep)
    weights = [named_leaves(scores)[name].ravel() for name in sizes]
    ordered = jnp.sort(jnp.abs(jnp.concatenate(weights)))
    return masks_lib.below(scores, masks, ordered[ordered.size - keep])


@each_criterion
@each_scope
@pytest.mark.parametrize("sparsity", TARGETS)
def test_sparsity_is_exactly_the_target(criterion, scope, sparsity):
    inputs = _inputs()
    scores = criterion(*inputs)
    chex.assert_trees_all_equal_shapes(scores, inputs[0])
    start = masks_lib.start(inputs[0])
    masks = _cut(scope, scores, start, sparsity)
    is_none = lambda m: m is None  # noqa: E731
    assert jax.tree.structure(masks, is_leaf=is_none) == jax.tree.structure(inputs[0])
    assert masks["Conv_0"]["bias"] is None
    assert masks["Norm_0"]["scale"] is None
    by_layer, total = KEEP[sparsity]
    assert sum(_counts(masks)) == (sum(by_layer) if scope == "layer" else total)
    if scope == "layer":
        assert _counts(masks) == by_layer
    masked = masks_lib.apply(masks, inputs[0])
    zeros = sum(int(jnp.sum(w == 0)) for w in jax.tree.leaves(masked))
    assert zeros == sum(masks_lib.pruned(masks).values())


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", TARGETS)
def test_ties_are_broken_by_index_and_counts_stay_exact(scope, sparsity):
    params = jax.tree.map(jnp.ones_like, _params())
    scores = CRITERIA["magnitude"](params, None, jax.random.key(0))
    masks = _cut(scope, scores, masks_lib.start(params), sparsity)
    by_layer, total = KEEP[sparsity]
    flat = [np.asarray(m).ravel() for m in jax.tree.leaves(masks)]
    for kept in flat if scope == "layer" else [np.concatenate(flat)]:
        assert (np.diff(kept.astype(int)) <= 0).all()  # all that is kept comes first
    assert sum(map(np.sum, flat)) == (sum(by_layer) if scope == "layer" else total)


@each_criterion
@each_scope
def test_what_is_pruned_never_comes_back(criterion, scope):
    masks = masks_lib.start(_params())
    for i, sparsity in enumerate(TARGETS):
        # Other weights each time, as after retraining: what was cut may now score highest.
        scores = criterion(*_inputs(i))
        if scope == "threshold":
            after = masks_lib.below(scores, masks, 0.1 * i)
        else:
            after = _cut(scope, scores, masks, sparsity)
            assert sum(_counts(after)) == (
                sum(KEEP[sparsity][0]) if scope == "layer" else KEEP[sparsity][1]
            )
        revived = jax.tree.map(lambda old, new: jnp.any(new & ~old), masks, after)
        assert not any(jax.tree.leaves(revived))
        masks = after
    assert sum(_counts(masks)) < 474


@each_criterion
def test_scores_are_the_same_under_jit_and_in_each_vmapped_seed(criterion):
    inputs = [_inputs(seed) for seed in range(3)]
    eager = [criterion(*x) for x in inputs]
    chex.assert_trees_all_close(jax.jit(criterion)(*inputs[0]), eager[0], rtol=1e-6)
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    together = jax.vmap(criterion)(*map(stack, zip(*inputs, strict=True)))
    chex.assert_trees_all_close(together, stack(eager), rtol=1e-6)


@each_criterion
@each_scope
def test_masks_are_the_same_under_jit_and_in_each_vmapped_seed(criterion, scope):
    params = [_params(seed) for seed in range(3)]
    start = masks_lib.start(params[0])

    def cut(params, key, target):
        scores = criterion(params, params, key)
        if scope == "layer":
            return masks_lib.keep_per_layer(scores, start, target)
        if scope == "global":
            return masks_lib.keep_global(scores, start, target)
        return masks_lib.below(scores, start, target)

    sizes = masks_lib.sizes(start)
    target = {
        "layer": allocate.per_layer(sizes, 0.7),
        "global": allocate.total(sizes, 0.7),
        "threshold": 0.4,
    }[scope]
    keys = jax.random.split(jax.random.key(1), 3)
    eager = [cut(p, key, target) for p, key in zip(params, keys, strict=True)]
    chex.assert_trees_all_equal(jax.jit(cut)(params[0], keys[0], target), eager[0])
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    together = jax.vmap(cut, in_axes=(0, 0, None))(stack(params), keys, target)
    chex.assert_trees_all_equal(together, stack(eager))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_many_targets_run_in_one_program(scope):
    params = _params()
    masks, sizes = masks_lib.start(params), masks_lib.sizes(masks_lib.start(params))
    scores = CRITERIA["magnitude"](params, None, jax.random.key(0))
    allocation, keep = {
        "layer": (allocate.per_layer, masks_lib.keep_per_layer),
        "global": (allocate.total, masks_lib.keep_global),
    }[scope]
    counts = [allocation(sizes, s) for s in TARGETS]
    stacked = jax.tree.map(lambda *xs: jnp.array(xs, jnp.int32), *counts)
    together = jax.jit(jax.vmap(keep, in_axes=(None, None, 0)))(scores, masks, stacked)
    for i, count in enumerate(counts):
        one = jax.tree.map(lambda m, i=i: m[i], together)
        chex.assert_trees_all_equal(one, keep(scores, masks, count))


@each_criterion
def test_gradients_are_asked_for_only_where_declared(criterion):
    params, _, key = _inputs()
    if not criterion.needs_grads:
        chex.assert_trees_all_equal(criterion(params, None, key), criterion(*_inputs()))


def test_magnitude_is_the_absolute_weight():
    scores = CRITERIA["magnitude"]({"a": jnp.array([[-3.0, 2]])}, None, jax.random.key(0))
    np.testing.assert_array_equal(scores["a"], [[3, 2]])


def test_random_depends_on_key_and_name_and_not_on_weights():
    random = CRITERIA["random"]
    key = jax.random.key(3)
    ones = {"a": jnp.ones((4, 5)), "b": jnp.ones((4, 5))}
    scores = random(ones, None, key)
    chex.assert_trees_all_equal(scores, random(jax.tree.map(lambda w: 7 * w, ones), None, key))
    assert jnp.all(scores["a"] != scores["b"])
    assert jnp.all(scores["a"] != random(ones, None, jax.random.key(4))["a"])
    alone = random({"b": ones["b"]}, None, key)
    np.testing.assert_array_equal(alone["b"], scores["b"])
    assert jnp.all((scores["a"] >= 0) & (scores["a"] < 1))
