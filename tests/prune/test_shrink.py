import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cutting import (
    FAST,
    cut_at_random,
    logits,
    random_inputs,
    random_units,
    random_variables,
    share_left,
)
from foreign_nets import NETS, dtype_of, shape_of
from marks import slow_but

from kd_jax import tree
from kd_jax.errors import UsageError
from kd_jax.forward import from_apply, from_linen
from kd_jax.models import MODELS, ViT
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.prune import Widths, rebuild, shrink, trace, zeroed
from kd_jax.prune.shrink import cut

OURS = ("mlp_1200", "lenet5", "resnet8", "resnet20_a", "wrn_16_2", "vgg11", "mobilenet_v2")
OURS += ("resnet50", "shufflenet_v1", "shufflenet_v2", "vit_tiny", "deit_tiny_distilled", "lstm")


def model_of(name):
    """(a network, the shape of its inputs, their dtype)."""
    if name in NETS:
        return NETS[name], shape_of(name), dtype_of(name)
    small = name in ("mlp_1200", "lenet5", "lstm")
    shape = (2, 28, 28, 1) if small else (2, 32, 32, 3)
    return from_linen(MODELS[name].tiny().build(10, jnp.float32)), shape, "float32"


# The fast ones have layers of all kinds; the residual, the densely connected, the recurrent and one
# with attention are in other tests, whole or by their gradients.
SLOW = {"mlp_1200", "lenet5", "resnet20_a", "wrn_16_2", "vgg11", "mobilenet_v2", "resnet50"}
SLOW |= {
    "resnet8",
    "shufflenet_v1",
    "shufflenet_v2",
    "vit_tiny",
    "deit_tiny_distilled",
    "densenet",
    "flax_attention",
    "recurrent",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in (*OURS, *NETS)],
)
def test_what_is_left_computes_what_the_full_network_does_with_zeros(name):
    model, shape, dtype = model_of(name)
    structure, _, full, inputs, (small, smaller, _) = cut_at_random(model, shape, dtype)
    expected = logits(model, full, inputs)
    np.testing.assert_allclose(logits(small, smaller, inputs), expected, rtol=1e-4, atol=1e-5)
    assert np.std(expected) > 1e-3
    if structure.groups:
        assert share_left(full, smaller) < 0.8
    # Training: dropout is drawn, statistics keep their form.
    outputs, updated = jax.eval_shape(
        lambda v, x, k: small.forward(v, x, True, k), smaller, inputs, jax.random.key(0)
    )
    assert outputs.logits.shape == expected.shape
    rest = {k: v for k, v in smaller.items() if k != "params"}
    assert jax.tree.map(jnp.shape, updated) == jax.tree.map(jnp.shape, rest)


@pytest.mark.parametrize(
    "name", slow_but(["recurrent"], ["densenet", "flax_attention", "recurrent"])
)
def test_its_statistics_and_gradients_are_those_of_the_full_network(name):
    """Those of the entries that are left."""
    model, shape, dtype = model_of(name)
    structure, kept, full, inputs, (small, smaller, _) = cut_at_random(model, shape, dtype)

    def loss(params, rest, model):
        outputs, updated = model.forward({"params": params, **rest}, inputs, True, None)
        return jnp.sum(jnp.sin(outputs.logits)), updated

    def gradient(model, variables):
        rest = {k: v for k, v in variables.items() if k != "params"}
        run = lambda p: jax.grad(loss, has_aux=True)(p, rest, model)  # noqa: E731
        grads, updated = jax.jit(run, compiler_options=FAST)(variables["params"])
        return {"params": grads, **updated}

    expected = cut(gradient(model, full), structure.indices(kept))
    found = gradient(small, smaller)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), found, expected
    )


