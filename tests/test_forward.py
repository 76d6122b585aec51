import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kd_jax.errors import UsageError
from kd_jax.forward import Outputs, from_apply, from_linen
from kd_jax.nnx_models import from_nnx

INPUTS = jnp.asarray(np.cos(np.arange(12.0)).reshape(4, 3), jnp.float32)
KEY = jax.random.key(1)


# Linen


class Norm(nn.Module):
    """Linear, then batch normalisation; `train` is its mode."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(2)(x)
        return nn.BatchNorm(use_running_average=not train, momentum=0.8)(x), {"dense": x}


class Drop(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        return nn.Dropout(0.5, deterministic=deterministic)(x)


class Plain(nn.Module):
    """Knows no mode, and is told none."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


class Recorder(nn.Module):
    """Returns the keyword that it is told the mode by."""

    @nn.compact
    def __call__(self, x, training=None):
        return jnp.zeros((1, 1)) if training else jnp.ones((1, 1))


class Averaging(nn.Module):
    @nn.compact
    def __call__(self, x, use_running_average):
        return jnp.ones((1, 1)) if use_running_average else jnp.zeros((1, 1))


def test_linen_statistics_move_in_training_only():
    model = from_linen(Norm())
    variables = model.init(KEY, INPUTS)
    assert set(variables) == {"params", "batch_stats"}
    outputs, same = model.forward(variables, INPUTS)
    assert same == {"batch_stats": variables["batch_stats"]}
    outputs, moved = model.forward(variables, INPUTS, train=True, key=KEY)
    dense = outputs.features["dense"]
    stats = moved["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.2 * jnp.mean(dense, axis=0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.8 + 0.2 * jnp.var(dense, axis=0), rtol=1e-4)
    np.testing.assert_allclose(jnp.mean(outputs.logits, axis=0), [0, 0], atol=1e-6)
    assert jax.tree.structure(moved) == jax.tree.structure(same)


def test_linen_without_features_or_mode():
    model = from_linen(Plain())
    variables = model.init(KEY, INPUTS)
    assert set(variables) == {"params"}
    kernel, bias = variables["params"]["Dense_0"]["kernel"], variables["params"]["Dense_0"]["bias"]
    for train in (False, True):
        outputs, collections = model.forward(variables, INPUTS, train=train)
        np.testing.assert_allclose(outputs.logits, INPUTS @ kernel + bias[None], rtol=1e-6)
        assert outputs.features == {}
        assert collections == {}


def test_linen_is_told_the_mode_by_the_name_it_has():
    for module, in_training in ((Recorder(), 0), (Averaging(), 0)):
        model = from_linen(module)
        for train in (True, False):
            logits = model.forward({}, INPUTS, train=train)[0].logits
            assert float(logits[0, 0]) == (in_training if train else 1 - in_training), module


def test_linen_dropout_is_a_function_of_its_key():
    model = from_linen(Drop())
    ones = jnp.ones((8, 8))
    drop = lambda key: model.forward({}, ones, train=True, key=key)[0].logits  # noqa: E731
    first = drop(KEY)
    np.testing.assert_array_equal(first, drop(KEY))
    assert set(np.unique(first)) == {0.0, 2.0}
    assert np.any(first != drop(jax.random.key(2)))
    np.testing.assert_array_equal(model.forward({}, ones)[0].logits, ones)


def test_linen_keeps_collections_that_a_pass_does_not_write():
    model = from_linen(Norm())
    variables = {**model.init(KEY, INPUTS), "notes": {"n": jnp.ones(2)}}
    _, collections = model.forward(variables, INPUTS, train=True)
    assert set(collections) == {"batch_stats", "notes"}


# A plain function


def scaled(variables, inputs, train):
    return inputs * variables["params"]["w"][None]


def test_apply_without_collections():
    model = from_apply(scaled, {"params": {"w": jnp.array([1.0, 2.0, 3.0])}})
    variables = model.init(KEY, INPUTS)
    outputs, collections = model.forward(variables, INPUTS, train=True, key=KEY)
    np.testing.assert_array_equal(outputs.logits, INPUTS * jnp.array([[1.0, 2.0, 3.0]]))
    assert outputs.features == {}
    assert collections == {}


def test_apply_with_features():
    apply = lambda v, x, train: (scaled(v, x, train), {"inputs": x})  # noqa: E731
    model = from_apply(apply, {"params": {"w": jnp.ones(3)}})
    outputs, _ = model.forward(model.init(KEY, INPUTS), INPUTS)
    assert set(outputs.features) == {"inputs"}


@pytest.mark.parametrize("features", [False, True])
def test_apply_with_collections(features):
    def apply(variables, inputs, train):
        logits = scaled(variables, inputs, train)
        result = (logits, {"inputs": inputs}) if features else logits
        return result, {"seen": {"n": variables["seen"]["n"] + 1}}

    start = {
        "params": {"w": jnp.ones(3)},
        "seen": {"n": jnp.zeros(())},
        "still": {"n": jnp.ones(())},
    }
    model = from_apply(apply, start)
    outputs, collections = model.forward(model.init(KEY, INPUTS), INPUTS, train=True)
    assert collections == {"seen": {"n": 1.0}, "still": {"n": 1.0}}
    assert outputs.logits.shape == (4, 3)
    assert set(outputs.features) == ({"inputs"} if features else set())
    _, collections = model.forward(model.init(KEY, INPUTS), INPUTS)
    assert collections["seen"] == {"n": 0.0}


def test_apply_may_return_outputs_itself():
    model = from_apply(lambda v, x, train: Outputs(x), {"params": {"w": jnp.ones(3)}})
    assert model.forward(model.init(KEY, INPUTS), INPUTS)[0].logits is INPUTS


def test_apply_needs_params():
    with pytest.raises(UsageError, match="params"):
        from_apply(scaled, {"w": jnp.ones(3)})


# NNX


class Net(nnx.Module):
    """A list of linear layers, batch normalisation and dropout; told its mode by train()/eval()."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, momentum=0.8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        hidden = self.drop(self.norm(x))
        return self.out(hidden), {"hidden": hidden}


class Told(nnx.Module):
    """Is told its mode by an argument."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, momentum=0.8, rngs=rngs)

    def __call__(self, x, train):
        return self.norm(x, use_running_average=not train)


@pytest.fixture(scope="module")
def nnx_model():
    return from_nnx(Net)


def test_nnx_variables_are_plain_nested_dicts(nnx_model):
    variables = nnx_model.init(KEY, INPUTS)
    assert set(variables["params"]) == {"layers", "norm", "out"}
    assert set(variables["params"]["layers"]) == {"0", "1"}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))
    assert not any(
        jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        for leaf in jax.tree.leaves(variables)
    )
    expected = Net(nnx.Rngs(KEY))
    kernel = expected.layers[1].kernel[...]
    np.testing.assert_array_equal(variables["params"]["layers"]["1"]["kernel"], kernel)


