"""Criteria of channels that look at data, by hand and against brute force."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cutting import random_inputs, random_variables
from foreign_nets import NETS, shape_of
from marks import slow_but

from kd_jax.errors import UsageError
from kd_jax.forward import from_apply, from_linen
from kd_jax.prune import CHANNEL_CRITERIA, scores, trace
from kd_jax.tree import map_named, named_leaves

KEY = jax.random.key(0)


def params_net(apply, **params):
    """(a function of parameters as a model, its variables)."""
    variables = {"params": {name: jnp.asarray(w, jnp.float32) for name, w in params.items()}}
    return from_apply(lambda v, x, train: apply(v["params"], x), variables), variables


def mean_logit(model):
    return lambda variables, batch: jnp.mean(model.forward(variables, batch[0])[0].logits)


def mean_entropy(model):
    """Cross-entropy with labels."""

    def loss(variables, batch):
        said = jax.nn.log_softmax(model.forward(variables, batch[0])[0].logits)
        return -jnp.mean(jnp.sum(said * batch[1], axis=-1))

    return loss


class Small(nn.Module):
    """Two groups, of which one goes through a norm."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(6, (3, 3), strides=2)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(5)(nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2)))


def drawn(name, count=1, seed=0):
    """(model, structure, variables, batches) of a network."""
    generator, shape = np.random.default_rng(seed), shape_of(name)
    model = from_linen(Small()) if name == "small" else NETS[name]
    variables = random_variables(model, shape, "float32", generator)
    labels = jax.nn.one_hot(generator.integers(0, 5, (count, shape[0])), 5)
    batches = [(random_inputs(shape, "float32", generator), y) for y in labels]
    return model, trace(model, shape), variables, batches


# Gradients -----------------------------------------------------------------------------------


def test_taylor_by_hand():
    """y = x a b: what the loss loses with a unit is a_j b_j times the mean of x, 1 and 3."""
    net, variables = params_net(lambda p, x: x @ p["a"] @ p["b"], a=[[2.0, -1.0]], b=[[0.5], [3.0]])
    structure = trace(net, (2, 1))
    batches = [(jnp.array([[0.0], [2.0]]),), (jnp.array([[3.0], [3.0]]),)]
    (found,) = scores(structure, variables, "taylor", KEY, batches, mean_logit(net)).values()
    np.testing.assert_allclose(found, [1.0 * (1 + 9) / 2, 9.0 * (1 + 9) / 2], rtol=1e-6)


def test_taylor_of_norms_is_the_gradient_of_a_gate():
    generator = np.random.default_rng(0)
    normal = lambda *shape: generator.normal(size=shape).astype(np.float32)  # noqa: E731
    norm = {"scale": normal(6), "bias": normal(6)}
    params = {"a": {"kernel": normal(4, 6)}, "norm": norm, "b": {"kernel": normal(6, 3)}}

    def apply(variables, x, train, gate=1.0):
        p = variables["params"]
        x = x @ p["a"]["kernel"] * p["norm"]["scale"][None] + p["norm"]["bias"][None]
        return jax.nn.relu(x * gate) ** 2 @ p["b"]["kernel"]

    variables, x = {"params": jax.tree.map(jnp.asarray, params)}, jnp.asarray(normal(5, 4))
    net = from_apply(apply, variables)
    structure = trace(net, x.shape)
    (found,) = scores(structure, variables, "taylor_norm", KEY, [(x,)], mean_logit(net)).values()
    gate = jax.grad(lambda gate: jnp.mean(apply(variables, x, False, gate)))(jnp.ones((1, 6)))
    np.testing.assert_allclose(found, gate[0] ** 2, rtol=1e-5)