def test_custom_derivatives_and_theirs_are_kept():
    """Of relu at exactly 0: 0, not ½; of its derivative too."""

    def apply(variables, x, train):
        p = variables["params"]
        return jnp.sin(jax.nn.relu(x @ p["a"]) @ p["b"])

    params = {"a": jnp.zeros((2, 4)), "b": jnp.arange(12.0).reshape(4, 3)}
    model = from_apply(apply, {"params": params})
    structure = trace(model, (3, 2))
    small, smaller, _ = shrink(model, {"params": params}, structure, {"params/a:1": [0, 2]})
    x = jnp.ones((3, 2))
    loss = lambda v: small.forward(v, x)[0].logits.sum()  # noqa: E731
    gradient = jax.grad(loss)(smaller)["params"]
    assert (gradient["a"] == 0).all()
    hessian = jax.jvp(jax.grad(loss), (smaller,), (smaller,))[1]["params"]
    assert (hessian["a"] == 0).all()
    inlined = lambda v: jnp.sin(jnp.maximum(x @ v["params"]["a"], 0) @ v["params"]["b"]).sum()  # noqa: E731
    assert (jax.grad(inlined)(smaller)["params"]["a"] != 0).all()


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        pytest.param(
            CifarResNet(depth=8, width=0.5),
            CifarResNet(depth=8, width=0.25),
            id="resnet",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ViT(width=16, heads=4, depth=1),
            ViT(width=8, heads=2, depth=1, mlp_ratio=4),
            id="vit",
        ),
    ],
)
def test_half_of_every_group_is_the_network_of_half_the_width(wide, narrow):
    """The same parameters, the same work in a step of training; and the same logits, but where
    norms divide by the number of channels there were."""
    shape, generator = (2, 16, 16, 3), np.random.default_rng(0)
    full, half = (from_linen(config.build(10, jnp.float32)) for config in (wide, narrow))
    structure = trace(full, shape)
    kept = random_units(structure, generator, left=0.5)
    variables = random_variables(full, shape, "float32", generator)
    small, smaller, _ = shrink(full, variables, structure, kept)
    inputs = random_inputs(shape, "float32", generator)
    expected = jax.eval_shape(half.init, jax.random.key(0), inputs)
    assert jax.tree.map(jnp.shape, smaller) == jax.tree.map(lambda x: x.shape, expected)
    if isinstance(wide, CifarResNet):
        found, said = (logits(model, smaller, inputs) for model in (small, half))
        np.testing.assert_allclose(found, said, rtol=1e-4, atol=1e-5)

    def flops(model):
        def loss(params):
            rest = {k: v for k, v in smaller.items() if k != "params"}
            outputs, updated = model.forward({"params": params, **rest}, inputs, True)
            return outputs.logits.sum(), updated

        step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=FAST)
        return step.lower(smaller["params"]).compile().cost_analysis()["flops"]

    assert flops(small) == flops(half)


