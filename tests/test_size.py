"""Bytes that decode bit for bit, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import state, tree
from kd_jax.size import dense_bytes, pack, stored_bytes, unpack


def network(kept):
    """A 5x4 kernel that keeps its first `kept` entries, a bias, and statistics of 3."""
    kernel = jnp.arange(1.0, 21.0).reshape(5, 4)
    mask = (jnp.arange(20) < kept).reshape(5, 4)
    params = {"Dense_0": {"kernel": jnp.where(mask, kernel, 0), "bias": jnp.zeros(4)}}
    masks = {"Dense_0": {"kernel": mask, "bias": None}}
    return params, {"batch_stats": {"mean": jnp.ones(3)}}, masks


@pytest.mark.parametrize(
    ("kept", "kernel"),
    [
        (20, 80),  # 3 bytes of bits and 80 are more than 80
        (19, 79),  # 3 + 76
        (5, 23),
        (0, 3),
    ],
)
def test_bytes_by_hand(kept, kernel):
    params, collections, masks = network(kept)
    # The bias is all zeros, but nothing masks it: 4 * 4 bytes; statistics: 3 * 4.
    assert stored_bytes(params, collections, masks) == kernel + 16 + 12
    assert dense_bytes(params, collections) == 80 + 16 + 12


def test_dense_is_what_memory_holds():
    params, collections, _ = network(7)
    expected = tree.size_bytes(params) + tree.size_bytes(collections)
    assert dense_bytes(params, collections) == expected
    assert stored_bytes(params, collections, state.no_masks(params)) == expected


@pytest.mark.parametrize("kept", [20, 19, 11, 1, 0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_decodes_bit_for_bit(kept, dtype):
    params, collections, masks = network(kept)
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    back = unpack(pack(params, collections, masks))
    original = tree.named_leaves({"params": params, **collections})
    assert back.keys() == original.keys()
    for name, x in original.items():
        x = np.asarray(x)
        assert back[name].dtype == x.dtype
        assert back[name].shape == x.shape
        assert back[name].tobytes() == x.tobytes()


def test_strange_values_survive():
    """-0.0 equals 0.0 and NaN nothing: both come back as they were."""
    values = np.zeros((8, 8), np.float32)
    values[0, :4] = [-0.0, np.nan, np.inf, 1e-45]
    masks = {"kernel": np.ones((8, 8), bool)}
    packed = pack({"kernel": values}, {}, masks)
    assert packed["params/kernel"].encoding == "bitmask"
    assert len(packed["params/kernel"].data) == 8 + 4 * 4
    assert unpack(packed)["params/kernel"].tobytes() == values.tobytes()


def test_what_the_mask_prunes_is_stored_as_zero():
    """Whatever stands there: the mask decides, as in the forward pass of training."""
    values, mask = np.full((4, 4), 7.0, np.float32), np.zeros((4, 4), bool)
    mask[1, 2] = True
    packed = pack({"kernel": values}, {}, {"kernel": mask})
    assert len(packed["params/kernel"].data) == 2 + 4
    assert unpack(packed)["params/kernel"].sum() == 7.0
