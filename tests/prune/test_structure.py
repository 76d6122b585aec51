import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign_nets import NETS, dtype_of, shape_of

from kd_jax.forward import from_apply, from_linen
from kd_jax.models import MODELS
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.prune import trace
from kd_jax.prune.units import Units


def entries(group):
    """{leaf:axis: [units, places]} without the name of the parameters' collection."""
    name = lambda leaf: leaf.removeprefix("params/")  # noqa: E731
    return {f"{name(leaf)}:{axis}": x.tolist() for (leaf, axis), x in group.entries.items()}


def sizes(name):
    groups = trace(NETS[name], shape_of(name), dtype_of(name)).groups
    return {group.name.removeprefix("params/"): group.size for group in groups}


def of_function(apply, **shapes):
    """The structure of apply(params, inputs) on inputs [3, 4]."""
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    model = from_apply(lambda v, x, train: apply(v["params"], x), {"params": params})
    return trace(model, (3, 4))


# Units ---------------------------------------------------------------------------------------


def test_units_that_are_united_share_the_least_root():
    units = Units()
    a, b = units.fresh(3), units.fresh(3)
    units.unite(a, b)
    assert (units.find(b) == a).all()
    units.unite(a[:1], a[2:])
    assert units.find(b).tolist() == [a[0], a[1], a[0]]


def test_a_unit_that_meets_many_others_at_once_is_one_with_all():
    units = Units()
    a = units.fresh(50)
    order = np.random.default_rng(0).permutation(50)
    units.unite(np.full(50, a[-1]), a[order])
    assert (units.find(a) == a[0]).all()


def test_what_is_bound_stays_bound_in_company():
    units = Units()
    free, bound = units.fresh(4), units.fresh(4, bound=True)
    assert not units.bound(free)
    units.unite(free[:1], bound[2:3])
    assert units.bound(free[:1])
    assert not units.bound(free[1:])


# Groups checked by hand ----------------------------------------------------------------------


class TwoConvs(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(3, (3, 3), name="first")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = nn.Conv(2, (3, 3), name="second")(x)
        return nn.Dense(4, name="out")(x.reshape(x.shape[0], -1))


def test_two_convolutions():
    structure = trace(from_linen(TwoConvs()), (5, 2, 2, 1))
    first, second = structure.groups
    assert first.name == "params/first/kernel:3"
    assert first.producers == (("params/first/kernel", 3),)
    one = [[0], [1], [2]]
    assert entries(first) == {
        "batch_stats/norm/mean:0": one,
        "batch_stats/norm/var:0": one,
        "first/bias:0": one,
        "first/kernel:3": one,
        "norm/bias:0": one,
        "norm/scale:0": one,
        "second/kernel:2": one,
    }
    # The dense layer reads channel 0 and channel 1 of the first place, then of the next.
    assert entries(second) == {
        "out/kernel:0": [[0, 2, 4, 6], [1, 3, 5, 7]],
        "second/bias:0": [[0], [1]],
        "second/kernel:3": [[0], [1]],
    }


def test_a_residual_block():
    def apply(p, x):
        x = x @ p["stem"]
        x = x + jax.nn.relu(x @ p["into"]) @ p["out"]
        return x @ p["classes"]

    structure = of_function(apply, stem=(4, 5), into=(5, 6), out=(6, 5), classes=(5, 2))
    found = {group.name: [*entries(group)] for group in structure.groups}
    assert found == {
        "params/out:1": ["classes:0", "into:0", "out:1", "stem:1"],
        "params/into:1": ["into:1", "out:0"],
    }
    stream = next(g for g in structure.groups if g.name == "params/out:1")
    assert stream.producers == (("params/out", 1), ("params/stem", 1))


def test_inputs_and_logits_are_kept_and_said_to_be():
    structure = of_function(lambda p, x: x @ p["a"] @ p["b"], a=(4, 5), b=(5, 2))
    assert [entries(g) for g in structure.groups] == [
        {"a:1": [[i] for i in range(5)], "b:0": [[i] for i in range(5)]}
    ]
    notes = {(note.reason, note.leaves) for note in structure.notes}
    assert ("is an axis of the logits", ("params/b:1",)) in notes
    assert ("is summed with an axis of fixed size", ("params/a:0",)) in notes


# What is zero when it is cut -----------------------------------------------------------------


ZERO = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "hard_swish": jax.nn.hard_swish,
    "relu6": jax.nn.relu6,
    "elu": jax.nn.elu,
    "mish": jax.nn.mish,
    "tanh": jnp.tanh,
    "less a half": lambda x: jax.nn.sigmoid(x) - 0.5,
    "absolute": jnp.abs,
    "cube": lambda x: x**3,
    "clipped": lambda x: jnp.clip(x, -1, 1),
}
NOT_ZERO = {
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "exp": jnp.exp,
    "cos": jnp.cos,
    "plus one": lambda x: x + 1,
    "clipped above": lambda x: jnp.clip(x, 0.1, 1),
    "tie": lambda x: (x >= 0).astype(x.dtype),
}


def summed(function):
    """Units whose activations are summed over, before a kernel reads them."""

    def apply(p, x):
        x = function(x @ p["a"])
        return (x / (1 + x.sum(axis=1, keepdims=True))) @ p["b"]

    return of_function(apply, a=(4, 5), b=(5, 2))


@pytest.mark.parametrize("name", ZERO)
def test_zeros_may_be_summed_over(name):
    assert [g.size for g in summed(ZERO[name]).groups] == [5]