def hand_made(width):
    def apply(variables, x, train):
        p = variables["params"]
        x = jax.lax.conv_general_dilated(
            x, p["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x * p["scale"][None, None, None])
        return x.mean((1, 2)) @ p["out"]

    shapes = {"conv": (3, 3, 3, width), "scale": (width,), "out": (width, 4)}
    return from_apply(apply, {"params": {name: jnp.ones(s) for name, s in shapes.items()}})


def test_it_costs_what_a_network_made_by_hand_at_that_width_does():
    wide, narrow = hand_made(24), hand_made(8)
    shape = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.float32)
    structure = trace(wide, shape.shape)
    (group,) = structure.groups
    variables = wide.init(jax.random.key(0), shape)
    small, smaller, _ = shrink(wide, variables, structure, {group.name: np.arange(8)})
    assert jax.tree.map(jnp.shape, smaller) == jax.tree.map(jnp.shape, narrow.init(None, None))

    def work(model):
        run = jax.jit(lambda v, x: model.forward(v, x)[0].logits).lower(smaller, shape)
        return run.compile().cost_analysis()["flops"]

    assert work(small) == work(narrow)


@pytest.mark.slow
def test_many_networks_are_cut_in_different_places_at_once():
    model, shape, dtype = model_of("resnet8")
    structure = trace(model, shape)
    rngs = [np.random.default_rng(seed) for seed in (1, 2)]
    each = [random_variables(model, shape, dtype, rng) for rng in rngs]
    kept = [random_units(structure, rng) for rng in rngs]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *each)
    both = {name: np.stack([np.sort(k[name]) for k in kept]) for name in kept[0]}
    inputs = random_inputs(shape, dtype, rngs[0])
    small, smaller, widths = shrink(model, stacked, structure, both)
    run = jax.vmap(lambda v: small.forward(v, inputs)[0].logits)
    found = jax.jit(run, compiler_options=FAST)(smaller)
    for i in range(2):
        alone, variables, same = shrink(model, each[i], structure, kept[i])
        assert same == widths
        np.testing.assert_allclose(found[i], logits(alone, variables, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_is_data_that_another_process_reads(tmp_path):
    model, shape, dtype = model_of("mlp_1200")
    *_, inputs, (small, smaller, widths) = cut_at_random(model, shape, dtype)
    (tmp_path / "widths.json").write_text(widths.to_json())
    leaves = {
        name.replace("/", "|"): np.asarray(x) for name, x in tree.named_leaves(smaller).items()
    }
    np.savez(tmp_path / "arrays.npz", inputs=inputs, **leaves)
    program = f"""
import jax, jax.numpy as jnp, numpy as np, kd_jax
from pathlib import Path
widths = kd_jax.Widths.from_json(Path({str(tmp_path / "widths.json")!r}).read_text())
model = kd_jax.from_linen(kd_jax.MODELS["mlp_1200"].tiny().build(10, jnp.float32))
model = kd_jax.rebuild(model, widths)
arrays = dict(np.load({str(tmp_path / "arrays.npz")!r}))
inputs = jnp.asarray(arrays.pop("inputs"))
shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
names = lambda path, _: jnp.asarray(arrays[jax.tree_util.keystr(path, simple=True, separator="|")])
variables = jax.tree_util.tree_map_with_path(names, shapes)
assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda x: x.shape, shapes)
print(np.asarray(model.forward(variables, inputs)[0].logits).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expected = logits(small, smaller, inputs)
    np.testing.assert_allclose(json.loads(done.stdout), expected, rtol=1e-4, atol=1e-5)


def test_widths_say_what_is_left():
    model = hand_made(24)
    structure = trace(model, (4, 8, 8, 3))
    variables = model.init(jax.random.key(0), None)
    *_, widths = shrink(model, variables, structure, {"params/conv:3": [5, 7, 1]})
    assert widths == Widths(
        input_shape=(4, 8, 8, 3),
        dtype="float32",
        groups={"params/conv:3": (3, 24)},
        leaves={"params/conv": {3: 3}, "params/out": {0: 3}, "params/scale": {0: 3}},
    )
    assert Widths.from_json(widths.to_json()) == widths
    init = rebuild(model, widths).init(jax.random.key(0), None)["params"]
    assert {name: x.shape for name, x in init.items()} == {
        "conv": (3, 3, 3, 3),
        "out": (3, 4),
        "scale": (3,),
    }


def test_a_small_network_is_cut_again_and_built_anew():
    model, shape, dtype = model_of("vit_tiny")
    *_, inputs, (small, smaller, first) = cut_at_random(model, shape, dtype)
    structure = trace(small, shape)
    kept = random_units(structure, np.random.default_rng(3))
    again, least, second = shrink(small, smaller, structure, kept)
    expected = logits(small, zeroed(smaller, structure, kept), inputs)
    np.testing.assert_allclose(logits(again, least, inputs), expected, rtol=1e-4, atol=1e-5)
    anew = rebuild(rebuild(model, first), second)
    np.testing.assert_array_equal(logits(anew, least, inputs), logits(again, least, inputs))


@pytest.mark.slow
def test_another_batch_another_image_size_and_half_precision():
    model, shape, dtype = model_of("resnet8")
    _, _, full, _, (small, smaller, _) = cut_at_random(model, shape, dtype)
    for other in ((1, 32, 32, 3), (5, 24, 40, 3)):
        inputs = random_inputs(other, dtype, np.random.default_rng(0))
        expected = logits(model, full, inputs)
        np.testing.assert_allclose(logits(small, smaller, inputs), expected, rtol=1e-4, atol=1e-5)
    half = lambda x: x.astype(jnp.bfloat16)  # noqa: E731
    found = logits(small, jax.tree.map(half, smaller), half(inputs))
    np.testing.assert_allclose(found.astype(float), expected, rtol=0.2, atol=0.2)


def test_features_are_cut_and_modules_are_tapped():
    model, shape, dtype = model_of("resnet8")
    *_, inputs, (small, smaller, _) = cut_at_random(model, shape, dtype)
    shape_of_features = lambda m: jax.eval_shape(m.forward, smaller, inputs)[0].features  # noqa: E731
    assert shape_of_features(small)["stage3"].shape == (2, 8, 8, 10)
    tapped = small.tapped(("stage2_block0/conv1",))
    assert shape_of_features(tapped)["stage2_block0/conv1"].shape == (2, 16, 16, 5)


def test_variables_of_several_networks_are_not_taken_for_one():
    model = hand_made(24)
    one = model.init(None, None)
    two = jax.tree.map(lambda x: jnp.stack([x, x]), one)
    for variables, kept in ((two, [0, 1]), (one, [[0, 1], [1, 2]])):
        with pytest.raises(UsageError, match="or of S networks with units"):
            shrink(model, variables, (4, 8, 8, 3), {"params/conv:3": kept})


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"params/nothing:0": [0]}, "no group of the network"),
        ({"params/conv:3": []}, "at least one unit"),
        ({"params/conv:3": [1, 1]}, "none twice"),
        ({"params/conv:3": [24]}, "units are 0 to 23"),
        ({"params/conv:3": [-1, 2]}, "units are 0 to 23"),
    ],
)
def test_units_that_are_not_there(kept, message):
    model = hand_made(24)
    with pytest.raises(UsageError, match=message):
        shrink(model, model.init(None, None), (4, 8, 8, 3), kept)


def test_inputs_at_which_a_group_falls_apart():
    """A network that takes its first channels by the length of its inputs."""

    def apply(variables, x, train):
        hidden = x.mean(axis=1, keepdims=True) @ variables["params"]["a"]
        first, rest = hidden[:, : x.shape[1]], hidden[:, x.shape[1] :]
        hidden = jnp.concatenate([jax.nn.relu(first), jnp.tanh(rest)], axis=1)
        return hidden @ variables["params"]["b"]

    params = {"a": jnp.ones((1, 6)), "b": jnp.ones((6, 2))}
    model = from_apply(apply, {"params": params})
    structure = trace(model, (5, 2))
    assert [group.size for group in structure.groups] == [2, 4]
    kept = {group.name: [0] for group in structure.groups}
    small, smaller, _ = shrink(model, {"params": params}, structure, kept)
    assert small.forward(smaller, jnp.ones((7, 2)))[0].logits.shape == (7, 2)
    with pytest.raises(UsageError, match="trace the network with inputs of this shape"):
        small.forward(smaller, jnp.ones((5, 3)))


def test_widths_of_another_network():
    model = hand_made(24)
    *_, widths = shrink(model, model.init(None, None), (4, 8, 8, 3), {"params/conv:3": [0]})
    with pytest.raises(UsageError, match="of 24 units, but the network has 12 there"):
        rebuild(hand_made(12), widths)
    with pytest.raises(UsageError, match="no such group"):
        rebuild(NETS["plain"], widths)
