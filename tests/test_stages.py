"""A stage takes networks that fit it, and what it leaves is what it promised."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from marks import slow_but

import kd_jax
from kd_jax import metrics, stages, taught
from kd_jax.augment import normalise
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.state import rest


@pytest.mark.parametrize("who", ["start", "teacher"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_networks_of_another_number_of_seeds_are_refused(who, seeds):
    model, network = tiny_runs.taught(2)
    given = {"start": network} if who == "start" else {"teacher": (model, network)}
    n = len(seeds)
    with pytest.raises(UsageError, match=rf"{who}: batch_stats/norm/mean of .* with {n} seeds"):
        tiny_runs.fit(tiny_runs.DISTILL, seeds=seeds, **given)


def test_a_network_of_another_model_is_refused():
    network = tiny_runs.taught(2)[1]
    with pytest.raises(UsageError, match=r"start: .* where the model with 2 seeds has"):
        tiny_runs.fit(tiny_runs.TRAIN, tiny.convnet(), start=network)


def test_pretrained_weights_become_a_network_of_any_number_of_seeds():
    model, one = tiny_runs.teacher()
    network = kd_jax.network(one.params, one.collections, seeds=3)
    prune = kd_jax.Prune(epochs=1, batch=16, sparsity=0.5)
    pruned = kd_jax.fit(prune, model, tiny.digits(), start=network, seeds=(0, 1, 2), devices=1)
    kernels = np.asarray(pruned.params["hidden"]["kernel"])
    assert kernels.shape[0] == 3
    assert ((kernels == 0).mean(axis=(1, 2)) == 0.5).all()


class Normed(nn.Module):
    """A layer whose statistics start far from what they become."""

    @nn.compact
    def __call__(self, x, train=False):
        x = 5 + nn.Dense(8)(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(10)(nn.relu(x))


def test_an_averaged_network_has_averaged_statistics():
    stage = dataclasses.replace(tiny_runs.TRAIN, epochs=4, ema=0.9)
    state, _ = tiny_runs.fit(stage, kd_jax.from_linen(Normed()))
    network = rest(state)
    now, averaged = (x["batch_stats"] for x in (state.collections, network.collections))
    assert tiny.differences(now, averaged)
    assert not tiny.differences(averaged, state.extra["ema"]["collections"]["batch_stats"])
    # They go with the averaged parameters: statistics on the way from 0 to 5 and more.
    mean = np.asarray(averaged["BatchNorm_0"]["mean"]).mean()
    assert 1 < mean < np.asarray(now["BatchNorm_0"]["mean"]).mean()


@pytest.mark.parametrize(
    "augment", slow_but([kd_jax.Augment()], [kd_jax.Augment(), kd_jax.Augment(shift=1)])
)
def test_the_teacher_is_asked_once_for_what_is_stored(tmp_path, monkeypatch, augment):
    asked, original = [], taught.predictions
    counting = lambda *args: asked.append(1) or original(*args)  # noqa: E731
    monkeypatch.setattr(taught, "predictions", counting)
    stage = dataclasses.replace(tiny_runs.DISTILL, augment=augment)
    store = Store(tmp_path)
    first, _ = tiny_runs.fit(stage, store=store)
    assert len(asked) == 1
    said = store.kept("teacher_outputs")
    np.testing.assert_allclose(said["probabilities"], jax.nn.softmax(said["logits"]), atol=1e-6)
    # Somebody who begins anew in the same folder finds it there.
    (tmp_path / "done.json").unlink()
    again, _ = tiny_runs.fit(stage, store=Store(tmp_path))
    assert len(asked) == 1
    assert not tiny.differences(first, again)


def test_evaluation_reads_every_example():
    model, network = tiny_runs.taught(2)
    data = tiny.digits()
    found = stages.evaluate(model, data, network, teacher=(model, network))
    logits = model.forward(tiny_runs.teacher()[1].variables, prepared(data.test))[0].logits
    right = np.asarray(jnp.argmax(logits, -1) == data.test.labels)
    assert found["accuracy"] == [pytest.approx(right.mean())] * 2
    assert found["agreement"] == [1.0, 1.0]
    assert found["kl_divergence"] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert np.shape(found["class_accuracy"]) == (2, 10)
    z = np.asarray([logits] * 2)
    expected = metrics.calibration_error(z, data.test.labels)
    np.testing.assert_allclose(found["calibration_error"], expected, rtol=1e-5)


def prepared(split):
    return normalise(jnp.asarray(split.inputs), tiny.digits().spec)
