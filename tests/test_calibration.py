"""Batch statistics after a cut, estimated anew before training goes on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import jobs
from kd_jax.batches import epoch_order, take, views
from kd_jax.calibration import calibrated
from kd_jax.config import Prune, Shrink
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.prune import SCHEDULES
from kd_jax.prune import masks as masks_lib

PRUNE = Prune(
    epochs=3, batch=16, ema=0.8, sparsity=0.7, recalibrate=6, optim=Optim(learning_rate=0.1)
)
SHRINK = Shrink(start="train", epochs=1, batch=16)


def prepared(stage, seeds=(0, 1)):
    return jobs.prepare([stage], tiny.perceptron(), tiny.digits(), None, seeds, 1)


def test_statistics_are_those_of_the_network_that_is_left():
    """Of the next six batches, one after the other: two of the second epoch of four."""
    ready = prepared(PRUNE)
    told = (ready.settings, ready.seeds)
    cut = ("prune", {"hidden/kernel": 154, "classifier/kernel": 24})
    state = ready.compiled.change_masks(*told, ready.begin(None), cut)
    before = jax.tree.map(np.array, state)
    state = ready.compiled.change_masks(*told, state, ("calibrate", None), None, ready.resident)
    for seed in (0, 1):
        of_seed = lambda x, seed=seed: x[seed]  # noqa: E731
        params = jax.tree.map(of_seed, before.params)
        params = masks_lib.apply(jax.tree.map(of_seed, before.masks), params)
        collections = jax.tree.map(of_seed, before.collections)
        for step in range(6):
            order = epoch_order(ready.program, jnp.uint32(seed), jnp.int32(step), ready.resident)
            batch, _ = take(ready.program, order, jnp.int32(step), None, ready.resident)
            batch = views(ready.program, jnp.uint32(seed), step // 4, batch)
            given = {"params": params, **collections}
            collections = tiny.perceptron().forward(given, batch.inputs, train=True)[1]
        found = jax.tree.map(of_seed, state.collections)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, collections)
    assert tiny.differences(state.collections, before.collections)
    # The average is the same network here, and so are its statistics; nothing else has moved.
    assert not tiny.differences(state.extra["ema"]["collections"], state.collections)
    assert not tiny.differences(state.params, before.params)
    assert not tiny.differences(state.masks, before.masks)


def test_streamed_batches_say_the_same():
    ready = prepared(PRUNE, seeds=(3,))
    one = lambda x: x[0]  # noqa: E731
    state = ready.begin(None)
    state = dataclasses.replace(jax.tree.map(one, dataclasses.replace(state, step=None)), step=0)
    settings = dataclasses.replace(ready.settings, seed=jnp.uint32(3))
    order = [epoch_order(ready.program, settings.seed, i, ready.resident) for i in range(6)]
    batches = [take(ready.program, o, i, None, ready.resident)[0] for i, o in enumerate(order)]
    found = [calibrated(ready.program, settings, state, data) for data in (ready.resident, batches)]
    assert not tiny.differences(found[0].collections, found[1].collections)


@pytest.mark.parametrize(
    ("stage", "steps"),
    [
        (PRUNE, [0]),
        (dataclasses.replace(PRUNE, recalibrate=0), []),
        (dataclasses.replace(PRUNE, schedule=SCHEDULES["iterative"]), []),
        (dataclasses.replace(SHRINK, recalibrate=2), [0]),
        (dataclasses.replace(SHRINK, recalibrate=0), []),
    ],
)
def test_it_comes_after_cuts_at_once(stage, steps):
    ready = prepared(stage)
    events = jobs.job_of(ready, None, ready.begin(None)).events
    assert [step for step, each in events.items() if each[-1][0] == "calibrate"] == steps


def test_a_network_without_statistics_has_nothing_to_estimate():
    model = from_linen(MLP(widths=(8,)).build(10, "float32"))
    bare = jobs.prepare([PRUNE], model, tiny.digits(), None, (0,), 1)
    events = jobs.job_of(bare, None, bare.begin(None)).events
    assert "calibrate" not in [action for each in events.values() for action, _ in each]


def test_a_stage_begins_from_them():
    whole, _ = tiny_runs.fit(dataclasses.replace(PRUNE, optim=Optim(learning_rate=1e-30)))
    without, _ = tiny_runs.fit(
        dataclasses.replace(PRUNE, recalibrate=0, optim=Optim(learning_rate=1e-30))
    )
    assert tiny.differences(whole.collections, without.collections)
    with pytest.raises(UsageError, match="recalibrate -1 must not be negative"):
        dataclasses.replace(PRUNE, recalibrate=-1)
