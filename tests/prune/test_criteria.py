"""What every criterion must do, by each allocation and at each target. A new one joins by its line
in CRITERIA."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but

from kd_jax.errors import UsageError
from kd_jax.prune import (
    CRITERIA,
    OBD,
    SNIP,
    Evidence,
    Fisher,
    GraSP,
    Learned,
    SparseGPT,
    SynFlow,
    Taylor,
    Wanda,
    allocate,
    evidence,
)
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.activations import input_squares
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


def some_criteria(*fast):
    """All of them, those but some by the slow tests alone: what needs programs of its own, and has
    little to do with which criterion it is."""
    each = [
        pytest.param(criterion, id=name, marks=[pytest.mark.slow] * (name not in fast))
        for name, criterion in CRITERIA.items()
    ]
    return pytest.mark.parametrize("criterion", each)


ALLOCATIONS = ("layer", "global", "threshold")
each_allocation = pytest.mark.parametrize("allocation", ALLOCATIONS)


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _params(seed=0):
    random = np.random.default_rng(seed)
    draw = lambda shape: jnp.array(random.normal(size=shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def _network(params, collections, inputs, train):
    """3 logits of inputs [B, 4, 4, 2]: all parameters take part."""
    del collections, train
    kernel = params["Conv_0"]["kernel"]
    x = jax.lax.conv_general_dilated(
        inputs, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    shift, scale = (
        p[None, None, None] for p in (params["Conv_0"]["bias"], params["Norm_0"]["scale"])
    )
    x = jax.nn.leaky_relu((x + shift) * scale, 0.3)
    x = jnp.concatenate([x.reshape(x.shape[0], -1)] * 3, axis=1)[:, :45]
    return jax.nn.leaky_relu(x @ params["Dense_0"]["kernel"], 0.3) @ params["Dense_1"]["kernel"]


def _evidence(params, key):
    random = np.random.default_rng(7)
    inputs = tuple(jnp.array(random.normal(size=(6, 4, 4, 2)), jnp.float32) for _ in range(2))
    targets = tuple(jax.nn.one_hot(jnp.arange(6) % 3, 3) for _ in range(2))

    def loss_of(inputs, targets):
        say = lambda p: jax.nn.log_softmax(_network(p, {}, inputs, True))  # noqa: E731
        return lambda p: -jnp.mean(jnp.sum(targets * say(p), axis=-1))

    return Evidence(
        params=params,
        masks=masks_lib.start(params),
        key=key,
        losses=tuple(map(loss_of, inputs, targets)),
        inputs=inputs,
        targets=targets,
        network=_network,
        shape=(4, 4, 2),
    )


def _inputs(seed=0):
    """params, key."""
    return _params(seed), jax.random.key(seed)


@functools.cache
def _program(criterion):
    def scores(*inputs):
        return criterion(_taught(criterion, _evidence(*inputs)))

    return jax.jit(scores)


def _taught(criterion, seen):
    """The evidence with what the criterion might have learned, if it learns."""
    if not isinstance(criterion, Learned):
        return seen
    begun = criterion.start(seen.params, seen.masks, seen.structure, seen.key)
    waves = {name: jnp.arange(s.size, dtype=jnp.float32) + s.size / 3 for name, s in begun.items()}
    learned = {name: s + jnp.sin(waves[name]).reshape(s.shape) for name, s in begun.items()}
    return dataclasses.replace(seen, learned=learned)


def _scored(criterion, *inputs):
    return _program(criterion)(*inputs)


def _counts(masks):
    gone = masks_lib.pruned(masks)
    return tuple(n - gone[name] for name, n in masks_lib.sizes(masks).items())


def _cut(allocation, scores, masks, sparsity):
    """Masks at the target. By threshold, the scores stand for the weights."""
    sizes = masks_lib.sizes(masks)
    if allocation == "layer":
        return masks_lib.keep_per_layer(scores, masks, allocate.per_layer(sizes, sparsity))
    keep = allocate.total(sizes, sparsity)
    if allocation == "global":
        return masks_lib.keep_global(scores, masks, keep)
    weights = [named_leaves(scores)[name].ravel() for name in sizes]
    ordered = jnp.sort(jnp.abs(jnp.concatenate(weights)))
    return masks_lib.below(scores, masks, ordered[ordered.size - keep])


@each_criterion
@each_allocation
@pytest.mark.parametrize("sparsity", TARGETS)
def test_sparsity_is_exactly_the_target(criterion, allocation, sparsity):
    if allocation == "threshold" and isinstance(criterion, Wanda):
        criterion = Wanda(within="layer")  # ranks are equal in all outputs, and thresholds cut ties
    inputs = _inputs()
    scores = _scored(criterion, *inputs)
    chex.assert_trees_all_equal_shapes(scores, inputs[0])
    start = masks_lib.start(inputs[0])
    masks = _cut(allocation, scores, start, sparsity)
    is_none = lambda m: m is None  # noqa: E731
    assert jax.tree.structure(masks, is_leaf=is_none) == jax.tree.structure(inputs[0])
    assert masks["Conv_0"]["bias"] is None
    assert masks["Norm_0"]["scale"] is None
    by_layer, total = KEEP[sparsity]
    assert sum(_counts(masks)) == (sum(by_layer) if allocation == "layer" else total)
    if allocation == "layer":
        assert _counts(masks) == by_layer
    masked = masks_lib.apply(masks, inputs[0])
    zeros = sum(int(jnp.sum(w == 0)) for w in jax.tree.leaves(masked))
    assert zeros == sum(masks_lib.pruned(masks).values())


@pytest.mark.parametrize("allocation", ["layer", "global"])
@pytest.mark.parametrize("sparsity", TARGETS)
def test_ties_are_broken_by_index_and_counts_stay_exact(allocation, sparsity):
    params = jax.tree.map(jnp.ones_like, _params())
    scores = _scored(CRITERIA["magnitude"], params, jax.random.key(0))
    masks = _cut(allocation, scores, masks_lib.start(params), sparsity)
    by_layer, total = KEEP[sparsity]
    flat = [np.asarray(m).ravel() for m in jax.tree.leaves(masks)]
    for kept in flat if allocation == "layer" else [np.concatenate(flat)]:
        assert (np.diff(kept.astype(int)) <= 0).all()  # all that is kept comes first
    assert sum(map(np.sum, flat)) == (sum(by_layer) if allocation == "layer" else total)


@each_criterion
@each_allocation
def test_what_is_pruned_never_comes_back(criterion, allocation):
    masks = masks_lib.start(_params())
    for i, sparsity in enumerate(TARGETS):
        # Other weights each time, as after retraining: what was cut may now score highest.
        scores = _scored(criterion, *_inputs(i))
        if allocation == "threshold":
            after = masks_lib.below(scores, masks, 0.1 * i)
        else:
            after = _cut(allocation, scores, masks, sparsity)
            assert sum(_counts(after)) == (
                sum(KEEP[sparsity][0]) if allocation == "layer" else KEEP[sparsity][1]
            )
        revived = jax.tree.map(lambda old, new: jnp.any(new & ~old), masks, after)
        assert not any(jax.tree.leaves(revived))
        masks = after
    assert sum(_counts(masks)) < 474


def close(criterion, *scores):
    # SparseGPT inverts matrices of a condition of 3,000, and processors sum in other orders.
    rtol = 2e-3 if isinstance(criterion, SparseGPT) else 1e-4
    chex.assert_trees_all_close(*scores, rtol=rtol, atol=1e-6)


@some_criteria("magnitude", "taylor")
def test_scores_are_the_same_under_jit(criterion):
    inputs = _inputs()
    close(criterion, criterion(_taught(criterion, _evidence(*inputs))), _scored(criterion, *inputs))


@each_criterion
def test_scores_are_the_same_in_each_vmapped_seed(criterion):
    inputs = [_inputs(seed) for seed in range(3)]
    score = _program(criterion)
    apart = [score(*x) for x in inputs]
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    found = jax.vmap(score)(*map(stack, zip(*inputs, strict=True)))
    close(criterion, found, stack(apart))


@some_criteria("magnitude", "fisher", "wanda")
@pytest.mark.parametrize(
    "allocation",
    slow_but(["global"], ALLOCATIONS),
)
def test_masks_are_the_same_under_jit_and_in_each_vmapped_seed(criterion, allocation):
    params = [_params(seed) for seed in range(3)]
    start = masks_lib.start(params[0])

    def cut(params, key, target):
        scores = _scored(criterion, params, key)
        if allocation == "layer":
            return masks_lib.keep_per_layer(scores, start, target)
        if allocation == "global":
            return masks_lib.keep_global(scores, start, target)
        return masks_lib.below(scores, start, target)

    sizes = masks_lib.sizes(start)
    target = {
        "layer": allocate.per_layer(sizes, 0.7),
        "global": allocate.total(sizes, 0.7),
        "threshold": 0.4,
    }[allocation]
    keys = jax.random.split(jax.random.key(1), 3)
    apart = [jax.jit(cut)(p, key, target) for p, key in zip(params, keys, strict=True)]
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    together = jax.jit(jax.vmap(cut, in_axes=(0, 0, None)))(stack(params), keys, target)
    chex.assert_trees_all_equal(together, stack(apart))


@pytest.mark.parametrize("allocation", ["layer", "global"])
def test_many_targets_run_in_one_program(allocation):
    params = _params()
    masks, sizes = masks_lib.start(params), masks_lib.sizes(masks_lib.start(params))
    scores = _scored(CRITERIA["magnitude"], params, jax.random.key(0))
    rule, keep = {
        "layer": (allocate.per_layer, masks_lib.keep_per_layer),
        "global": (allocate.total, masks_lib.keep_global),
    }[allocation]
    counts = [rule(sizes, s) for s in TARGETS]
    stacked = jax.tree.map(lambda *xs: jnp.array(xs, jnp.int32), *counts)
    together = jax.jit(jax.vmap(keep, in_axes=(None, None, 0)))(scores, masks, stacked)
    for i, count in enumerate(counts):
        one = jax.tree.map(lambda m, i=i: m[i], together)
        chex.assert_trees_all_equal(one, keep(scores, masks, count))


@each_criterion
def test_data_are_asked_for_only_where_declared(criterion):
    params, key = _inputs()
    bare = _taught(criterion, _evidence(params, key))
    if not criterion.looks_at:
        blind = dataclasses.replace(bare, losses=(), inputs=(), targets=())
        chex.assert_trees_all_equal(criterion(blind), criterion(bare))


def test_magnitude_is_the_absolute_weight():
    scores = CRITERIA["magnitude"](Evidence({"a": jnp.array([[-3.0, 2]])}, None, None))
    np.testing.assert_array_equal(scores["a"], [[3, 2]])


def test_random_depends_on_key_and_name_and_not_on_weights():
    random = lambda params, key: CRITERIA["random"](Evidence(params, None, key))  # noqa: E731
    key = jax.random.key(3)
    ones = {"a": jnp.ones((4, 5)), "b": jnp.ones((4, 5))}
    scores = random(ones, key)
    chex.assert_trees_all_equal(scores, random(jax.tree.map(lambda w: 7 * w, ones), key))
    assert jnp.all(scores["a"] != scores["b"])
    assert jnp.all(scores["a"] != random(ones, jax.random.key(4))["a"])
    alone = random({"b": ones["b"]}, key)
    np.testing.assert_array_equal(alone["b"], scores["b"])
    many = random({f"Dense_{i}": jnp.ones(()) for i in range(50)}, key)
    assert len({float(score) for score in many.values()}) == 50
    assert jnp.all((scores["a"] >= 0) & (scores["a"] < 1))


# By hand: logits x W V of one example x = (1, 2), two hidden units, two classes.

W, V = np.array([[1.0, -2.0], [0.5, 1.0]]), np.array([[1.0, -1.0], [2.0, 0.5]])
X, Y = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]])


def _linear(w, v, softened=1.0):
    """Of the two-layer linear net in double precision: its loss."""
    z = X @ w @ v / softened
    return float(np.log(np.exp(z).sum()) - (z * Y).sum())


def _differences(function, at, step=1e-4):
    """The gradient of a function of an array, by central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        unit = np.zeros_like(at)
        unit[place] = step
        found[place] = (function(at + unit) - function(at - unit)) / (2 * step)
    return found


