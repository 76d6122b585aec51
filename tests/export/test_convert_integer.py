"""Networks of integers as ONNX, run by onnxruntime beside JAX."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from jax import lax
from onnx import numpy_helper
from quantize.on_grids import INPUTS, MODELS, network

from kd_jax import UsageError
from kd_jax.export import to_onnx
from kd_jax.quantize import integer, integers


def made(name, **how):
    """(ONNX, a function in JAX, inputs) of a quantised network's integers."""
    make, inputs = MODELS[name]
    it, variables = network(make(), inputs, **how)
    run, whole = integer(it).forward, integers(variables)
    function = lambda x: run(whole, x)[0].logits  # noqa: E731
    return to_onnx(function, inputs.shape[1:], np.float32), function, inputs


def said(model, x):
    onnx.checker.check_model(model, full_check=True)
    given = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=given)
    return session.run(None, {"images": np.asarray(x)})[0]


def close(found, expected):
    """What lies half between two integers may be rounded either way, where sums are of floats."""
    spread = np.std(expected)
    np.testing.assert_allclose(found, expected, atol=0.05 * spread)
    assert np.median(np.abs(found - expected)) < 0.01 * spread


# How many bits there are is no matter of the family.
FAST = {8: {"conv", "mlp", "recurrent"}, 5: {"conv", "mlp"}}
CASES = [
    pytest.param(bits, name, marks=[pytest.mark.slow] * (name not in FAST[bits]))
    for bits in (8, 5)
    for name in MODELS
]


@pytest.mark.parametrize(("bits", "name"), CASES)
def test_every_family_says_in_onnx_what_its_integers_say(name, bits):
    model, function, x = made(name, bits=bits, of_inputs=bits)
    expected = jax.jit(function)(x)
    close(said(model, x), expected)
    close(said(model, x[:1]), expected[:1])


def test_kernels_are_stored_as_bytes_and_norms_are_folded_into_scales():
    """A residual network of three convolutions a branch and none else: each product has its input
    and its kernel, and all but the last its bias, on grids. The last is a matrix product, of
    unsigned bytes."""
    model, _, _ = made("resnet")
    kinds = Counter(node.op_type for node in model.graph.node)
    products = kinds["Conv"] + kinds["MatMul"] + kinds["Gemm"]
    assert kinds["QuantizeLinear"] == products
    assert kinds["DequantizeLinear"] == 3 * products - 1
    assert not kinds["Mul"] + kinds["Clip"]
    whole = [numpy_helper.to_array(c) for c in model.graph.initializer]
    kernels = [c for c in whole if c.ndim > 1 and c.size > 10]
    assert kernels
    assert {c.dtype for c in kernels if c.ndim > 2} == {np.dtype(np.int8)}
    assert [c.dtype for c in kernels if c.ndim == 2] == [np.dtype(np.uint8)]


def test_grids_of_fewer_bits_are_clipped_to():
    model, _, x = made("mlp", of_inputs=3)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Clip"] == kinds["QuantizeLinear"]
    assert np.isfinite(said(model, 100 * x)).all()


def test_a_factor_below_zero_turns_the_integers():
    """y = -2 (x w) + 1, and no scale in the file is below zero; nor is one zero."""
    it, variables = network(tiny.convnet(), INPUTS)
    run, whole = integer(it).forward, integers(variables)
    factors = jnp.asarray([[-2.0, 0.0, *[1.0] * 8]])
    function = lambda x: factors * run(whole, x)[0].logits + 1  # noqa: E731
    model = to_onnx(function, INPUTS.shape[1:], np.float32)
    close(said(model, INPUTS), jax.jit(function)(INPUTS))
    steps = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    scales = [numpy_helper.to_array(c) for c in model.graph.initializer if c.name in steps]
    assert min(float(np.min(s)) for s in scales) > 0


def test_another_call_of_that_kind_is_refused():
    """Such as one whose kernel is made in the program."""

    def int8_product(x, p, *grids):
        return lax.dot(x, p.astype(jnp.float32)) * grids[0]

    def function(x):
        p = jnp.round(jnp.max(x, axis=0)).astype(jnp.int8).reshape(4, 1)
        return jax.jit(int8_product)(x, p, jnp.ones(()))

    with pytest.raises(UsageError, match="no constants"):
        to_onnx(function, (4,), np.float32)
