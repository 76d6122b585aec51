"""Units that each example goes through."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cutting import random_inputs, random_variables
from marks import slow_but

from kd_jax import cost, gating
from kd_jax.ensembles import part
from kd_jax.errors import UsageError
from kd_jax.forward import from_apply, from_linen
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.models.lstm import LSTM
from kd_jax.models.mlp import MLP
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.vgg import VGG
from kd_jax.models.vit import ViT
from kd_jax.platform import once
from kd_jax.prune import shrink, trace
from kd_jax.prune.gates import Gates, exact, winners

NETS = {
    "mlp": (MLP(widths=(16, 12)), (4, 4, 1)),
    "resnet8": (CifarResNet(depth=8, width=0.25), (8, 8, 1)),
    "vgg": (VGG(convs=(1, 1), pools=2, width=0.1), (8, 8, 3)),
    "mobilenet": (MobileNetV2().tiny(), (16, 16, 3)),
    "vit": (ViT(patch=4, width=8, depth=1, heads=2), (8, 8, 1)),
}


@functools.cache
def made(name, **how):
    config, shape = NETS[name]
    model = from_linen(config.build(10, jnp.float32))
    found = gating.gated(model, shape, **how)
    generator = np.random.default_rng(1)  # of whose units none is off for all inputs
    x = random_inputs((3, *shape), "float32", generator)
    variables = random_variables(found.model, x.shape, "float32", generator)
    # Biases above 0, so that no unit is off for all inputs.
    return found, jax.tree.map(lambda v: np.abs(v) if v.ndim < 2 else v, variables), x


def logits(model, variables, x):
    run = jax.jit(lambda v, x: model.forward(v, x)[0].logits, compiler_options=once())
    return run(variables, x)


@pytest.mark.parametrize(
    "name",
    slow_but(["mlp"], NETS),
)
def test_masked_gathered_and_shrunk_say_the_same(name):
    found, variables, x = made(name)
    masked = logits(found.model, variables, x)
    assert np.ptp(masked) > 1e-6
    close = {"rtol": 1e-5, "atol": 1e-5 * float(np.abs(masked).max())}
    np.testing.assert_allclose(logits(found.gathered, variables, x), masked, **close)
    opened = np.asarray(logits(found.chooser, variables, x))
    assert set(np.unique(opened)) == {0.0, 1.0}
    kept = {name: np.flatnonzero(part) for name, part in found.gates.split(opened[0]).items()}
    assert {name: len(units) for name, units in kept.items()} == found.gates.counts
    own, structure = part(variables, "backbone"), found.gates.structure
    small, less, _ = shrink(found.backbone, own, structure, kept)
    np.testing.assert_allclose(logits(small, less, x[:1]), masked[:1], **close)


def test_multiply_adds_are_those_of_the_open_units():
    found, variables, x = made("mlp", amount=0.5, hidden=5)
    macs = lambda model: cost.macs(lambda v, x: model.forward(v, x)[0].logits, variables, x[:1])  # noqa: E731
    gater = 16 * 5 + 5 * 28
    assert macs(found.model) == 16 * 16 + 16 * 12 + 12 * 10 + gater
    assert macs(found.gathered) == 16 * 8 + 8 * 6 + 6 * 10 + gater


def test_winners_by_hand():
    s = jnp.array([[0.1, 3.0, 2.0, -1.0], [1.0, 1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(winners(s, 2), [[0, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(jax.jit(winners, static_argnums=1)(s, 2), winners(s, 2))
    slope = jax.grad(lambda s: jnp.sum(winners(s, 2) * jnp.arange(4.0)))(s[0])
    soft = 1 / (1 + np.exp(-(np.array([0.1, 3.0, 2.0, -1.0]) - 1.05)))  # midway of 2 and 0.1
    np.testing.assert_allclose(slope, np.arange(4) * soft * (1 - soft), rtol=1e-5)


def test_gates_learn_from_units_that_are_closed():
    found, variables, x = made("mlp")
    loss = lambda v: -jnp.sum(jax.nn.log_softmax(found.model.forward(v, x)[0].logits)[:, 0])  # noqa: E731
    last = jax.grad(loss)(variables)["params"]["gater"]["saliency"]["bias"]
    opened = logits(found.chooser, variables, x)
    closed = np.all(np.asarray(opened) == 0, axis=0)
    assert closed.any()
    assert np.all(np.asarray(last)[closed] != 0)


@pytest.mark.slow
def test_batch_statistics_move_in_training_and_only_there():
    found, variables, x = made("resnet8")
    run = jax.jit(found.model.forward, static_argnames="train")
    for train in (False, True):
        _, updated = run(variables, x, train=train, key=jax.random.key(0))
        same = jax.tree.map(np.array_equal, updated["batch_stats"], variables["batch_stats"])
        assert all(jax.tree.leaves(same)) != train


def test_a_norm_over_units_is_left_whole():
    """A layer norm sees units that an example goes without."""
    found, _, _ = made("vit")
    assert len(found.whole) == 1
    assert "out/kernel" in found.whole[0]
    assert not set(found.whole) & set(found.gates.counts)


def test_units_that_meet_without_a_kernel_are_left_whole():
    """Of a product of two things that both depend on the input no kernel tells."""

    def apply(variables, x, train):
        p = variables["params"]
        q, k = x @ p["q"]["kernel"], x @ p["k"]["kernel"]
        said = jnp.sum(q * k, axis=1, keepdims=True)
        return said + jnp.maximum(x @ p["one"]["kernel"], 0) @ p["two"]["kernel"]

    shapes = {"q": (6, 4), "k": (6, 4), "one": (6, 5), "two": (5, 3)}
    keys = jax.random.split(jax.random.key(0), 4)
    params = {
        name: {"kernel": jax.random.normal(key, shape)}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    model = from_apply(apply, {"params": params})
    structure = trace(model, (2, 6))
    assert {group.size for group in structure.groups} == {4, 5}
    assert exact(model, structure) == ("params/one/kernel:1",)


@pytest.mark.slow
def test_what_can_not_be_gated():
    lstm = from_linen(LSTM(units=8).build(10, jnp.float32))
    with pytest.raises(UsageError, match="start: nothing of this network can be gated"):
        gating.gated(lstm, (4, 4, 1))
    config, shape = NETS["mlp"]
    model = from_linen(config.build(10, jnp.float32))
    for how, said in (
        ({"keep": ("conv",)}, "keep 'conv' finds no group: change it. They are: params/dense"),
        ({"keep": ("dense",)}, "keep dense: nothing is left that could be gated"),
        ({"amount": 0.01}, "amount 0.01 is no unit of any group: they have "),
    ):
        with pytest.raises(UsageError) as error:
            gating.gated(model, shape, **how)
        assert str(error.value).startswith(said)


def test_groups_may_stay_whole():
    found, _, _ = made("mlp", keep=("dense1",))
    assert found.gates.counts == {"params/dense2/kernel:1": 6}


def test_a_gater_begins_with_the_largest_units_for_every_input():
    found, variables, x = made("mlp")
    own = jax.tree.map(lambda v: v[None], part(variables, "backbone"))
    dense = gating.Snapshot(own["params"], {}, gating.no_masks(own["params"]))
    begun = found.begin(dense, (3,))
    one = jax.tree.map(lambda v: v[0], begun.params)
    jax.tree.map(
        np.testing.assert_array_equal, one["backbone"], part(variables, "backbone")["params"]
    )
    opened = logits(found.chooser, {"params": one}, x)
    norms = np.linalg.norm(own["params"]["dense1"]["kernel"][0], axis=0)
    expected = np.isin(np.arange(16), np.argsort(-norms)[:8])
    found_open = found.gates.split(opened)["params/dense1/kernel:1"]
    np.testing.assert_array_equal(found_open, np.stack([expected] * 3))
    other = found.begin(dense, (4,)).params["gater"]["hidden"]["kernel"]
    assert np.any(np.asarray(other) != np.asarray(begun.params["gater"]["hidden"]["kernel"]))


def test_an_axis_of_two_groups_has_gates_of_both():
    found, _, _ = made("resnet8")
    gates: Gates = found.gates
    columns = gates.columns()
    for group in gates.groups:
        for (leaf, axis), places in group.entries.items():
            assert np.all(columns[leaf, axis][places] < gates.units)
    named = np.concatenate([np.unique(column) for column in columns.values()])
    assert set(range(gates.units)) <= set(named.tolist())
