"""Multiply-accumulates counted from the jaxpr, against counts by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from kd_jax.cost import mac_table, macs


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_matrix_product_and_batched_einsum():
    assert macs(jnp.matmul, shape(3, 4), shape(4, 5)) == 3 * 4 * 5
    attention = lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q, k)  # noqa: E731
    assert macs(attention, shape(2, 7, 3, 4), shape(2, 5, 3, 4)) == 2 * 3 * 7 * 5 * 4


@pytest.mark.parametrize(
    ("features", "options", "expected"),
    [
        (8, {}, 10 * 10 * 8 * 9 * 4),
        (8, {"padding": "VALID"}, 8 * 8 * 8 * 9 * 4),
        (8, {"strides": 2}, 5 * 5 * 8 * 9 * 4),
        (8, {"feature_group_count": 2}, 10 * 10 * 8 * 9 * 2),
        (4, {"feature_group_count": 4}, 10 * 10 * 4 * 9),  # depthwise
        (12, {"feature_group_count": 4}, 10 * 10 * 12 * 9),  # depthwise, three filters each
        (8, {"kernel_dilation": 2}, 10 * 10 * 8 * 9 * 4),
    ],
)
def test_convolutions(features, options, expected):
    layer = nn.Conv(features, (3, 3), **options)
    apply = lambda x: layer.init_with_output(jax.random.key(0), x)[0]  # noqa: E731
    assert macs(apply, shape(1, 10, 10, 4)) == expected
    assert macs(apply, shape(6, 10, 10, 4)) == 6 * expected


def test_transposed_convolution_skips_the_zeros_between_its_inputs():
    layer = nn.ConvTranspose(8, (2, 2), strides=(2, 2))
    apply = lambda x: layer.init_with_output(jax.random.key(0), x)[0]  # noqa: E731
    assert macs(apply, shape(1, 5, 5, 4)) == 5 * 5 * 4 * 2 * 2 * 8


def test_weight_gradient_costs_what_the_layer_costs():
    """Both gradients of a 1x1 convolution, grouped or not, and of a depthwise 3x3 without
    padding, are as many products as the layer."""
    for groups, size, places in ((1, 1, 6), (2, 1, 6), (4, 3, 4)):
        kernel = shape(size, size, 4 // groups, 8)
        conv = lambda x, w, g=groups: jax.lax.conv_general_dilated(  # noqa: E731
            x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=g
        )
        forward = 3 * places**2 * 8 * size**2 * 4 // groups
        x = shape(3, 6, 6, 4)
        assert macs(conv, x, kernel) == forward
        gradient = jax.grad(lambda w, x, f=conv: jnp.sum(f(x, w) ** 2))
        assert macs(gradient, kernel, x) == 2 * forward


def test_what_is_not_counted():
    def pooled(x):
        x = nn.avg_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)]) * 2.0 + 1.0
        return jax.nn.softmax(nn.max_pool(nn.relu(x), (2, 2)).mean(axis=(1, 2)))

    assert mac_table(pooled, shape(2, 8, 8, 3)) == []


def test_nested_programs():
    weights = shape(4, 4)
    step = lambda x, w: x @ w  # noqa: E731
    once = 2 * 4 * 4
    with_jvp = jax.custom_jvp(step)
    with_jvp.defjvps(lambda g, out, x, w: g @ w, None)
    with_rule = jax.custom_vjp(step)
    with_rule.defvjp(lambda x, w: (step(x, w), w), lambda w, g: (g @ w.T, None))
    for wrapped in (jax.jit(step), jax.checkpoint(step), with_jvp, with_rule):
        assert macs(wrapped, shape(2, 4), weights) == once
    assert macs(jax.vmap(step, (0, None)), shape(5, 2, 4), weights) == 5 * once


def test_scan_counts_every_step_and_says_how_many():
    def scanned(x, w):
        inner = lambda c, _: (jax.jit(jnp.matmul)(c, w), None)  # noqa: E731
        outer = lambda c, _: (jax.lax.scan(inner, c, None, length=7)[0], None)  # noqa: E731
        return jax.lax.scan(outer, x, None, length=3)[0]

    (row,) = mac_table(scanned, shape(2, 4), shape(4, 4))
    assert (row.times, row.macs, row.shape) == (21, 21 * 2 * 4 * 4, (2, 4))
    looped = lambda x, w: jax.lax.fori_loop(0, 5, lambda _, c: c @ w, x)  # noqa: E731
    assert macs(looped, shape(2, 4), shape(4, 4)) == 5 * 2 * 4 * 4


def test_cond_counts_its_costliest_branch():
    branches = (lambda x: x, lambda x: x @ x, lambda x: x @ x @ x)
    choose = lambda i, x: jax.lax.switch(i, branches, x)  # noqa: E731
    assert macs(choose, jax.ShapeDtypeStruct((), jnp.int32), shape(4, 4)) == 2 * 4**3


def test_while_loop_says_that_it_is_counted_once():
    def grown(x):
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 100, lambda y: y @ y, x)

    (row,) = mac_table(grown, shape(4, 4))
    assert "unknown number of turns" in row.note
    with pytest.warns(UserWarning, match="unknown number of turns"):
        assert macs(grown, shape(4, 4)) == 4**3


def test_shard_map_counts_all_devices():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    whole, split = spec(), spec("data")
    sharded = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(split, whole), out_specs=split)
    assert macs(sharded, shape(8, 4), shape(4, 5)) == 8 * 4 * 5


def test_rows_are_named_after_modules_and_sum_to_the_count():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3), name="first")(x))
            return nn.Dense(2, name="last")(x.reshape(x.shape[0], -1))

    apply = lambda x: Net().init_with_output(jax.random.key(0), x)[0]  # noqa: E731
    rows = mac_table(jax.jit(apply), shape(1, 5, 5, 3))
    assert [row.primitive for row in rows] == ["conv_general_dilated", "dot_general"]
    assert [row.name.split("/")[-1] for row in rows] == ["first", "last"]
    assert [row.macs for row in rows] == [25 * 4 * 27, 100 * 2]
    assert macs(apply, shape(1, 5, 5, 3)) == sum(row.macs for row in rows)