def _of_linear(masks=None):
    params = {"v": jnp.array(V, jnp.float32), "w": jnp.array(W, jnp.float32)}
    x, y = jnp.array(X, jnp.float32), jnp.array(Y, jnp.float32)
    network = lambda p, collections, inputs, train: inputs @ p["w"] @ p["v"]  # noqa: E731
    loss = lambda p: -jnp.sum(y * jax.nn.log_softmax(x @ p["w"] @ p["v"]))  # noqa: E731
    masks = masks or jax.tree.map(lambda w: jnp.ones(w.shape, bool), params)
    given = {"losses": (loss,), "inputs": (x,), "targets": (y,), "network": network}
    return Evidence(params, masks, None, **given, shape=(2,))


def _gradients(softened=1.0):
    of_w = _differences(lambda w: _linear(w, V, softened), W)
    return of_w, _differences(lambda v: _linear(W, v, softened), V)


def test_taylor_and_snip_by_hand():
    of_w, of_v = _gradients()
    w, v = np.abs(W * of_w), np.abs(V * of_v)
    # x W = (2, 0), so z = (2, -2), p = (1/(1+e⁻⁴), ...) and dz = p - y = (-q, q).
    q = 1 / (1 + np.exp(4.0))
    np.testing.assert_allclose(of_v, [[-2 * q, 2 * q], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(of_w, np.outer([1, 2], [-2 * q, -1.5 * q]), atol=1e-6)
    taylor, snip = Taylor()(_of_linear()), SNIP()(_of_linear())
    np.testing.assert_allclose(taylor["w"], w, rtol=1e-3)
    np.testing.assert_allclose(taylor["v"], v, rtol=1e-3, atol=1e-6)
    total = w.sum() + v.sum()
    np.testing.assert_allclose(snip["w"], w / total, rtol=1e-3)
    assert sum(jnp.sum(s) for s in snip.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("softened", [1.0, 5.0])
def test_grasp_is_what_the_gradient_norm_loses(softened):
    """w ⊙ Hg is half the derivative of |g|² by a factor before each weight."""

    def norm(w, v):
        of_w = _differences(lambda w: _linear(w, v, softened), w)
        of_v = _differences(lambda v: _linear(w, v, softened), v)
        return np.sum(of_w**2) + np.sum(of_v**2)

    scores = GraSP(temperature=softened)(_of_linear())
    by_w = W * _differences(lambda w: norm(w, V), W) / 2
    by_v = V * _differences(lambda v: norm(W, v), V) / 2
    np.testing.assert_allclose(scores["w"], by_w, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scores["v"], by_v, rtol=1e-3, atol=1e-6)


def test_synflow_by_hand():
    """R = 1ᵀ|W||V|1 with |W| = (1 2; ½ 1) and |V| = (1 1; 2 ½): a weight's score is the sum over
    the paths through it."""
    scores = SynFlow()(_of_linear())
    np.testing.assert_allclose(scores["w"], [[2.0, 5.0], [1.0, 2.5]], rtol=1e-6)
    np.testing.assert_allclose(scores["v"], [[1.5, 1.5], [6.0, 1.5]], rtol=1e-6)


def test_synflow_of_a_deep_network_fits_into_float32():
    """40 layers of 30 units multiply the flow by 30⁴⁰ = 10⁵⁹; every weight has an equal share."""
    params = {str(i): jnp.ones((30, 30)) for i in range(40)}

    def network(params, collections, inputs, train):
        for w in params.values():
            inputs = inputs @ w
        return inputs

    scores = SynFlow()(Evidence(params, None, None, network=network, shape=(30,)))
    for score in scores.values():
        np.testing.assert_allclose(score, scores["0"], rtol=1e-5)
    assert 0 < scores["0"][0, 0] < np.inf


def test_fisher_by_hand():
    of_w, of_v = _gradients()
    scores = Fisher()(_of_linear())
    np.testing.assert_allclose(scores["w"], W**2 * of_w**2, rtol=1e-3)
    np.testing.assert_allclose(scores["v"], V**2 * of_v**2, rtol=1e-3, atol=1e-9)


def test_obd_is_the_curvature_where_the_output_is_linear_in_the_weight():
    """There Gauss-Newton is the Hessian itself: second differences of the loss."""

    def second(at, place, loss, step=1e-3):
        unit = np.zeros_like(at)
        unit[place] = step
        return (loss(at + unit) - 2 * loss(at) + loss(at - unit)) / step**2

    scores = OBD()(_of_linear())
    for name, at, loss in (
        ("w", W, lambda w: _linear(w, V)),
        ("v", V, lambda v: _linear(W, v)),
    ):
        for place in np.ndindex(at.shape):
            h = second(at, place, loss)
            expected = h * at[place] ** 2 / 2
            np.testing.assert_allclose(scores[name][place], expected, rtol=1e-3, atol=1e-7)


def test_obd_finds_the_weight_whose_loss_costs_least_by_brute_force():
    """Three weights of a quadratic-like loss: logits (w·x, 0) at w near 0, x of two examples."""
    x = jnp.array([[1.0, 2.0, 0.5], [1.0, -1.0, 3.0]])
    w = jnp.array([[0.03, 0.01, 0.02]])
    network = lambda p, c, inputs, t: jnp.concatenate([inputs @ p["w"].T, inputs[:, :1] * 0], 1)  # noqa: E731
    half = jnp.full((2, 2), 0.5)
    p = Evidence({"w": w}, None, None, inputs=(x,), targets=(half,), network=network, shape=(3,))
    scores = OBD()(p)["w"][0]

    def loss(w):
        # Labels that agree with what the network says, so that it stands at a minimum.
        z = np.asarray(x, np.float64) @ w
        q = 1 / (1 + np.exp(-(np.asarray(x, np.float64) @ np.asarray(p.params["w"][0]))))
        return np.mean(np.log1p(np.exp(z)) - q * z)

    before = np.asarray(w[0], np.float64)
    costs = [loss(np.where(np.arange(3) == i, 0, before)) - loss(before) for i in range(3)]
    np.testing.assert_allclose(scores, costs, rtol=2e-2)


@pytest.mark.parametrize(
    ("criterion", "train"),
    [(Fisher(), False), (OBD(), False), (Wanda(), False), (SynFlow(), False), (GraSP(), True)],
)
def test_whether_the_network_is_seen_as_it_trains_or_as_it_is_evaluated(criterion, train):
    modes = set()

    def network(params, collections, inputs, train):
        modes.add(train)
        return _network(params, collections, inputs, train)

    criterion(dataclasses.replace(_evidence(*_inputs()), network=network))
    assert modes == {train}


def test_few_examples_at_a_time_give_the_same_mean(monkeypatch):
    whole = _scored(Fisher(), *_inputs())
    monkeypatch.setattr(evidence, "ROOM", 3 * 500)  # three of the twelve at once
    in_parts = Fisher()(_evidence(*_inputs()))
    chex.assert_trees_all_close(whole, in_parts, rtol=1e-5)


@pytest.mark.parametrize(("room", "scans"), [(1, 12), (8, 6), (15, 4), (47, 2), (48, 1), (99, 1)])
def test_as_many_examples_at_a_time_as_there_is_room_for(monkeypatch, room, scans):
    monkeypatch.setattr(evidence, "ROOM", room)
    seen = dataclasses.replace(_evidence(*_inputs()), params={"w": jnp.zeros((2, 2))})
    of_example = lambda inputs, targets: {"w": jnp.full((2, 2), jnp.sum(inputs))}  # noqa: E731
    program = jax.make_jaxpr(lambda: seen.mean_of_examples(of_example))()
    assert [e.params["length"] for e in program.eqns if e.primitive.name == "scan"] == [scans]
    expected = sum(jnp.sum(x) for x in seen.inputs) / 12
    np.testing.assert_allclose(seen.mean_of_examples(of_example)["w"], expected, rtol=1e-5)


# Inputs, by tracing


def test_wanda_by_hand():
    """Two examples; the first layer sees them, the second what the first makes of them."""
    x = jnp.array([[1.0, 2.0], [3.0, 0.0]])
    w, v = jnp.array(W, jnp.float32), jnp.array(V, jnp.float32)
    network = lambda p, c, inputs, train: jax.nn.relu(inputs @ p["w"]) @ p["v"]  # noqa: E731
    masks = {"v": jnp.ones((2, 2), bool), "w": jnp.ones((2, 2), bool)}
    given = {"inputs": (x[:1], x[1:]), "network": network}
    seen = Evidence({"v": v, "w": w}, masks, None, **given)
    scores = Wanda(within="layer")(seen)
    hidden = np.maximum(np.asarray(x) @ W, 0)
    np.testing.assert_allclose(scores["w"], np.abs(W) * np.sqrt([[10], [4]]), rtol=1e-6)
    norms = np.sqrt((hidden**2).sum(axis=0))[:, None]
    np.testing.assert_allclose(scores["v"], np.abs(V) * norms, rtol=1e-6)
    ranks = Wanda()(seen)
    assert ranks["w"].tolist() == [[0.5, 0.5], [0.0, 0.0]]  # 3.2 > 1 and 6.3 > 2


def test_every_output_keeps_as_many_by_wanda():
    scores = _scored(Wanda(), *_inputs())
    masks = _cut("layer", scores, masks_lib.start(_params()), 0.5)
    for name in ("Dense_0", "Dense_1"):
        kept = np.asarray(masks[name]["kernel"]).sum(axis=0)
        assert kept.max() - kept.min() <= 1


def test_inputs_of_a_convolution_are_those_of_each_place_of_its_window():
    """A window of 2 x 2 over 3 x 3 places: each of its entries meets four of them."""
    x = jnp.arange(18.0).reshape(1, 3, 3, 2)
    kernel = jax.random.normal(jax.random.key(0), (2, 2, 2, 5))

    @jax.jit  # calls are looked into
    def convolved(p):
        w = jnp.where(p["k"] > -9, p["k"], 0).astype(jnp.float32)
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=numbers)

    found = input_squares(convolved, {"k": kernel})["k"]
    square = np.asarray(x[0]) ** 2
    for i, j in np.ndindex(2, 2):
        expected = square[i : i + 2, j : j + 2].sum(axis=(0, 1))
        np.testing.assert_allclose(found[i, j], np.repeat(expected[:, None], 5, axis=1))


def test_a_layer_inside_a_loop_is_refused_by_name():
    def network(p, c, inputs, train):
        step = lambda x, _: (x @ p["w"], None)  # noqa: E731
        return jax.lax.scan(step, inputs, None, 3)[0]

    masks = {"w": jnp.ones((2, 2), bool)}
    seen = Evidence(
        {"w": jnp.ones((2, 2))}, masks, None, inputs=(jnp.ones((1, 2)),), network=network
    )
    with pytest.raises(UsageError, match="criterion Wanda can't see the inputs of w"):
        Wanda()(seen)


@pytest.mark.parametrize(
    ("build", "fault"),
    [
        (lambda: GraSP(temperature=0.0), r"GraSP\.temperature is 0: it must be"),
        (lambda: Taylor(batches=0), r"Taylor\.batches is 0: it must be at least 1"),
    ],
)
def test_a_bad_value_is_refused_by_name(build, fault):
    with pytest.raises(UsageError, match=fault):
        build()
