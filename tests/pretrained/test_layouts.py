"""The names and shapes of PyTorch's models, and the numbers that go from one order to another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_models
from torch_models import PAIRS, digest, lines

from kd_jax.models import MODELS, layers
from kd_jax.pretrained.layouts import LAYOUTS, layouts
from kd_jax.pretrained.tensors import CONV, LINEAR, Tensor, on_map
from kd_jax.tree import named_leaves

STORED = torch_models.stored()


@functools.cache
def variables_of(config, classes=1000, shape=(224, 224, 3)):
    """As shapes."""
    module = config.build(classes, jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(
        lambda k, x: module.init(k, x, False), key, jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    )


def shape_of_theirs(tensor, ours):
    """By the arrays' own rules, without any numbers."""
    shapes = [jax.eval_shape(tensor.exported, ours[path]).shape for path in tensor.paths]
    return (sum(shape[0] for shape in shapes), *shapes[0][1:]) if shapes[1:] else shapes[0]


def test_the_stored_layouts_are_of_these_models():
    assert STORED.keys() == PAIRS.keys()
    for count, code, listed in STORED.values():
        assert not listed or (len(listed), digest(listed)) == (count, code)


DEEP = [("torchvision", f"resnet{n}", "") for n in (34, 101, 152)]  # which take seconds to trace


@pytest.mark.parametrize(
    "pair",
    [pytest.param(pair, marks=pytest.mark.slow) if pair in DEEP else pair for pair in PAIRS],
    ids=" ".join,
)
def test_names_and_shapes_are_theirs_and_lead_back_to_ours(pair):
    config = PAIRS[pair]
    variables = variables_of(config)
    ours = named_leaves(variables)
    tensors = layouts(config, variables)[pair[0]]
    shapes = {tensor.theirs: shape_of_theirs(tensor, ours) for tensor in tensors}
    count, code, listed = STORED[pair]
    assert len(shapes) == len(tensors) == count
    if listed:
        assert lines(shapes) == listed
    assert digest(lines(shapes)) == code
    for tensor in tensors:
        whole = shapes[tensor.theirs]
        parts = len(tensor.paths)
        part = jax.ShapeDtypeStruct((whole[0] // parts, *whole[1:]) if parts > 1 else whole, "f4")
        for path in tensor.paths:
            back = functools.partial(tensor.imported, shape=ours[path].shape)
            assert jax.eval_shape(back, part).shape == ours[path].shape


def test_every_path_of_ours_is_named_once_and_heads_are_the_last_layers():
    for family, known in LAYOUTS.items():
        name, config = next(
            (n, c) for n, c in MODELS.items() if "imagenet" in n and type(c) is family
        )
        for make in known.values():
            tensors = make(config)
            paths = [path for tensor in tensors for path in tensor.paths]
            assert len(set(paths)) == len(paths), name
            heads = {path for tensor in tensors if tensor.head for path in tensor.paths}
            assert heads == {"params/classifier/kernel", "params/classifier/bias"}


def test_convolutions_by_hand():
    ours = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    theirs = Tensor("a", "b", CONV).exported(ours)
    assert theirs.shape == (7, 5, 2, 3)
    assert theirs[6, 4, 1, 2] == ours[1, 2, 4, 6]
    assert theirs[0, 3, 1, 0] == ours[1, 0, 3, 0]


def test_linear_layers_by_hand():
    np.testing.assert_array_equal(
        Tensor("a", "b", LINEAR).exported(np.array([[1, 2, 3], [4, 5, 6]])),
        [[1, 4], [2, 5], [3, 6]],
    )


@pytest.mark.parametrize("flat", [True, False])
def test_a_layer_on_a_flattened_map_by_hand(flat):
    """Places before channels here, channels before places there."""
    ours = np.arange(2 * 2 * 3 * 4).reshape(12, 4)
    tensor = on_map("dense", "fc", channels=3, flat=flat)[0]
    theirs = tensor.exported(ours)
    assert theirs.shape == ((4, 12) if flat else (4, 3, 2, 2))
    for unit, channel, row, column in ((0, 0, 0, 1), (3, 2, 1, 0), (1, 1, 1, 1)):
        there = theirs[unit, channel * 4 + row * 2 + column] if flat else None
        there = theirs[unit, channel, row, column] if there is None else there
        assert there == ours[(row * 2 + column) * 3 + channel, unit]
    np.testing.assert_array_equal(tensor.imported(theirs, ours.shape), ours)


def test_a_strided_convolution_pads_both_sides_by_hand():
    """3x3 of ones over 4x4 ones with stride 2: the first window begins a row and a column before
    the image; with SAME it would be the last that ends behind it."""
    module = layers.conv(1, 3, jnp.float32, "conv", stride=2)
    out = module.apply({"params": {"kernel": jnp.ones((3, 3, 1, 1))}}, jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(out[0, :, :, 0], [[4, 6], [6, 9]])
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    pooled = layers.max_pool(x, 3, 2, padding=1)
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(
        layers.max_pool(x - 20, 3, 2, 1)[0, :, :, 0], [[-15, -13], [-7, -5]]
    )


def test_adaptive_pooling_by_hand():
    x = jnp.arange(5.0).reshape(1, 5, 1, 1)
    rows = layers.adaptive_pool(x, 3)[0, :, 0, 0]  # places 0-1, 1-3, 3-4
    np.testing.assert_array_equal(rows, [0.5, 2.0, 3.5])
    assert layers.adaptive_pool(jnp.full((2, 1, 1, 3), 4.0), 7).shape == (2, 7, 7, 3)
    assert float(jnp.min(layers.adaptive_pool(jnp.full((1, 1, 1, 1), 4.0), 7))) == 4.0
    same = jnp.arange(18.0).reshape(1, 3, 3, 2)
    np.testing.assert_array_equal(layers.adaptive_pool(same, 3), same)
