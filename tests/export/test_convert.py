"""Networks and operations as ONNX, run by onnxruntime beside JAX."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import lax
from marks import slow_but
from models.model_shapes import drawn

from kd_jax import UsageError, from_linen, gated, shrink, trace
from kd_jax.export import to_onnx
from kd_jax.models import MODELS

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
EXAMPLES = 3


def session(model):
    onnx.checker.check_model(model, full_check=True)
    given = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=given)


def agree(function, x, batches=(EXAMPLES, 1), tolerance=2e-6):
    """The ONNX model of a function [B, ...] -> [B, ...], once it says the same at two sizes."""
    model = to_onnx(function, x.shape[1:], x.dtype)
    run, expected = session(model), np.asarray(jax.jit(function)(x))
    for batch in batches:
        (found,) = run.run(None, {"images": np.asarray(x[:batch])})
        assert found.shape == (batch, *expected.shape[1:])
        assert found.dtype == expected.dtype
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected[:batch], rtol=0, atol=tolerance * scale)
    return model


def pixels(shape):
    drawn = np.random.default_rng(1).integers(0, 256, (EXAMPLES, *shape))
    return jnp.asarray(drawn, jnp.uint8)


def network(config, shape):
    model = from_linen(config.build(10, jnp.float32))
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return model, drawn(jax.eval_shape(model.init, jax.random.key(0), example))


def of(model, variables):
    """Pixels to logits, as exported."""
    return lambda x: model.forward(variables, (x.astype(jnp.float32) - 99) / 50)[0].logits


def count(model):
    return Counter(node.op_type for node in model.graph.node)


FAMILIES = {
    **dict.fromkeys(("lenet_300_100", "lenet5", "lstm"), MNIST),
    **dict.fromkeys(("resnet8", "resnet20_a", "resnet18", "wrn_16_1", "vgg8"), CIFAR),
    **dict.fromkeys(("mobilenet_v2", "shufflenet_v1", "shufflenet_v2"), CIFAR),
    "deit_tiny_distilled": CIFAR,
}


# The others are of the same layers.
FAST = ("lenet5", "lstm", "resnet8", "mobilenet_v2", "deit_tiny_distilled")


@pytest.mark.parametrize("name", slow_but(FAST, FAMILIES))
def test_every_family_says_the_same(name):
    shape = FAMILIES[name]
    """Logits agree to 1e-5 of the largest, for batches of two sizes."""
    agree(of(*network(MODELS[name].tiny(), shape)), pixels(shape), tolerance=1e-5)


def test_norms_are_folded_and_channels_stay_in_place():
    """Of a residual network there are left: the pixels' normalisation, one transpose, convolutions,
    their activations and sums, the pooling and the classifier."""
    config = MODELS["resnet8"].tiny()
    found = count(to_onnx(of(*network(config, (8, 8, 3))), (8, 8, 3), jnp.uint8))
    assert found["Transpose"] == 1
    assert found["Add"] == 3  # of three blocks
    assert found["Mul"] + found["Div"] + found["Sub"] == 3  # of pixels, twice, and of the mean
    assert not found["Expand"] + found["Reshape"]


def test_pooling_is_the_runtimes_own_however_it_is_computed_here():
    config = MODELS["lenet5"].tiny()
    found = count(to_onnx(of(*network(config, MNIST)), MNIST, jnp.uint8))
    assert found["MaxPool"] == 2
    assert not found["ReduceMax"]


def test_a_shrunk_network_says_the_same():
    """Its forward pass can't be traced with a symbolic batch."""
    model, variables = network(MODELS["resnet8"].tiny(), (8, 8, 3))
    structure = trace(model, (2, 8, 8, 3))
    kept = {group.name: np.arange(1 + group.size // 3) for group in structure.groups}
    model, variables, _ = shrink(model, variables, structure, kept)
    agree(of(model, variables), pixels((8, 8, 3)), tolerance=1e-5)


def test_a_gated_network_says_the_same():
    """Each input's winners are found in the graph."""
    backbone, _ = network(MODELS["lenet_300_100"].tiny(), (8, 8, 1))
    model = gated(backbone, (8, 8, 1), hidden=4).model
    example = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), example))
    made = agree(of(model, variables), pixels((8, 8, 1)), tolerance=1e-5)
    assert count(made)["TopK"] == 2


# Operations ----------------------------------------------------------------------------------


@jax.custom_vjp
def straight(x):
    return jnp.round(x)


straight.defvjp(lambda x: (straight(x), None), lambda _, g: (g,))


def quantised(x):
    """As a network of eight bits computes: scaled, rounded, clamped, as integers and back."""
    whole = jnp.clip(straight(x / 0.1), -3, 3).astype(jnp.int8)
    kernel = jnp.asarray(np.arange(24).reshape(6, 4) - 12, jnp.int8)
    summed = lax.dot_general(
        whole, kernel, (((1,), (0,)), ((), ())), preferred_element_type="int32"
    )
    return 0.02 * summed.astype(jnp.float32)


def looped(x):
    """x [B, 6] read as three steps of two, forward and backward."""
    steps, kernel = x.reshape(-1, 3, 2).swapaxes(0, 1), jnp.asarray([[0.5, 0.1], [-0.3, 0.8]])

    def turn(state, step):
        state = jnp.tanh(state @ kernel + step)
        return state, 2 * state

    zeros = jnp.zeros_like(steps[0])
    last, along = lax.scan(turn, zeros, steps)
    _, back = lax.scan(turn, last, along, reverse=True)
    return jnp.concatenate([last, back[0], along[1]], axis=1)


