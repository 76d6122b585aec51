"""Checksums: any bit that differs is seen, and how arrays are split is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import checksums as checksums_lib
from kd_jax.checksums import checksums


def some(dtype):
    x = np.random.default_rng(0).normal(size=(8, 12)) * 50
    return jnp.asarray(x).astype(dtype)


DTYPES = ("float32", "bfloat16", "float16", "int32", "uint8", "int16", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_single_bit_counts(dtype):
    x = np.array(some(dtype))
    known = int(checksums([x])[0])
    raw = x.view(np.uint8).reshape(-1)
    for place in (0, 1, raw.size // 2, raw.size - 1):
        for bit in range(1 if dtype == "bool" else 8):
            raw[place] ^= 1 << bit
            assert int(checksums([x])[0]) != known
            raw[place] ^= 1 << bit
    assert int(checksums([x])[0]) == known


def test_places_count():
    x = np.arange(12, dtype=np.float32)
    assert checksums([x])[0] != checksums([x[::-1].copy()])[0]
    a, b = checksums([x, 0 * x])
    np.testing.assert_array_equal(checksums([0 * x, x]), [b, a])


@pytest.fixture(params=[2**20, 0], ids=["on the host", "on the device"])
def where(request, monkeypatch):
    monkeypatch.setattr(checksums_lib, "SMALL", request.param)


@pytest.mark.parametrize("shape", [(), (0,), (8, 12), (3, 5, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_host_and_device_add_the_same(monkeypatch, dtype, shape):
    x = jnp.resize(some(dtype), shape)
    there = jnp.asarray(np.asarray(x).T).T  # not in the order of its places
    here = checksums([x, there])
    monkeypatch.setattr(checksums_lib, "SMALL", -1)
    np.testing.assert_array_equal(here, checksums([x, there]))


@pytest.mark.usefixtures("where")
def test_arrays_that_are_split_have_the_same(tmp_path):
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = {"a": some("float32"), "b": some("int16")}
    np.testing.assert_array_equal(checksums(whole), checksums(jax.device_put(whole, place)))
