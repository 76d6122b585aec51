"""A convolution is that of lax, whatever it is computed as."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from marks import slow_but

from kd_jax import convolution
from kd_jax.convolution import convolve
from kd_jax.platform import equations

NUMBERS = ("NHWC", "HWIO", "NHWC")
# Input, kernel, strides, padding, groups; and the equations that a CPU makes of it.
CASES = {
    "plain": ((4, 8, 8, 3), (3, 3, 3, 5), (1, 1), "SAME", 1, "custom_jvp_call"),
    "strides": ((4, 9, 7, 3), (3, 3, 3, 5), (2, 1), "SAME", 1, "custom_jvp_call"),
    "one side": ((4, 8, 8, 3), (3, 3, 3, 5), (2, 2), ((0, 1), (1, 0)), 1, "custom_jvp_call"),
    "1x1": ((4, 5, 5, 6), (1, 1, 6, 7), (1, 1), "VALID", 1, "dot_general"),
    "1x1, strides": ((4, 5, 6, 6), (1, 1, 6, 7), (2, 3), ((1, 0), (0, 2)), 1, "dot_general"),
    "small map": ((4, 2, 2, 3), (3, 3, 3, 5), (1, 1), "SAME", 1, "dot_general"),
    "one place": ((4, 1, 1, 3), (3, 3, 3, 5), (1, 1), ((1, 1), (1, 1)), 1, "dot_general"),
    "to a small map": ((4, 4, 5, 3), (3, 3, 3, 5), (2, 2), ((1, 1), (1, 1)), 1, "dot_general"),
    "all of the map": ((4, 5, 5, 3), (5, 5, 3, 5), (1, 1), "VALID", 1, "dot_general"),
    "each channel": ((4, 6, 5, 4), (3, 3, 1, 4), (1, 1), "SAME", 4, "mul"),
    "each channel, strides": ((4, 6, 6, 4), (3, 3, 1, 4), (2, 2), ((1, 1), (1, 1)), 4, "mul"),
    "each channel twice": ((4, 6, 6, 4), (5, 5, 1, 8), (1, 1), "SAME", 4, "mul"),
    "groups": ((4, 6, 6, 6), (3, 3, 2, 9), (1, 1), "SAME", 3, "custom_jvp_call"),
    "groups of 1x1": ((4, 6, 6, 6), (1, 1, 2, 9), (1, 1), "SAME", 3, "dot_general"),
    "many groups": ((2, 4, 4, 130), (3, 3, 2, 65), (1, 1), "SAME", 65, "conv_general_dilated"),
    "huge window": ((2, 6, 6, 3), (9, 9, 3, 4), (1, 1), "SAME", 1, "custom_jvp_call"),
}

SAME = ("plain", "strides", "one side", "many groups", "huge window")  # convolutions as of lax


def pair(name):
    """(ours, lax's, the two operands)."""
    x, kernel, strides, padding, groups, _ = CASES[name]
    keys = jax.random.split(jax.random.key(0))
    given = {"dimension_numbers": NUMBERS, "feature_group_count": groups}

    def by(convolution):
        return lambda x, w: convolution(jnp.tanh(x), w, strides, padding, **given)

    operands = jax.random.normal(keys[0], x), jax.random.normal(keys[1], kernel)
    return by(convolve), by(lax.conv_general_dilated), operands


# One for each way in which they are computed.
FEW = ["plain", "strides", "1x1", "small map", "each channel", "groups"]


@pytest.mark.parametrize("name", slow_but(FEW, CASES))
def test_numbers_and_gradients_are_those_of_lax(name):
    ours, theirs, operands = pair(name)

    def both(f):
        return jax.jit(jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1)))

    near = 1e-6 if name in SAME else 2e-5
    found, expected = both(ours)(*operands), both(theirs)(*operands)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=near, atol=near)
    np.testing.assert_allclose(ours(*operands), theirs(*operands), rtol=near, atol=near)
    assert CASES[name][5] in str(jax.make_jaxpr(ours)(*operands))


