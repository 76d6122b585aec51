import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.augment import (
    Augment,
    augment,
    cutout,
    flip,
    mixup,
    normalise,
    prepare,
    smooth,
    translate,
)
from kd_jax.batch import Batch
from kd_jax.datasets import Spec

SPEC = Spec(name="tiny", classes=3, mean=(0.0,), std=(1.0,), scale=1.0, size=(6, 6))


def a_batch(size=8, shape=(6, 6, 1), seed=0):
    inputs = np.random.default_rng(seed).integers(1, 256, (size, *shape), dtype=np.uint8)
    return Batch(
        ids=jnp.arange(size, dtype=jnp.int32) * 3 + 1,
        inputs=jnp.asarray(inputs),
        labels=jnp.arange(size, dtype=jnp.int32) % 3,
        weights=jnp.ones(size),
    )


def keys(count):
    return jax.random.split(jax.random.key(0), count)


# preparing


def test_prepare_by_hand():
    spec = Spec(name="x", classes=3, mean=(0.5, 0.25), std=(0.5, 0.125))
    inputs = jnp.array([[[[0, 255]]], [[[255, 51]]]], jnp.uint8)
    batch = Batch(
        ids=jnp.array([4, 9]), inputs=inputs, labels=jnp.array([2, 0]), weights=jnp.array([1.0, 0])
    )
    out = prepare(batch, spec)
    # (0 - 0.5) / 0.5, (1 - 0.25) / 0.125; (1 - 0.5) / 0.5, (0.2 - 0.25) / 0.125
    np.testing.assert_allclose(out.inputs.reshape(2, 2), [[-1, 6], [1, -0.4]], rtol=1e-6)
    np.testing.assert_array_equal(out.targets, [[0, 0, 1], [1, 0, 0]])
    assert (out.inputs.dtype, out.targets.dtype) == (jnp.float32, jnp.float32)
    for field in ("ids", "labels", "weights"):
        np.testing.assert_array_equal(getattr(out, field), getattr(batch, field))


@pytest.mark.parametrize(
    "inputs",
    [jnp.ones((2, 5)), jnp.ones((2, 7), jnp.int32), jnp.ones((2, 4, 4, 3), jnp.bfloat16)],
    ids=["features", "tokens", "prepared images"],
)
def test_what_is_not_pixels_passes_unharmed(inputs):
    batch = a_batch(2).replace(inputs=inputs)
    for out in (prepare(batch, SPEC), augment(Augment(), 0, 0, batch, SPEC)):
        assert out.inputs is inputs
        np.testing.assert_array_equal(out.targets, [[1, 0, 0], [0, 1, 0]])


def test_grey_pixels_in_a_row_are_normalised():
    spec = Spec(name="x", classes=2, mean=(0.5,), std=(0.25,), scale=16.0)
    out = normalise(jnp.array([[0, 8, 16]], jnp.uint8), spec)
    np.testing.assert_array_equal(out, [[-2, 0, 2]])


def test_smooth_by_hand():
    out = smooth(jnp.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]]), 0.2)
    np.testing.assert_allclose(out, [[0.85, 0.05, 0.05, 0.05], [0.45, 0.45, 0.05, 0.05]], rtol=1e-6)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-6)


# each operation


def test_translate_by_hand():
    image = jnp.arange(1, 10, dtype=jnp.uint8).reshape(3, 3, 1)
    down_left = translate(image, jnp.array([1, -1]), 2)
    np.testing.assert_array_equal(down_left[..., 0], [[0, 0, 0], [2, 3, 0], [5, 6, 0]])
    np.testing.assert_array_equal(translate(image, jnp.array([0, 0]), 2), image)
    gone = translate(image, jnp.array([-2, 2]), 2)
    np.testing.assert_array_equal(gone[..., 0], [[0, 0, 7], [0, 0, 0], [0, 0, 0]])
    assert gone.dtype == jnp.uint8


def test_flip_mirrors_half_of_the_time():
    image = jnp.arange(6, dtype=jnp.uint8).reshape(2, 3, 1)
    views = jax.jit(jax.vmap(flip, (0, None)))(keys(1000), image)
    mirrored = (views == image[None, :, ::-1]).all(axis=(1, 2, 3))
    same = (views == image[None]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(mirrored, ~same)
    assert 430 < mirrored.sum() < 570


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_cutout_zeros_one_square_around_a_centre_anywhere(side):
    views = np.asarray(jax.jit(jax.vmap(lambda k: cutout(k, jnp.ones((5, 7, 2)), side)))(keys(600)))
    seen = set()
    for view in views:
        np.testing.assert_array_equal(view[..., 0], view[..., 1])
        hole = view[..., 0] == 0
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        assert hole.sum() == len(rows) * len(columns)  # a rectangle
        seen.add((rows[0], len(rows), columns[0], len(columns)))
    span = lambda c, n: (max(0, c - side // 2), min(n, c - side // 2 + side))  # noqa: E731
    expected = set()
    for row in range(5):
        for column in range(7):
            (top, bottom), (left, right) = span(row, 5), span(column, 7)
            expected.add((top, bottom - top, left, right - left))
    assert seen == expected


def test_cutout_keeps_the_type():
    assert cutout(jax.random.key(0), jnp.ones((4, 4, 1), jnp.bfloat16), 2).dtype == jnp.bfloat16


def test_mixup_is_the_stated_mixture_of_neighbours():
    batch = prepare(a_batch(4), SPEC)
    out = jax.jit(mixup)(jax.random.key(1), batch, 0.7)
    assert batch.targets is not None
    assert out.targets is not None
    λ = jax.jit(jax.random.beta)(jax.random.key(1), 0.7, 0.7)
    assert 0 < λ < 1
    for i, j in ((0, 3), (1, 0), (2, 1), (3, 2)):
        expected = λ * batch.inputs[i] + (1 - λ) * batch.inputs[j]
        np.testing.assert_allclose(out.inputs[i], expected, rtol=1e-6)
        expected = λ * batch.targets[i] + (1 - λ) * batch.targets[j]
        np.testing.assert_allclose(out.targets[i], expected, rtol=1e-6)
    np.testing.assert_array_equal(out.labels, batch.labels)


def test_mixup_never_mixes_padding_in():
    batch = prepare(a_batch(4), SPEC).replace(weights=jnp.array([1.0, 1, 1, 0]))
    assert batch.targets is not None
    out = jax.jit(mixup)(jax.random.key(1), batch, 1.0)
    assert out.targets is not None
    np.testing.assert_array_equal(out.inputs[0], batch.inputs[0])
    np.testing.assert_array_equal(out.targets[0], batch.targets[0])
    assert (out.inputs[1] != batch.inputs[1]).any()
    np.testing.assert_array_equal(out.weights, batch.weights)
