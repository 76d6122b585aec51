"""augment() as a whole; its operations one by one are in test_augment_operations.py."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_augment_operations import SPEC, a_batch

from kd_jax.augment import Augment, augment, example_keys, prepare, translate
from kd_jax.datasets import Spec
from kd_jax.errors import UsageError

compiled = jax.jit(augment, static_argnames="spec")
ALL = {"flip": True, "crop": 2, "shift": 1, "cutout": 3}


def test_everything_off_is_prepare():
    batch = a_batch()
    chex.assert_trees_all_equal(compiled(Augment(), 0, 0, batch, SPEC), prepare(batch, SPEC))


def test_crop_and_shift_move_the_stored_image():
    """The views are translations of the image, all of them occur, and what comes in is 0."""
    image = a_batch(1).inputs[0]
    batch = a_batch(400).replace(inputs=jnp.broadcast_to(image, (400, 6, 6, 1)))
    for config, reach in (
        (Augment(crop=1), 1),
        (Augment(shift=1), 1),
        (Augment(crop=1, shift=1), 2),
    ):
        move = jax.jit(lambda x, o, reach=reach: translate(x, o, reach))
        offsets = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
        possible = {bytes(np.asarray(move(image, jnp.array(o)))) for o in offsets}
        views = np.asarray(compiled(config, 0, 0, batch, SPEC).inputs).astype(np.uint8)
        seen = {bytes(view) for view in views}
        assert seen <= possible
        assert len(seen) >= 0.9 * len(possible)


def test_black_comes_in_before_normalising_and_the_mean_after():
    spec = Spec(name="x", classes=3, mean=(0.5,), std=(0.5,), scale=255.0)
    batch = a_batch(20).replace(inputs=jnp.full((20, 6, 6, 1), 255, jnp.uint8))
    moved = compiled(Augment(shift=2), 0, 0, batch, spec).inputs
    np.testing.assert_allclose(np.unique(moved), [-1, 1], rtol=1e-6)
    holed = compiled(Augment(cutout=2), 0, 0, batch, spec).inputs
    np.testing.assert_allclose(np.unique(holed), [0, 1], rtol=1e-6)


def test_a_view_depends_on_the_example_not_on_its_batch():
    config, batch = Augment(**ALL), a_batch(8)
    views = compiled(config, 3, 5, batch, SPEC).inputs
    order = jnp.array([5, 2, 7, 0])
    part = jax.tree.map(lambda x: x[order], batch)
    np.testing.assert_array_equal(compiled(config, 3, 5, part, SPEC).inputs, views[order])


@pytest.mark.parametrize("operation", [{"flip": True}, {"crop": 2}, {"shift": 2}, {"cutout": 2}])
def test_seed_epoch_and_id_each_make_another_view(operation):
    config, batch = Augment(**operation), a_batch(16)
    batch = batch.replace(inputs=jnp.broadcast_to(batch.inputs[:1], batch.inputs.shape))
    views = compiled(config, 0, 0, batch, SPEC).inputs
    assert (views[:1] != views[1:]).any()
    for seed, epoch, shift in ((1, 0, 0), (0, 1, 0), (0, 0, 100)):
        other = compiled(config, seed, epoch, batch.replace(ids=batch.ids + shift), SPEC).inputs
        assert (other != views).any()


def test_operations_draw_independently():
    """Turning one on changes nothing of what another draws."""
    batch = a_batch(8)
    flipped = compiled(Augment(flip=True), 0, 0, batch, SPEC).inputs
    both = compiled(Augment(flip=True, cutout=2), 0, 0, batch, SPEC).inputs
    np.testing.assert_array_equal(both, jnp.where(both == 0, 0, flipped))
    assert (both == 0).any()


def test_mixing_weight_differs_between_batches():
    config = Augment(mixup=1.0)
    weights = set()
    for first in range(5):
        batch = a_batch(3).replace(ids=jnp.arange(first, first + 3, dtype=jnp.int32))
        targets = compiled(config, 0, 0, batch, SPEC).targets
        assert targets is not None
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
        weights.add(float(targets[0, 0]))
    assert len(weights) == 5


def test_jitted_equals_eager_bit_for_bit():
    """So that a teacher's outputs can be replayed to any program."""
    spec = Spec(name="x", classes=3, mean=(0.4914,), std=(0.2470,), size=(6, 6))
    config, batch = Augment(**ALL), a_batch()
    eager = augment(config, 1, 2, batch, spec)
    chex.assert_trees_all_equal(compiled(config, 1, 2, batch, spec), eager)
    assert eager.inputs.dtype == jnp.float32


def test_seed_epoch_and_alpha_may_be_traced():
    run = jax.jit(chex.assert_max_traces(lambda c, s, e, b: augment(c, s, e, b, SPEC), n=1))
    first = run(Augment(mixup=0.4), 0, 0, a_batch())
    for alpha, seed, epoch in ((0.9, 0, 0), (0.4, 1, 0), (0.4, 0, 1)):
        assert (run(Augment(mixup=alpha), seed, epoch, a_batch()).inputs != first.inputs).any()


def test_many_seeds_in_one_program():
    config, batch = Augment(**ALL), a_batch(4)
    seeds = jnp.arange(3)
    together = jax.jit(jax.vmap(lambda s: augment(config, s, 1, batch, SPEC)))(seeds)
    for i in range(3):
        one = compiled(config, i, 1, batch, SPEC)
        chex.assert_trees_all_equal(jax.tree.map(lambda x, i=i: x[i], together), one)


def test_keys_are_typed_and_distinct():
    some = example_keys(0, 0, jnp.arange(50))
    assert jnp.issubdtype(some.dtype, jax.dtypes.prng_key)
    assert len(np.unique(jax.random.key_data(some), axis=0)) == 50


def test_devices_change_nothing():
    batch, config = a_batch(8), Augment(**ALL)
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(batch, jax.NamedSharding(mesh, jax.P("batch")))
    one, four = (jax.device_get(compiled(config, 0, 1, b, SPEC)) for b in (batch, spread))
    chex.assert_trees_all_equal(one, four)


# mistakes


@pytest.mark.parametrize("field", ["crop", "shift", "cutout"])
def test_negative_pixels(field):
    with pytest.raises(UsageError, match=rf"--augment\.{field} -1"):
        Augment(**{field: -1})


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_impossible_alpha(alpha):
    with pytest.raises(UsageError, match=rf"--augment\.mixup {alpha}"):
        Augment(mixup=alpha)


@pytest.mark.parametrize("operation", [{"flip": True}, {"crop": 1}, {"shift": 1}, {"cutout": 1}])
def test_varying_what_is_no_image(operation):
    (field,) = operation
    batch = a_batch(2).replace(inputs=jnp.ones((2, 5)))
    with pytest.raises(UsageError, match=rf"--augment\.{field} .*\(2, 5\)"):
        augment(Augment(**operation), 0, 0, batch, SPEC)


def test_mixing_tokens():
    batch = a_batch(2).replace(inputs=jnp.ones((2, 5), jnp.int32))
    with pytest.raises(UsageError, match=r"--augment\.mixup.*int32"):
        augment(Augment(mixup=1.0), 0, 0, batch, SPEC)