@pytest.mark.parametrize("name", slow_but(["plain", "each channel"], FEW))
def test_so_are_derivatives_forward_of_derivatives_and_of_many_networks(name):
    ours, theirs, (x, w) = pair(name)

    def directional(f):  # a Hessian's product, as GraSP takes it
        slope = jax.grad(lambda w: jnp.sum(jnp.sin(f(x, w))))
        return jax.jvp(slope, (w,), (jnp.ones_like(w),))[1]

    np.testing.assert_allclose(directional(ours), directional(theirs), rtol=1e-4, atol=1e-3)
    kernels = jnp.stack([w, 2 * w, -w])
    many = lambda f: jax.vmap(f, (None, 0))(x, kernels)  # noqa: E731
    np.testing.assert_allclose(many(ours), many(theirs), rtol=2e-5, atol=2e-5)


def test_only_what_asks_for_a_gradient_by_the_kernel_pays_for_it():
    """By the inputs alone, or by the kernel alone, there is one convolution more."""
    ours, _, operands = pair("plain")
    loss = lambda x, w: jnp.sum(ours(x, w))  # noqa: E731
    count = lambda f: jax.jit(f).lower(*operands).as_text().count("stablehlo.convolution")  # noqa: E731
    assert count(loss) == 1
    assert [count(jax.value_and_grad(loss, n)) for n in (0, 1, (0, 1))] == [2, 2, 3]


@pytest.mark.parametrize("batch", slow_but([5], [5, 6]))
def test_the_gradient_of_a_kernel_is_summed_over_parts_of_a_large_batch(monkeypatch, batch):
    def convolutions(high):  # other shapes each time: the rule is traced once for each
        x = jax.random.normal(jax.random.key(0), (batch, high, 6, 2))
        w = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))

        def gradients(convolution):
            loss = lambda x, w: jnp.sum(  # noqa: E731
                jnp.sin(convolution(x, w, (1, 1), "SAME", dimension_numbers=NUMBERS))
            )
            return jax.jit(jax.grad(loss, (0, 1))).lower(x, w)

        ours, theirs = gradients(convolve), gradients(lax.conv_general_dilated)
        for a, b in zip(ours.compile()(x, w), theirs.compile()(x, w), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        return ours.as_text().count("stablehlo.convolution")

    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert convolutions(high=6) == 3
    monkeypatch.setattr(convolution, "LARGE", 100)
    monkeypatch.setattr(convolution, "PART", 2 * 7 * 6 * 4)  # two examples' results
    assert convolutions(high=7) == 2 + 3
    monkeypatch.setattr(jax, "device_count", lambda: 4)  # which share the batch
    assert convolutions(high=8) == 3


@pytest.mark.parametrize(
    "how",
    [
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 2)},
        {"precision": lax.Precision.HIGHEST},
        {"dimension_numbers": ("NHWC", "OHWI", "NHWC")},
    ],
    ids=lambda how: next(iter(how)),
)
def test_what_is_no_plain_convolution_is_left_alone(how):
    x, w = jnp.ones((2, 2, 2, 3)), jnp.ones((3, 3, 3, 3))
    given = {"dimension_numbers": NUMBERS} | how
    ours = convolve(x, w, (1, 1), [(2, 2), (2, 2)], **given)
    theirs = lax.conv_general_dilated(x, w, (1, 1), [(2, 2), (2, 2)], **given)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_half_precision_and_negative_padding_are_left_alone():
    x, w = jnp.ones((2, 4, 4, 3), jnp.bfloat16), jnp.ones((1, 1, 3, 2), jnp.bfloat16)
    found = jax.make_jaxpr(lambda x, w: convolve(x, w, (1, 1), "SAME", dimension_numbers=NUMBERS))
    assert "conv_general_dilated" in str(found(x, w))
    x, w = jnp.ones((2, 4, 4, 3)), jnp.ones((1, 1, 3, 2))
    y = convolve(x, w, (1, 1), [(-1, 0), (0, 0)], dimension_numbers=NUMBERS)
    assert y.shape == (2, 3, 4, 2)


def test_off_the_cpu_the_program_is_the_same(monkeypatch):
    ours, theirs, operands = pair("each channel")
    assert "optimization_barrier" in str(jax.make_jaxpr(ours)(*operands))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    ours, theirs, operands = pair("each channel")  # anew: the old one has been traced
    assert str(jax.make_jaxpr(ours)(*operands)) == str(jax.make_jaxpr(theirs)(*operands))


def test_a_program_that_is_read_has_one_equation_for_each():
    ours, theirs, operands = pair("each channel")
    assert str(equations(ours, *operands)) == str(jax.make_jaxpr(theirs)(*operands))
    assert "optimization_barrier" in str(jax.make_jaxpr(ours)(*operands))  # afterwards as before