@pytest.mark.parametrize("name", NOT_ZERO)
def test_what_is_not_zero_is_kept_where_it_is_summed(name):
    structure = summed(NOT_ZERO[name])
    assert structure.groups == ()
    assert "is reduced by reduce_sum, and not zero when cut" in {n.reason for n in structure.notes}


@pytest.mark.parametrize("name", NOT_ZERO)
def test_what_is_not_zero_is_cut_where_only_a_kernel_reads_it(name):
    structure = of_function(lambda p, x: NOT_ZERO[name](x @ p["a"]) @ p["b"], a=(4, 5), b=(5, 2))
    assert [g.size for g in structure.groups] == [5]


def test_a_largest_entry_is_of_all_units():
    apply = lambda p, x: (x @ p["a"]).max(axis=1, keepdims=True) * p["b"]  # noqa: E731
    assert of_function(apply, a=(4, 5), b=(1, 2)).groups == ()


# What must not be cut ------------------------------------------------------------------------

KEEPS = {
    "sorted": lambda x: jnp.sort(x, axis=1),
    "summed up": lambda x: jnp.cumsum(x, axis=1),
    "every other": lambda x: jnp.concatenate([x[:, ::2], x[:, ::2]], axis=1),
    "weighed by place": lambda x: x * jnp.arange(6.0)[None],
    "its diagonal": lambda x: x * jnp.diagonal(x.T @ x)[None],
    "softmax": lambda x: jax.nn.softmax(x, axis=1),
    "a loop": lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: 2 * x, x),
    "unknown": lambda x: jnp.fft.fft(x).real,
    "a triangle": lambda x: jnp.linalg.cholesky(x.T @ x + jnp.eye(6)) @ jnp.ones((6, 6)),
}


@pytest.mark.parametrize("name", KEEPS)
def test_what_needs_all_units_keeps_them(name):
    def apply(p, x):
        x = KEEPS[name](x @ p["a"])
        return jnp.tanh(x @ p["b"])[:3] @ p["c"]

    structure = of_function(apply, a=(4, 6), b=(6, 7), c=(7, 2))
    assert [group.name for group in structure.groups] == ["params/b:1"]


def test_an_operation_that_is_not_understood_says_so():
    structure = trace(NETS["fourier"], shape_of("fourier"))
    note = next(note for note in structure.notes if note.primitive == "fft")
    assert note.reason == "fft isn't understood"
    assert note.leaves == ("params/Dense_1/bias:0", "params/Dense_1/kernel:1")
    assert sizes("fourier") == {"Dense_0/kernel:1": 12, "Dense_3/kernel:1": 8}


def test_channels_that_only_go_together_are_named():
    def apply(p, x):
        x = jnp.pad(x @ p["a"], ((0, 0), (0, 1)))
        return jnp.tanh((x[:, 1:] - x[:, :-1]) @ p["b"]) @ p["c"]

    structure = of_function(apply, a=(4, 5), b=(5, 3), c=(3, 2))
    assert [group.name for group in structure.groups] == ["params/b:1"]
    notes = {note.reason: note.leaves for note in structure.notes}
    assert notes["hangs together as one unit"] == ("params/a:1", "params/b:0")


# That enough can be cut ----------------------------------------------------------------------

FOUND = {
    "densenet": [4, 4, 4, 6],
    "unet": [6, 8, 8, 10],
    "squeeze_excite": [4, 6],  # the groups of the norm
    "fused_heads": [3, 10, 12],
    "flax_attention": [3, 4, 4, 12, 20],  # heads; sizes of query and key, and of value
    "shared": [10],
    "shuffled": [2, 6, 8, 8],
    "pixel_shuffle": [4, 6],
    "mixer": [10, 12],
    "recurrent": [6, 8],
    "remembered": [8, 10, 12],
    "grouped_queries": [2, 12],  # keys with the queries that share them
    "windows": [2, 8, 12],
    "experts": [6, 7, 8, 10],
    "nnx": [6, 8],
    "plain": [4, 10, 12],
}


@pytest.mark.parametrize("name", FOUND)
def test_the_units_of_networks_never_seen(name):
    assert sorted(sizes(name).values()) == FOUND[name]


def groups_of(config, shape=(2, 32, 32, 3)):
    return trace(from_linen(config.build(10, jnp.float32)), shape).groups


def test_every_stream_and_every_inner_channel_of_a_residual_network():
    found = sorted(g.size for g in groups_of(MODELS["resnet20"]))
    assert found == sorted([16, 32, 64] + 3 * [16, 32, 64])
    bottlenecks = dataclasses.replace(MODELS["resnet50"], blocks=(1, 1, 1, 1), width=1 / 8)
    found = sorted(g.size for g in groups_of(bottlenecks))
    assert found == sorted([8] + 2 * [8, 16, 32, 64] + [32, 64, 128, 256])


def test_heads_hidden_units_and_the_stream_of_a_transformer():
    config = dataclasses.replace(MODELS["vit_tiny"], depth=2)
    assert sorted(g.size for g in groups_of(config)) == [4, 4, 256, 512, 512]


def test_shortcuts_that_pad_with_zeros_tie_the_middle_channels():
    """A stage's channels are the middle ones of the next, twice as wide: the stem's 16 channels go
    all the way, and each widening adds as many before them as after them."""
    found = sorted(g.size for g in groups_of(CifarResNet(depth=8, shortcut="a")))
    streams, inner = [16, 8, 8, 16, 16], [16, 32, 64]
    assert found == sorted(streams + inner)