def test_the_hessian_against_brute_force_on_a_quadratic():
    """Examples that each see one parameter, with residuals 1 and -1: at the least loss, where the
    Fisher information is the Hessian, and that diagonal."""
    net, variables = params_net(
        lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"],
        a=[[2.0, -1.0, 0.5], [1.0, 3.0, 0.1]],
        b=[[0.5, 1.0], [3.0, -2.0], [0.2, 0.1]],
    )
    flat = lambda v: jnp.concatenate([w.ravel() for w in v["params"].values()])  # noqa: E731
    theta = flat(variables)
    x = jnp.diag(1.0 + 0.3 * jnp.arange(theta.size))
    batches = [(x, x @ theta + sign) for sign in (1.0, -1.0)]

    def loss(variables, batch):
        return jnp.mean((batch[0] @ flat(variables) - batch[1]) ** 2) / 2

    structure = trace(net, (2, 2))
    (found,) = scores(structure, variables, "hessian", KEY, batches, loss).values()
    of_all = lambda v: sum(loss(v, batch) for batch in batches) / 2  # noqa: E731
    for unit in range(3):
        a, b = variables["params"]["a"], variables["params"]["b"]
        without = {"params": {"a": a.at[:, unit].set(0), "b": b.at[unit].set(0)}}
        rise = of_all(without) - of_all(variables)
        np.testing.assert_allclose(found[unit], rise, rtol=1e-4)


# Maps ----------------------------------------------------------------------------------------


class Shown(nn.Module):
    """Its maps are its inputs: the first kernel is the identity."""

    @nn.compact
    def __call__(self, x):
        units, conv = x.shape[-1], x.ndim == 4
        x = nn.Conv(units, (1, 1), name="a")(x) if conv else nn.Dense(units, name="a")(x)
        x = nn.relu(x)
        return nn.Dense(2)(x.mean((1, 2)) if conv else x)


def shown(name, *batches):
    model, shape = from_linen(Shown()), batches[0].shape
    variables = model.init(KEY, batches[0])
    kernel = variables["params"]["a"]["kernel"]
    variables["params"]["a"]["kernel"] = jnp.eye(shape[-1]).reshape(kernel.shape)
    given = [(batch,) for batch in batches]
    (found,) = scores(trace(model, shape), variables, name, KEY, given, model=model).values()
    return found