def convolved(x, **how):
    kernel = np.random.default_rng(2).normal(size=(2, 2, 1, 4)).astype(np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")
    given = {"window_strides": (2, 1), "padding": ((1, 0), (0, 2)), **how}
    return lax.conv_general_dilated(x, jnp.asarray(kernel), dimension_numbers=numbers, **given)


def wide(x):
    return x.reshape(-1, 3, 2, 1)


GIVEN = jnp.asarray(np.random.default_rng(0).normal(size=(EXAMPLES, 6)), jnp.float32)
MATRIX = jnp.asarray(np.random.default_rng(3).normal(size=(6, 5)), jnp.float32)
OPERATIONS = {
    "round": lambda x: jnp.round(3 * x),
    "round, half up": lambda x: lax.round(jnp.floor(9 * x) / 2, lax.RoundingMethod.AWAY_FROM_ZERO),
    "clamp": lambda x: lax.clamp(-0.5, x, 0.25),
    "sign, floor, ceil": lambda x: jnp.sign(x) + jnp.floor(x) * jnp.ceil(2 * x),
    "integers": lambda x: (9 * x).astype(jnp.int32) % 4,
    "bits": lambda x: ((9 * x).astype(jnp.int32) & 5) | 8,
    "where": lambda x: jnp.where((x > 0) & (x < 0.5), x, -x),
    "powers": lambda x: x**3 + jnp.abs(x) ** 0.5 + lax.rsqrt(1 + x**2),
    "logarithms": lambda x: jnp.log1p(jnp.abs(x)) + jnp.expm1(x) + jnp.log(2 + jnp.abs(x)),
    "softmax": jax.nn.softmax,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "layer norm": lambda x: (x - x.mean(1, keepdims=True)) / (1e-6 + x.std(1, keepdims=True)),
    "quantised": quantised,
    "loop": looped,
    "dense": lambda x: 0.5 * (x @ MATRIX) + jnp.arange(5.0)[None],
    "kernel first": lambda x: jnp.einsum("ko,bk->ob", MATRIX, x).T,
    "attention": lambda x: jnp.einsum("bij,bkj->bik", x.reshape(-1, 3, 2), x.reshape(-1, 3, 2)),
    "two axes summed": lambda x: jnp.einsum(
        "bij,bkij->bk", x.reshape(-1, 3, 2), x.reshape(-1, 1, 3, 2)
    ),
    "a product read twice": lambda x: (x @ MATRIX) * 2 + jnp.tanh(x @ MATRIX),
    "convolution": lambda x: convolved(wide(x)),
    "dilated": lambda x: convolved(wide(x), rhs_dilation=(1, 2)),
    "norm folded": lambda x: (convolved(wide(x)) - jnp.arange(4.0)) / jnp.arange(1.0, 5),
    "max pool": lambda x: lax.reduce_window(
        wide(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 2, 1), ((0, 0), (1, 0), (0, 0), (0, 0))
    ),
    "sum pool": lambda x: lax.reduce_window(
        wide(x), 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), ((0, 0), (1, 1), (0, 0), (0, 0))
    ),
    "pad and cut": lambda x: lax.pad(x, 2.0, ((0, 0, 0), (-1, 3, 0)))[:, ::2],
    "slices": lambda x: jnp.concatenate([x[:, 4:], x[:, 0:1], x[:, ::-1]], axis=1),
    "split": lambda x: jnp.split(x, 3, axis=1)[1] * jnp.split(x, [4], axis=1)[1],
    "rows": lambda x: x[:, jnp.asarray([3, 0, 0])],
    "a table": lambda x: MATRIX[jnp.clip(x[:, 0].astype(jnp.int32), 0, 5)],
    "winners": lambda x: jnp.put_along_axis(
        jnp.zeros_like(x), lax.top_k(x, 2)[1], 1.0, axis=1, inplace=False
    ),
    "cumulated": lambda x: jnp.cumsum(x, axis=1),
    "largest": lambda x: jnp.stack([jnp.argmax(x, 1), jnp.argmin(x, 1)], axis=1),
    "which": lambda x: jnp.stack([jnp.any(x > 1, 1), jnp.all(x < 1, 1)], axis=1).astype(
        jnp.float32
    ),
    "batch counted": lambda x: x + jnp.arange(len(x), dtype=jnp.float32)[:, None] / 8,
    "transposed": lambda x: wide(x).transpose(0, 3, 2, 1).reshape(-1, 6),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_the_same(name):
    with jax.numpy_rank_promotion("allow"):
        agree(OPERATIONS[name], GIVEN, tolerance=1e-6)


def test_an_operation_without_a_form_is_named_with_the_way_round():
    with pytest.raises(UsageError, match=r"operation erf_inv in ONNX.*--format stablehlo") as told:
        to_onnx(lambda x: lax.erf_inv(x / 9), (6,), jnp.float32)
    assert "\n" not in str(told.value)


def test_what_no_result_needs_is_left_out():
    """Even where it has no form."""

    def function(x):
        lax.erf_inv(x)
        return 2 * x

    assert [node.op_type for node in to_onnx(function, (6,), jnp.float32).graph.node] == [
        "Mul",
        "Identity",
    ]
