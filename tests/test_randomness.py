import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import randomness


def data(key):
    return np.asarray(jax.random.key_data(key))


def test_keys_are_what_they_were():
    # A run that was stopped must draw the same when it goes on, in another process and with another
    # version of this package: if these numbers change, every running experiment changes.
    np.testing.assert_array_equal(data(randomness.stream(0, "order")), [1951979581, 2085809259])
    dropout = data(randomness.at_step(3, "dropout", 17))
    np.testing.assert_array_equal(dropout, [3143827225, 2978211906])


def test_keys_are_typed():
    key = randomness.at_step(0, "order", 0)
    assert jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert key.shape == ()


def test_seed_name_and_step_all_matter():
    keys = [
        randomness.at_step(seed, name, step)
        for seed in (0, 1)
        for name in ("order", "dropout")
        for step in (0, 1)
    ]
    keys += [randomness.stream(seed, name) for seed in (0, 1) for name in ("order", "dropout")]
    assert len({tuple(data(key)) for key in keys}) == len(keys)


def test_traced_and_mapped_as_well_as_plain():
    seeds = jnp.array([0, 5], jnp.uint32)
    mapped = jax.jit(jax.vmap(lambda s: randomness.at_step(s, "order", 2)))(seeds)
    plain = [randomness.at_step(s, "order", 2) for s in (0, 5)]
    np.testing.assert_array_equal(data(mapped), np.stack([data(key) for key in plain]))
