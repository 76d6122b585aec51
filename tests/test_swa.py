"""Stochastic weight averaging: the mean of the networks at the ends of the last epochs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import jobs
from kd_jax.config import Prune, Train
from kd_jax.errors import UsageError
from kd_jax.objective import no_metrics
from kd_jax.optim import Optim, equal_average, learning_rate
from kd_jax.prune import SCHEDULES
from kd_jax.state import rest

# 4 steps an epoch; averaged after epochs 2, 3 and 4.
CONSTANT = Train(
    epochs=4, batch=16, optim=Optim(learning_rate=0.1, schedule="constant"), swa=0.5, recalibrate=5
)


def test_a_mean_of_every_third_from_the_fourth():
    mean = {"w": jnp.array([9.0]), "n": jnp.int32(9)}
    found = []
    for step in range(10):
        now = {"w": jnp.array([float(step + 1)]), "n": jnp.int32(step)}
        mean = equal_average(mean, now, 4, 3, jnp.int32(step))
        found.append(float(mean["w"][0]))
        assert int(mean["n"]) == step
    # x_t = t after t steps: averaged are 4, 7 and 10.
    assert found == pytest.approx([1, 2, 3, 4, 4, 4, 5.5, 5.5, 5.5, 7])


@pytest.fixture(scope="module")
def walked():
    """(what is prepared, parameters at the end of each epoch, state after the last step) of a stage
    that is walked through epoch by epoch."""
    ready = jobs.prepare([CONSTANT], tiny.perceptron(), tiny.digits(), None, (0, 1), 1)
    carry, ends = (ready.begin(None), no_metrics(ready.settings, 2)), []
    for _ in range(4):
        given = (ready.settings, ready.seeds, *carry, None, ready.resident, 4)
        carry = ready.compiled.advance(*given)
        ends.append(jax.tree.map(np.array, carry[0].params))
    return ready, ends, jax.tree.map(np.array, carry[0])


@pytest.fixture(scope="module")
def whole():
    """(state, diary) of the stage as it is run."""
    return tiny_runs.fit(CONSTANT)


@pytest.mark.slow
def test_it_is_the_mean_of_the_ends_of_epochs(walked, whole):
    _, ends, _ = walked
    assert not tiny.differences(whole[0].params, ends[-1])
    mean = jax.tree.map(lambda *x: sum(x) / 3, *ends[1:])
    found = rest(whole[0]).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, mean)


def test_statistics_are_estimated_anew_after_the_last_step(walked, whole):
    ready, _, state = walked
    before = jax.tree.map(jnp.asarray, state)
    event, given = ("calibrate", None), (ready.settings, ready.seeds)
    after = ready.compiled.change_masks(*given, before, event, None, ready.resident)
    average = lambda state: state.extra["ema"]  # noqa: E731
    assert not tiny.differences(whole[0], after)
    assert not tiny.differences(average(state)["params"], average(after)["params"])
    assert tiny.differences(average(state)["collections"], average(after)["collections"])
    assert "validation_accuracy" in whole[1].records[-1]


def test_the_rate_stays_as_it_is_when_averaging_begins():
    stage = dataclasses.replace(CONSTANT, optim=Optim(learning_rate=0.1), swa=0.75)
    program = jobs.prepare([stage], tiny.perceptron(), tiny.digits(), None, (0,), 1).program
    assert program.swa == (12, 4)
    rates = [float(learning_rate(stage.optim, program.pace(step), 16)) for step in range(16)]
    assert rates[:13] == [float(learning_rate(stage.optim, step, 16)) for step in range(13)]
    assert rates[13:] == [rates[12]] * 3


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, whole):
    for at in (10, 16):
        state, _, _ = tiny_runs.stop_and_go_on(tmp_path / str(at), at, "quit", CONSTANT)
        assert not tiny.differences(state, whole[0])


@pytest.mark.slow
def test_over_one_device_and_four():
    one, many = (rest(tiny_runs.fit(CONSTANT, devices=n)[0]) for n in (1, 4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        one.variables,
        many.variables,
    )


@pytest.mark.slow
def test_of_a_pruned_network_what_is_pruned_is_zero():
    stage = Prune(
        epochs=3, batch=16, swa=0.4, sparsity=0.8, schedule=SCHEDULES["cubic"], recalibrate=2
    )
    network = rest(tiny_runs.fit(stage, seeds=(0,))[0])
    kernel, mask = network.params["hidden"]["kernel"], network.masks["hidden"]["kernel"]
    assert not np.any(np.asarray(kernel)[~np.asarray(mask)])
    assert np.mean(np.asarray(mask)) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"swa": 0.0}, "swa 0.0 must be in (0, 1)"),
        ({"swa": 1.0}, "swa 1.0 must be in (0, 1)"),
        ({"ema": 0.9}, "swa 0.5 and ema 0.9: set one of them alone"),
        ({"epochs": 1}, "swa 0.5 averages the ends of epochs, and there is one: raise epochs"),
    ],
)
def test_settings_that_can_not_be(changes, said):
    with pytest.raises(UsageError) as error:
        dataclasses.replace(CONSTANT, **changes)
    assert str(error.value) == said