def test_ranks_of_maps():
    """Of rank 1, 3 and 4; and what ReLU leaves of -1 everywhere, and of rows 1 and -1."""
    ones, rows = np.ones((4, 4)), np.where(np.arange(4) % 2, -1.0, 1.0)[:, None] * np.ones((4, 4))
    signs = rows * rows.T + 0.0  # rank 1, but of rank 2 after ReLU
    first = np.stack([ones, np.diag([1.0, 2, 3, 0]), np.eye(4), -ones, signs], axis=-1)
    second = np.stack([0 * ones, np.eye(4), np.eye(4), -ones, signs], axis=-1)
    batch = jnp.asarray([first, second], jnp.float32)
    np.testing.assert_allclose(shown("hrank", batch), [0.5, 3.5, 4, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(shown("hrank", batch[:1], batch[1:]), [0.5, 3.5, 4, 0, 2], rtol=1e-6)


def test_zeros_and_sizes_after_relu():
    first = jnp.array([[1.0, -1.0, 0.0], [3.0, 2.0, -5.0]])
    second = jnp.array([[1.0, -1.0, 4.0], [-3.0, -2.0, 0.0]])
    np.testing.assert_allclose(shown("apoz", first, second), [0.75, 0.25, 0.25], rtol=1e-6)
    np.testing.assert_allclose(shown("activation", first, second), [1.25, 0.5, 1.0], rtol=1e-6)


# All of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", slow_but(["l1", "taylor", "hrank"], CHANNEL_CRITERIA))
def test_scores_of_many_networks_in_one_program_are_those_one_by_one(name):
    model, structure, one, batches = drawn("small", count=2)
    other = drawn("small", seed=1)[2]
    keys = jax.random.split(KEY, 2)
    run = lambda v, key: scores(structure, v, name, key, batches, mean_entropy(model), model)  # noqa: E731
    both = jax.tree.map(lambda *xs: jnp.stack(xs), one, other)
    together, run = jax.jit(jax.vmap(run))(both, keys), jax.jit(run)
    for i, variables in enumerate((one, other)):
        for group, expected in run(variables, keys[i]).items():
            np.testing.assert_allclose(together[group][i], expected, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "net"),
    [
        *((name, "small") for name in ("taylor", "taylor_norm", "hessian", "apoz", "hrank")),
        pytest.param("taylor", "flax_attention", marks=pytest.mark.slow),
    ],
)
def test_units_in_another_order_have_the_same_scores(name, net):
    model, structure, variables, batches = drawn(net)
    run = jax.jit(lambda v: scores(structure, v, name, KEY, batches, mean_entropy(model), model))
    order = {g.name: np.random.default_rng(1).permutation(g.size) for g in structure.groups}
    places = {key: np.arange(n) for key, n in _axes(variables)}
    for group in structure.groups:
        for key, own in group.entries.items():
            places[key][own] = own[order[group.name]]

    def moved(leaf, w):
        for axis in range(w.ndim):
            w = jnp.take(w, places[leaf, axis], axis=axis)
        return w

    before, after = run(variables), run(map_named(moved, variables))
    assert any(np.isfinite(found).all() for found in before.values())
    for group, found in before.items():
        np.testing.assert_allclose(after[group], found[order[group]], rtol=1e-3, atol=1e-8)


def _axes(variables):
    for leaf, w in named_leaves(variables).items():
        yield from (((leaf, axis), n) for axis, n in enumerate(w.shape))


@pytest.mark.parametrize("name", slow_but(["activation"], ["hessian", "activation"]))
def test_heads_and_hidden_units_have_scores(name):
    model, structure, variables, batches = drawn("fused_heads")
    run = jax.jit(lambda v: scores(structure, v, name, KEY, batches, mean_entropy(model), model))
    found = run(variables)
    assert found.keys() == {group.name for group in structure.groups}
    for group in structure.groups:
        assert found[group.name].shape == (group.size,)
        assert np.isfinite(found[group.name]).all()
        assert len(np.unique(found[group.name])) == group.size


@pytest.mark.parametrize(
    ("net", "name", "given", "message"),
    [
        ("small", "taylor", "", "needs gradients: give batches and loss"),
        ("small", "hessian", "batches", "needs example gradients: give loss"),
        ("small", "apoz", "batches loss", "needs maps: give model"),
        ("plain", "activation", "batches model", "this model's modules can't be tapped"),
        (
            "flax_attention",
            "hrank",
            "batches model",
            "maps of a convolution, and this network has no",
        ),
        ("plain", "norm_scale", "", "scores groups with a norm, and this network has none: take"),
        ("plain", "taylor_norm", "batches loss", "scores groups with a norm, and this network has"),
    ],
)
def test_what_can_not_be_scored(net, name, given, message):
    model, structure, variables, batches = drawn(net)
    known = {"batches": batches, "loss": mean_entropy(model), "model": model}
    with pytest.raises(UsageError, match=message):
        scores(structure, variables, name, KEY, **{word: known[word] for word in given.split()})


def test_maps_of_convolutions_whose_channels_are_weighed_by_others():
    model, structure, variables, batches = drawn("squeeze_excite")
    found = scores(structure, variables, "hrank", KEY, batches, model=model)
    finite = {name: bool(np.isfinite(score).all()) for name, score in found.items()}
    assert finite == {"params/Conv_0/kernel:3": True, "params/Dense_0/kernel:1": False}


def test_a_network_without_groups_has_no_scores():
    net, variables = params_net(lambda p, x: x @ p["a"], a=np.eye(2))
    assert scores(trace(net, (3, 2)), variables, "norm_scale", KEY) == {}
