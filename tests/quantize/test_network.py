"""Networks with grids: what they compute, in floats and in integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from marks import slow_but
from on_grids import INPUTS, MODELS, network

from kd_jax.errors import UsageError
from kd_jax.quantize import Grid, Layout, integer, integers, quantised
from kd_jax.quantize.network import QUANTISED, bare, beside, grids
from kd_jax.tree import named_leaves


def test_a_dense_layer_by_hand():
    model, variables = tiny.two_layers()
    x = jnp.linspace(-1, 1, 8).reshape(2, 4)
    it, at_rest = network(model, x, bits=3, of_inputs=4)
    own, found = bare(at_rest), grids(at_rest)

    def on(x, grid):
        scale, zero, low, high = (np.asarray(getattr(grid, n)) for n in grid.data())
        return (np.clip(np.round(x / scale) + zero, low, high) - zero) * scale

    params = jax.tree.map(np.asarray, variables["params"])
    x = np.asarray(x)
    for name in ("first", "second"):
        w, b = params[name]["kernel"], params[name]["bias"]
        scale = np.abs(w).max(0) / 3
        np.testing.assert_allclose(own["params"][name]["kernel"], np.round(w / scale) * scale, 1e-6)
        x = on(x, found["inputs"][f"{name}/kernel"]) @ on(w, found["weights"][f"{name}/kernel"]) + b
        x = np.tanh(x) if name == "first" else x
    said, _ = it.forward(at_rest, jnp.linspace(-1, 1, 8).reshape(2, 4))
    np.testing.assert_allclose(said.logits, x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", slow_but(["conv", "mlp", "recurrent"], MODELS))
def test_integers_say_what_floats_on_grids_say(name):
    """And both what the network says, but for what 8 bits lose."""
    make, inputs = MODELS[name]
    model = make()
    it, variables = network(model, inputs)
    floats = np.asarray(jax.jit(it.forward)(variables, inputs)[0].logits)
    whole = integers(variables)
    assert {
        leaf.dtype for n, leaf in named_leaves(whole["params"]).items() if n.endswith("kernel")
    } == {jnp.dtype(jnp.int8)}
    run = jax.jit(integer(it).forward)
    spread = np.std(floats)
    np.testing.assert_allclose(run(whole, inputs)[0].logits, floats, atol=1e-3 * spread)
    plain = jax.jit(lambda: model.forward(model.init(jax.random.key(1), inputs), inputs))
    np.testing.assert_allclose(plain()[0].logits, floats, atol=0.5 * spread)
    text = run.lower(whole, inputs).as_text()
    assert ("i32>" in text and "xi8>" in text) or name == "recurrent"


def test_a_network_without_grids_has_no_integers():
    with pytest.raises(UsageError, match="not quantised"):
        integer(tiny.convnet())


def test_a_network_at_rest_stays_there_and_features_are_tapped():
    model = tiny.perceptron()
    it, variables = network(model)
    again = it.rests(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert it.tapped is not None
    inner = it.tapped(("hidden",))
    assert inner.rests is not None
    jax.tree.map(np.testing.assert_array_equal, inner.rests(variables), variables)
    tapped = inner.forward(variables, INPUTS)[0]
    assert tapped.features["hidden"].shape == (3, 8)
    np.testing.assert_array_equal(tapped.logits, it.forward(variables, INPUTS)[0].logits)


def test_training_moves_statistics_and_not_grids():
    it, variables = network(tiny.convnet())
    step = jax.jit(lambda v: it.forward(v, INPUTS, train=True, key=jax.random.key(0)))
    _, updated = step(variables)
    assert np.any(
        updated["batch_stats"]["norm"]["mean"] != variables["batch_stats"]["norm"]["mean"]
    )
    jax.tree.map(np.testing.assert_array_equal, updated[QUANTISED], variables[QUANTISED])


def test_learned_scales_have_gradients_and_others_none():
    it, variables = network(tiny.perceptron(), learned=True)

    def loss(params):
        said, _ = it.forward({**variables, "params": params}, INPUTS, train=True)
        return jnp.sum(jnp.sin(said.logits))

    grads = jax.jit(jax.grad(loss))(variables["params"])
    scales = named_leaves(grads[QUANTISED])
    assert len(scales) == 4
    assert all(np.any(np.asarray(g) != 0) for g in scales.values())
    assert all(name.endswith("scale") for name in scales)


def test_the_gradient_of_a_scale_is_that_of_the_paper():
    """Σ g (round(w/s) - w/s) / √(N Q) for a layer whose output is its kernel."""
    w = jnp.array([[0.3], [-0.9], [0.55]])
    layout = Layout(weights=("kernel",), learned=True)
    from kd_jax.forward import from_apply

    model = from_apply(lambda v, x, train: x @ v["params"]["kernel"], {"params": {"kernel": w}})
    on = {"kernel": Grid.symmetric(jnp.array([[0.9]]), 3)}
    given = beside(layout, {"params": {"kernel": w}}, {"weights": on, "inputs": {}, "codes": {}})
    x = jnp.array([[1.0, 2.0, 3.0]])

    def said(params):
        return (
            quantised(model, layout)
            .forward({**given, "params": params}, x, train=True)[0]
            .logits[0, 0]
        )

    g = jax.grad(said)(given["params"])[QUANTISED]["weights"]["kernel"]["scale"]
    v = np.array([1.0, -3.0, 0.55 / 0.3])
    by_hand = np.sum(np.array([1, 2, 3]) * (np.round(v) - v)) / np.sqrt(3 * 3)
    np.testing.assert_allclose(g, [[by_hand]], rtol=1e-4)
