"""The top k without a sort, against the sort."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.prune import masks as masks_lib
from kd_jax.prune import select


def _by_sorting(score, alive, k):
    """The same by NumPy's stable sort of the whole, lowest scores and pruned entries last."""
    score = np.nan_to_num(score.astype(np.float64), nan=-1e300, neginf=-1e300, posinf=1e300)
    order = np.argsort(-np.where(alive, score, -np.inf), kind="stable")
    kept = np.zeros(score.shape, bool)
    kept[order[: min(k, alive.sum())]] = True
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_the_search_by_bits_is_the_stable_sort(seed):
    random = np.random.default_rng(seed)
    score = random.integers(-3, 4, 60).astype(np.float32) * random.choice([1, 1e-37, 1e30])
    odd = [np.nan, -np.inf, np.inf, -0.0, 0.0, 3e38, -3e38, -np.nan]
    score[random.choice(60, 8, replace=False)] = odd
    alive = random.random(60) < 0.8
    for k in (0, 1, 7, 30, int(alive.sum()), 60):
        whole = select.keep_top([jnp.array(score)], [jnp.array(alive)], k)[0]
        np.testing.assert_array_equal(whole, _by_sorting(score, alive, k))
        assert whole.sum() == min(k, alive.sum())
        cuts = [slice(0, 20), slice(20, 24), slice(24, 60)]
        parts = select.keep_top(
            [jnp.array(score[c]) for c in cuts], [jnp.array(alive[c]) for c in cuts], k
        )
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_scores_of_any_float_are_ordered(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        score = jnp.array([1, 1 + 1e-9, 0.5, -2, 1], dtype)
        kept = select.keep_top([score], [jnp.ones(5, bool)], 2)[0]
        first = dtype != jnp.float64  # 1 + 1e-9 is 1 in the narrow types, and ties go by index
        np.testing.assert_array_equal(kept, [True, True, False, False, False])
        single = select.keep_top([score], [jnp.ones(5, bool)], 1)[0]
        np.testing.assert_array_equal(single, [first, not first, False, False, False])


def test_minus_zero_ties_with_zero():
    kept = select.keep_top([jnp.array([-0.0, 0.0, -0.0, 0.0])], [jnp.ones(4, bool)], 2)[0]
    np.testing.assert_array_equal(kept, [True, True, False, False])


def test_selection_is_the_same_on_sharded_scores():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    score = jnp.round(3 * jax.random.normal(jax.random.key(1), (8, 6)))
    masks = {"a": jnp.ones((8, 6), bool)}
    alone = masks_lib.keep_global({"a": score}, masks, 17)
    spread = jax.device_put(({"a": score}, masks), sharding)
    chex.assert_trees_all_equal(jax.jit(masks_lib.keep_global)(*spread, 17), alone)
    assert masks_lib.pruned(alone) == {"a": 48 - 17}
