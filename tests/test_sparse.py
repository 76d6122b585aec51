"""Zeros that are left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from marks import slow_but

from kd_jax import cost, sparse
from kd_jax.forward import from_apply, from_linen
from kd_jax.latency import Latency
from kd_jax.models.mlp import MLP
from kd_jax.models.vit import ViT


def network(model, shape, zeros=0.9):
    """A model's variables with so many zeros in each kernel, and two inputs."""

    def leaf(w):
        drop = jax.random.uniform(jax.random.key(w.size), w.shape) < zeros
        return jnp.where(drop, 0, w) if w.ndim > 1 else w

    @jax.jit
    def drawn():
        x = jax.random.normal(jax.random.key(1), (2, *shape))
        return jax.tree.map(leaf, model.init(jax.random.key(0), x)), x

    return drawn()


MODELS_HERE = {
    "mlp": (from_linen(MLP(widths=(20, 12)).build(10, jnp.float32)), (4, 4, 1)),
    "vit": (
        from_linen(ViT(patch=2, width=8, depth=1, heads=2).build(3, jnp.float32)),
        (4, 4, 1),
    ),
    "conv": (from_linen(tiny.ConvNet()), (8, 8, 1)),
}


@pytest.mark.parametrize("name", slow_but(["mlp", "conv"], MODELS_HERE))
def test_sparse_equals_dense(name):
    model, shape = MODELS_HERE[name]
    variables, x = network(model, shape)
    layers = [p.name for p in sparse.products(model, variables, x) if p.rows]
    assert len(layers) == {"mlp": 3, "vit": 7, "conv": 1}[name]
    less = sparse.compress(variables, layers)
    run = jax.jit(lambda v, x: sparse.sparse(model).forward(v, x)[0].logits)
    expected = jax.jit(model.forward)(variables, x)[0].logits
    np.testing.assert_allclose(run(less, x), expected, rtol=1e-5, atol=1e-5)
    kinds = {type(leaf).__name__ for leaf in jax.tree.leaves(less, is_leaf=sparse._is_sparse)}
    assert "BCSR" in kinds
    # Matrices whose zeros are few, or that are left dense, do as well.
    one = sparse.compress(variables, layers[:1])
    np.testing.assert_allclose(run(one, x), expected, rtol=1e-5, atol=1e-5)


def test_products_by_hand():
    model, shape = MODELS_HERE["mlp"]
    variables, x = network(model, shape)
    found = sparse.products(model, variables, x)
    assert [(p.macs, p.rows) for p in found] == [(2 * 16 * 20, 2), (2 * 20 * 12, 2), (240, 2)]
    conv, shape = MODELS_HERE["conv"]
    variables, x = network(conv, shape)
    kernel, dense = sparse.products(conv, variables, x)
    assert (kernel.name, kernel.macs, kernel.rows) == ("conv/kernel", 2 * 64 * 9 * 6, 0)
    assert (dense.name, dense.macs, dense.rows) == ("classifier/kernel", 2 * 6 * 10, 2)


def test_what_else_is_done_with_a_matrix_is_done_densely():
    def apply(variables, x, train):
        w = variables["params"]["kernel"]
        return x @ w + jnp.sum(w, axis=0, keepdims=True) + (w.T @ x.T).T

    w = jnp.where(jnp.arange(12.0).reshape(4, 3) % 3 == 0, 1.0, 0.0)
    variables = {"params": {"kernel": w}}
    model, x = from_apply(apply, variables), jnp.arange(8.0).reshape(2, 4)
    less = sparse.compress(variables, ["kernel"])
    found = sparse.sparse(model).forward(less, x)[0].logits
    np.testing.assert_allclose(found, apply(variables, x, False), rtol=1e-6)
    assert [p.rows for p in sparse.products(model, variables, x)] == [2]  # no transposed one


def test_macs_of_what_is_not_zero():
    model, shape = MODELS_HERE["mlp"]
    variables, x = network(model, shape, zeros=0.0)
    name = sparse.products(model, variables, x)[0].name
    params = jax.tree_util.tree_map_with_path(
        lambda path, w: (
            w.at[:4].set(0) if jax.tree_util.keystr(path, simple=True, separator="/") == name else w
        ),
        variables["params"],
    )
    total = cost.macs(lambda v, x: model.forward(v, x)[0].logits, variables, x)
    found = sparse.macs_nonzero(sparse.products(model, variables, x), params, total)
    assert total == 2 * (320 + 240 + 120)
    assert found == total - 2 * 4 * 20  # four of sixteen rows


def test_a_leaf_of_no_entries_takes_no_macs():
    params = {"none": jnp.zeros((0, 4)), "half": jnp.array([[1.0, 0.0]])}
    found = [sparse.Product("none", 0, 1), sparse.Product("half", 10, 1)]
    assert sparse.macs_nonzero(found, params, 12) == 7


def test_only_what_is_faster_is_sparse(monkeypatch):
    model, shape = MODELS_HERE["mlp"]
    variables, x = network(model, shape)
    times = iter([(1.0, 0.5), (1.0, 1.5), (1.0, 0.96), (4.0, 3.0)])  # three products, the network
    of = lambda ms: Latency(median_ms=ms, low_ms=ms, high_ms=ms, runs=3)  # noqa: E731

    def interleaved(calls, seconds):
        results = [call() for call in calls.values()]
        np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-4)
        return dict(zip(("dense", "sparse"), map(of, next(times)), strict=True))

    monkeypatch.setattr(sparse, "interleaved", interleaved)
    found = sparse.measure(model, variables, {2: x})
    first, *_ = [p.name for p in sparse.products(model, variables, x)]
    assert found == {"2": sparse.SparseTiming(layers=[first], dense=of(4.0), sparse=of(3.0))}


def test_a_dense_network_is_not_tried():
    model, shape = MODELS_HERE["mlp"]
    assert (
        sparse.measure(model, *[network(model, shape, 0.1)[0], {2: jnp.zeros((2, *shape))}]) == {}
    )