@pytest.mark.parametrize("train", [False, True])
def test_nnx_modules_are_heard_by_their_paths(train):
    plain, tapped = from_nnx(Net), from_nnx(Net, ("layers/1", "norm", "nobody", "layers/7"))
    variables = plain.init(KEY, INPUTS)
    outputs, rest = tapped.forward(variables, INPUTS, train)
    expected, expected_rest = plain.forward(variables, INPUTS, train)
    chex.assert_trees_all_equal((outputs.logits, rest), (expected.logits, expected_rest))
    assert outputs.features.keys() == {"hidden", "layers/1", "norm"}
    assert outputs.features["norm"].shape == (len(INPUTS), 4)
    assert plain.tapped(("norm",)).forward(variables, INPUTS)[0].features.keys() == {
        "hidden",
        "norm",
    }
    module = Net(nnx.Rngs(KEY))
    hidden = nnx.relu(module.layers[0](INPUTS))
    np.testing.assert_allclose(outputs.features["layers/1"], module.layers[1](hidden), rtol=1e-5)


def test_linen_modules_are_heard_by_their_paths():
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="deep")(x)

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = Inner(name="inner")(x)
            return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(x)), {"own": x}

    plain = from_linen(Outer())
    variables = plain.init(KEY, INPUTS)
    assert plain.tapped is not None
    tapped = plain.tapped(("inner/deep", "Dense_0", "nobody", "inner/nobody"))
    for train in (False, True):
        outputs, rest = tapped.forward(variables, INPUTS, train)
        expected, expected_rest = plain.forward(variables, INPUTS, train)
        chex.assert_trees_all_equal((outputs.logits, rest), (expected.logits, expected_rest))
        assert outputs.features.keys() == {"own", "inner/deep", "Dense_0"}
        np.testing.assert_array_equal(outputs.features["inner/deep"], outputs.features["own"])
        np.testing.assert_array_equal(outputs.features["Dense_0"], outputs.logits)


