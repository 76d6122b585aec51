"""SparseGPT: against brute force, and what it leaves a layer's outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.prune import NM, STRUCTURES, Evidence, SparseGPT
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.reconstruction import input_products, reconstruct

DAMPING = 1e-6


def layer(seed=0, rows=200, inputs=6, outputs=3):
    rng = np.random.default_rng(seed)
    # Correlated: one input says something of another.
    mixed = np.eye(inputs) + rng.normal(size=(inputs, inputs)) / np.sqrt(inputs)
    x = rng.normal(size=(rows, inputs)) @ mixed
    return x.astype(np.float32), rng.normal(size=(outputs, inputs)).astype(np.float32)


def best(x, w, kept):
    """The least squares weights of one output on the inputs that are kept."""
    found = np.zeros_like(w)
    found[kept] = np.linalg.lstsq(x[:, kept], x @ w, rcond=None)[0]
    return found


def test_the_first_weight_to_go_is_that_of_optimal_brain_surgeon():
    """One output, one weight, by brute force: all removals, the others by least squares."""
    x, w = layer(outputs=1, inputs=3)
    errors = [np.sum((x @ (w[0] - best(x, w[0], np.arange(3) != q))) ** 2) for q in range(3)]
    h = x.T @ x
    inverse = np.linalg.inv(h)
    np.testing.assert_allclose(errors, w[0] ** 2 / np.diag(inverse), rtol=1e-3)
    # From input to input only later ones make up: so of the first input both are the same.
    for first in range(3):
        order = np.roll(np.arange(3), -first)
        turned, moved = x[:, order], w[:, order]
        alive = jnp.ones((1, 3), bool)
        small = moved.copy()
        small[0, 0] = 1e-6 * np.sign(small[0, 0])  # the cheapest
        new, kept = reconstruct(jnp.asarray(small), alive, turned.T @ turned, 2, DAMPING)
        assert np.asarray(kept).tolist() == [[False, True, True]]
        np.testing.assert_allclose(new[0], best(turned, small[0], np.asarray(kept[0])), atol=1e-3)


def test_what_is_left_makes_up_for_what_went():
    x, w = layer(inputs=24, outputs=8)
    alive, products = jnp.ones(w.shape, bool), jnp.asarray(x.T @ x)
    new, kept = map(np.asarray, reconstruct(jnp.asarray(w), alive, products, 96, block=4))
    assert kept.sum() == 96
    np.testing.assert_array_equal(new[~kept], 0)
    error = lambda weights: np.sum((x @ (weights - w).T) ** 2)  # noqa: E731
    size = np.abs(w)
    largest = size >= np.sort(size.reshape(-1))[-96]
    assert error(new) < 0.8 * error(np.where(kept, w, 0))
    assert error(new) < 0.8 * error(np.where(largest, w, 0))
    least = np.stack([best(x, w[r], kept[r]) for r in range(8)])
    assert error(new) >= error(least) * 0.999


@pytest.mark.parametrize("block", [0, 1, 5, 128])
def test_counts_are_exact_and_what_is_gone_stays_gone(block):
    x, w = layer(inputs=12, outputs=5)
    alive = jnp.asarray(np.random.default_rng(3).random(w.shape) < 0.8)
    total = int(alive.sum())
    for keep in (1, total // 3, total - 1, total):
        cut = jax.jit(reconstruct, static_argnames=("block",))
        new, kept = cut(jnp.asarray(w), alive, jnp.asarray(x.T @ x), keep, block=block)
        assert int(kept.sum()) == keep
        assert not np.any(np.asarray(kept) & ~np.asarray(alive))
        assert np.isfinite(np.asarray(new)).all()


def test_two_of_four_in_each_group():
    x, w = layer(inputs=12, outputs=5)
    alive = jnp.ones(w.shape, bool)
    new, kept = reconstruct(jnp.asarray(w), alive, jnp.asarray(x.T @ x), 2, group=4)
    np.testing.assert_array_equal(np.asarray(kept).reshape(5, 3, 4).sum(axis=2), 2)
    assert np.sum((x @ (np.asarray(new) - w).T) ** 2) < np.sum((x @ np.where(kept, 0, w).T) ** 2)


def test_inputs_of_which_nothing_is_known_go_first():
    x, w = layer(inputs=6, outputs=2)
    x[:, 2] = 0
    _, kept = reconstruct(jnp.asarray(10 * w), jnp.ones(w.shape, bool), jnp.asarray(x.T @ x), 10)
    assert not np.asarray(kept)[:, 2].any()


class Net(nn.Module):
    groups: int = 1

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 2), strides=(2, 1), feature_group_count=self.groups, name="conv")(x)
        x = nn.DenseGeneral((2, 3), axis=(-2, -1), name="heads")(nn.relu(x))
        return nn.Dense(3, name="out")(x.mean(axis=1).reshape(len(x), -1))


def evidence(include, groups=1):
    net, rng = Net(groups), np.random.default_rng(0)
    inputs = tuple(jnp.asarray(rng.normal(size=(4, 6, 5, 2)), jnp.float32) for _ in range(2))
    variables = net.init(jax.random.key(0), inputs[0])
    params = variables["params"]
    return Evidence(
        params=params,
        masks=masks_lib.start(params, include=(include,)),
        key=jax.random.key(0),
        inputs=inputs,
        network=lambda params, others, x, train: net.apply({"params": params}, x),
    )


@pytest.mark.slow
def test_products_of_inputs_give_a_layers_outputs():
    """wᵀ (Σ x xᵀ) w is the sum of the squares of what the layer puts out, less its bias."""
    seen = evidence("conv|out")
    products = input_products(seen)
    shown, state = jnp.concatenate(seen.inputs), Net()
    _, captured = state.apply(
        {"params": seen.params}, shown, capture_intermediates=True, mutable=["intermediates"]
    )
    for name in ("conv", "out"):
        out = captured["intermediates"][name]["__call__"][0]
        bias = seen.params[name]["bias"]
        out = (out.reshape(-1, len(bias)) - bias[None]) ** 2
        kernel = seen.params[name]["kernel"].reshape(-1, len(bias))
        found = jnp.einsum("ck,cd,dk->k", kernel, products[f"{name}/kernel"], kernel)
        np.testing.assert_allclose(found, out.sum(axis=0), rtol=1e-4)


def test_masks_and_weights_of_a_network():
    seen = evidence("conv|out")
    keep = {"conv/kernel": 20, "out/kernel": 7}
    masks, weights = jax.jit(lambda: SparseGPT().rewrite(seen, STRUCTURES["weights"], keep))()
    for name, count in keep.items():
        assert int(masks[name].sum()) == count
        assert not np.any(np.asarray(weights[name])[~np.asarray(masks[name])])
    scores = SparseGPT()(seen)
    assert scores["conv"]["kernel"].shape == seen.params["conv"]["kernel"].shape
    masks, _ = SparseGPT().rewrite(seen, NM(1, 2), dict.fromkeys(keep, 1))
    assert np.asarray(masks["conv/kernel"]).sum(axis=2).tolist() == np.ones((3, 2, 4)).tolist()


def test_layers_that_it_cannot_see_are_named():
    with pytest.raises(UsageError, match="SparseGPT can't tell what conv/kernel multiplies"):
        input_products(evidence("conv", groups=2))


@pytest.mark.parametrize("fields", [{"damping": 0.0}, {"block": -1}, {"batches": 0}])
def test_fields_that_can_not_be(fields):
    with pytest.raises(UsageError, match="SparseGPT"):
        SparseGPT(**fields)


def test_what_comes_later_makes_up_by_least_squares():
    """Where all that goes comes before all that stays, nothing is better."""
    x, w = layer(seed=5, inputs=6, outputs=2)
    w[:, :3] *= 1e-3  # the cheapest of each output
    new, kept = reconstruct(jnp.asarray(w), jnp.ones((2, 6), bool), jnp.asarray(x.T @ x), 6, 1e-6)
    assert np.asarray(kept).tolist() == [[False] * 3 + [True] * 3] * 2
    for row in range(2):
        least = best(x, w[row], np.asarray(kept[row]))
        np.testing.assert_allclose(new[row], least, rtol=1e-3, atol=1e-5)
