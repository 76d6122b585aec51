"""The penalties by hand: values, and the gradient that stands for a count's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.prune import PENALTIES, PruningLoss, Slimming


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _net():
    params = {
        "a": {"kernel": jnp.array([[0.5, -0.05], [0.02, 3.0]]), "bias": jnp.array([0.01, 9.0])},
        "b": {"kernel": jnp.array([[-2.0, 0.0]])},
        "norm": {"scale": jnp.array([0.5, -2.0, 0.0]), "bias": jnp.array([7.0, 7.0, 7.0])},
    }
    masks = {
        "a": {"kernel": jnp.array([[True, True], [True, False]]), "bias": None},
        "b": {"kernel": jnp.array([[True, True]])},
        "norm": {"scale": None, "bias": None},
    }
    return params, masks


LOSS = PruningLoss(alpha=0.25, threshold=0.1, softness=0.05)


def test_value_by_hand_counts_prunable_leaves_and_pruned_entries_as_zeros():
    # Σ|W| = .5 + .05 + .02 + 2, and below 0.1 are −.05, .02, the pruned 3.0 and 0.
    value, parts = LOSS(*_net())
    np.testing.assert_allclose(parts["l1"], 2.57, rtol=1e-6)
    assert parts["below"] == 4
    np.testing.assert_allclose(value, 0.25 * 2.57 + 0.75 * 4, rtol=1e-6)
    chex.assert_shape(value, ())
    assert value.dtype == jnp.float32


def test_what_lies_at_the_threshold_is_not_below_it():
    params = {"w": jnp.array([[0.125, -0.125, 0.25, -0.0625]])}
    loss = PruningLoss(alpha=0.0, threshold=0.125, softness=0.05)
    assert loss(params, {"w": jnp.ones((1, 4), bool)})[1]["below"] == 1


def test_a_reward_for_zeros_has_the_other_sign():
    reward = PruningLoss(alpha=0.25, threshold=0.1, softness=0.05, reward_zeros=True)
    np.testing.assert_allclose(reward(*_net())[0], 0.25 * 2.57 - 0.75 * 4, rtol=1e-6)


@pytest.mark.parametrize("reward", [False, True])
def test_gradient_is_that_of_the_surrogate(reward):
    params, masks = _net()
    loss = PruningLoss(alpha=0.25, threshold=0.1, softness=0.05, reward_zeros=reward)
    gradient = jax.grad(lambda p: loss(p, masks)[0])(params)
    w = np.array([0.5, -0.05, 0.02])
    s = 1 / (1 + np.exp(-(0.1 - np.abs(w)) / 0.05))
    count = -s * (1 - s) / 0.05 * np.sign(w)  # of sigmoid((θ − |w|) / τ)
    expected = 0.25 * np.sign(w) + (-1 if reward else 1) * 0.75 * count
    np.testing.assert_allclose(gradient["a"]["kernel"].ravel()[:3], expected, rtol=1e-5)
    np.testing.assert_array_equal(gradient["a"]["kernel"][1, 1], 0)  # pruned
    np.testing.assert_array_equal(gradient["a"]["bias"], 0)  # not prunable
    assert gradient["b"]["kernel"][0, 1] == 0  # at w = 0


@pytest.mark.parametrize(("reward", "goes"), [(False, 1), (True, -1)])
def test_what_the_sign_does_to_a_weight_near_the_threshold(reward, goes):
    # As written, a step down the gradient drives it away from zero; as a reward, towards zero.
    loss = PruningLoss(alpha=0.0, threshold=0.1, softness=0.05, reward_zeros=reward)
    params, masks = {"w": jnp.array([[0.1, -0.1]])}, {"w": jnp.ones((1, 2), bool)}
    step = -jax.grad(lambda p: loss(p, masks)[0])(params)["w"]
    np.testing.assert_array_equal(jnp.sign(step), goes * jnp.sign(params["w"]))


def test_alpha_one_is_plain_l1():
    params, masks = _net()
    loss = PruningLoss(alpha=1.0)
    value, gradient = jax.value_and_grad(lambda p: loss(p, masks)[0])(params)
    np.testing.assert_allclose(value, 2.57, rtol=1e-6)
    np.testing.assert_array_equal(gradient["a"]["kernel"], [[1, -1], [1, 0]])


def test_the_value_is_the_exact_count_whatever_the_surrogate():
    params = {"w": jax.random.normal(jax.random.key(0), (100, 101))}
    masks = {"w": jnp.ones((100, 101), bool)}
    expected = int((np.abs(np.asarray(params["w"])) < 0.3).sum())
    for softness in (1e-6, 0.1, 1e3):
        loss = PruningLoss(alpha=0.0, threshold=0.3, softness=softness)
        run = jax.jit(jax.value_and_grad(lambda p, loss=loss: loss(p, masks)[0]))
        value, gradient = run(params)
        assert value == expected
        chex.assert_tree_all_finite(gradient)


def test_jit_equals_eager_and_settings_may_be_stacked():
    params, masks = _net()
    np.testing.assert_allclose(jax.jit(LOSS)(params, masks)[0], LOSS(params, masks)[0], rtol=1e-6)
    alphas = (0.1, 0.5, 0.9)
    losses = [PruningLoss(alpha=a, threshold=0.1, softness=0.05) for a in alphas]
    stacked = jax.tree.map(lambda *xs: jnp.array(xs, jnp.float32), *losses)
    together = jax.vmap(lambda loss: loss(params, masks)[0])(stacked)
    np.testing.assert_allclose(together, [loss(params, masks)[0] for loss in losses], rtol=1e-6)


def test_half_precision_is_summed_in_float32_and_no_masks_cost_nothing():
    params = {"w": jnp.full((64, 64), 0.1, jnp.bfloat16)}
    value, parts = PruningLoss(alpha=1.0)(params, {"w": jnp.ones((64, 64), bool)})
    np.testing.assert_allclose(value, 4096 * float(jnp.bfloat16(0.1)), rtol=1e-6)
    assert parts["below"] == 0
    assert PruningLoss()(params, {"w": None})[0] == 0


def test_slimming_by_hand():
    params, masks = _net()
    run = jax.value_and_grad(lambda p: Slimming()(p, masks), has_aux=True)
    (value, parts), gradient = run(params)
    assert value == parts["scales"] == 2.5
    np.testing.assert_array_equal(gradient["norm"]["scale"], [1, -1, 0])
    rest = {"a": gradient["a"], "b": gradient["b"], "bias": gradient["norm"]["bias"]}
    assert not any(x.any() for x in jax.tree.leaves(rest))


def test_slimming_of_other_parameters_counts_pruned_entries_as_zeros():
    value, _ = Slimming(include=("^a/kernel", "^norm/bias"))(*_net())
    np.testing.assert_allclose(value, 2.57 - 2 + 21, rtol=1e-6)


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("gamma", "include gamma finds no parameter"),
        ("(", r"include '\(' is no regular expression"),
    ],
)
def test_slimming_of_nothing(include, message):
    with pytest.raises(UsageError, match=message):
        Slimming(include=(include,))(*_net())


@pytest.mark.parametrize("name", PENALTIES)
def test_every_penalty_reports_finite_scalars(name):
    params, masks = _net()
    value, parts = PENALTIES[name](params, masks)
    chex.assert_tree_all_finite((value, parts))
    chex.assert_shape([value, *parts.values()], ())
    chex.assert_tree_all_finite(jax.grad(lambda p: PENALTIES[name](p, masks)[0])(params))


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight", -1.0), ("alpha", 1.5), ("alpha", -0.1), ("threshold", 0.0), ("softness", 0.0)],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(UsageError, match=rf"PruningLoss.{field} is {value:g}: it must be"):
        PruningLoss(**{field: value})


def test_a_bad_weight_is_refused_by_name_of_every_penalty():
    with pytest.raises(UsageError, match=r"Slimming.weight is -1: it must be"):
        Slimming(weight=-1.0)