def test_nnx_evaluation_changes_nothing_and_is_the_modules_own(nnx_model):
    variables = nnx_model.init(KEY, INPUTS)
    outputs, collections = nnx_model.forward(variables, INPUTS)
    assert collections == {"rest": variables["rest"]}
    module = Net(nnx.Rngs(KEY))
    module.eval()
    logits, features = module(INPUTS)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-6)
    np.testing.assert_allclose(outputs.features["hidden"], features["hidden"], rtol=1e-6)


def test_nnx_training_is_the_modules_own(nnx_model):
    variables = nnx_model.init(KEY, INPUTS)
    module = Net(nnx.Rngs(KEY))
    module.train()
    for _ in range(2):  # twice: the second draw of dropout is not the first
        outputs, collections = nnx_model.forward(variables, INPUTS, train=True)
        np.testing.assert_allclose(outputs.logits, module(INPUTS)[0], rtol=1e-6)
        variables = {**variables, **collections}
    mean = variables["rest"]["norm"]["mean"]
    np.testing.assert_allclose(mean, module.norm.mean[...], rtol=1e-6)
    assert np.any(mean != 0)


def test_nnx_gradients_and_jit(nnx_model):
    variables = nnx_model.init(KEY, INPUTS)

    def loss(params, rest):
        outputs, collections = nnx_model.forward(
            {"params": params, "rest": rest}, INPUTS, train=True
        )
        return jnp.mean(outputs.logits**2), collections

    (value, collections), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        variables["params"], variables["rest"]
    )
    assert jax.tree.structure(grads) == jax.tree.structure(variables["params"])
    assert jax.tree.structure(collections["rest"]) == jax.tree.structure(variables["rest"])
    # Along its gradient the loss falls as fast as the gradient says.
    moved = jax.tree.map(lambda w, g: w - 1e-3 * g, variables["params"], grads)
    squares = sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads))
    fallen = float(value - loss(moved, variables["rest"])[0])
    assert fallen == pytest.approx(1e-3 * squares, rel=0.05)
    assert squares > 1e-4


def test_nnx_seeds_differ_when_mapped(nnx_model):
    seeds = jnp.array([0, 1], jnp.uint32)
    many = jax.jit(jax.vmap(lambda s: nnx_model.init(jax.random.key(s), INPUTS)))(seeds)
    kernels = many["params"]["out"]["kernel"]
    assert kernels.shape == (2, 4, 2)
    assert np.all(kernels[0] != kernels[1])
    alone = nnx_model.init(jax.random.key(1), INPUTS)
    np.testing.assert_allclose(kernels[1], alone["params"]["out"]["kernel"], rtol=1e-5)
    outputs, _ = jax.vmap(lambda v: nnx_model.forward(v, INPUTS, train=True))(many)
    assert outputs.logits.shape == (2, 4, 2)
    assert np.any((outputs.features["hidden"] == 0)[0] != (outputs.features["hidden"] == 0)[1])


def test_nnx_is_told_the_mode_by_an_argument():
    model = from_nnx(Told)
    variables = model.init(KEY, INPUTS)
    trained, moved = model.forward(variables, INPUTS, train=True)
    np.testing.assert_allclose(jnp.mean(trained.logits, axis=0), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(model.forward(variables, INPUTS)[0].logits, INPUTS, rtol=1e-4)
    np.testing.assert_allclose(
        moved["rest"]["norm"]["mean"], 0.2 * jnp.mean(INPUTS, axis=0), rtol=1e-5
    )


def test_nnx_takes_a_function_of_rngs():
    with pytest.raises(UsageError, match="from_nnx takes a function of rngs"):
        from_nnx(Net(nnx.Rngs(0)))  # type: ignore[arg-type]


def test_nnx_layers_that_are_not_told_of_the_mode_know_it_too():
    """A module that hands its argument on to one layer only."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, train=False):
            return self.drop(self.norm(x, use_running_average=not train))

    model = from_nnx(lambda rngs: Net(rngs))
    x = jax.random.normal(jax.random.key(1), (8, 4))
    variables = model.init(jax.random.key(0), x)
    still, moved = (model.forward(variables, x, train=train)[0].logits for train in (False, True))
    assert (still != 0).all()
    assert (moved == 0).any()
