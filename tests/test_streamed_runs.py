"""Stages on data that are read on the way."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import data as data_lib
from kd_jax import jobs, pieces
from kd_jax import stream as stream_lib
from kd_jax.augment import Augment
from kd_jax.compiled import fresh
from kd_jax.config import Fuse, Prune, Train
from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.fusion import fuse
from kd_jax.objective import Settings
from kd_jax.optim import Optim
from kd_jax.program import Program
from kd_jax.prune import Lottery, Taylor
from kd_jax.state import rest, start
from kd_jax.step import train_step


class Memory:
    """A source of the digits that are in memory."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        return self.split.inputs[index], int(self.split.labels[index])


STREAMED = dataclasses.replace(tiny_runs.DISTILL, epochs=3, augment=Augment(flip=True))


@pytest.fixture(scope="module")
def stream():
    """48 examples to train on, in 3 batches an epoch, and 16 to validate."""
    data = tiny.digits()
    return data_lib.streamed(
        Data(validation=0.25), data.spec, Memory(data.train), Memory(data.test)
    )


@pytest.fixture(scope="module")
def streamed(stream):
    return tiny_runs.fit(STREAMED, data=stream, seeds=(3,))


def test_streamed_data_train_as_single_steps_would(stream, streamed):
    model, teacher = tiny_runs.taught(1)
    program = Program(model, model, stream.spec, STREAMED.augment, 16, 9, 3)
    settings = Settings(
        seed=jnp.uint32(3),
        optim=STREAMED.optim,
        label_smoothing=0.0,
        hard_weight=STREAMED.hard_weight,
        terms=STREAMED.terms,
        penalty=None,
        ema=None,
    )
    state = start(fresh(program, settings), settings.optim, ema=False)
    soft = jax.tree.map(lambda x: x[0], teacher.variables)
    step = jax.jit(functools.partial(train_step, program))
    losses = []
    for batch in itertools.islice(stream_lib.stream(stream.train, 16, seed=3), 9):
        state, metrics = step(settings, state, soft, batch)
        losses.append(metrics["loss"])
    for a, b in zip(jax.tree.leaves(rest(streamed[0])), jax.tree.leaves(rest(state)), strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=1e-4)
    found = [record["train"]["loss"][0] for record in streamed[1].records]
    np.testing.assert_allclose(found, np.mean(np.reshape(losses, (3, 3)), axis=1), rtol=1e-4)


def test_streamed_data_go_on(tmp_path, stream, streamed, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)
    given = {"data": stream, "seeds": (3,)}
    state, history, diary = tiny_runs.stop_and_go_on(tmp_path, 8, "quit", STREAMED, **given)
    assert diary.began == [("", 9, 7)]
    assert not tiny.differences(state, streamed[0])
    assert history == streamed[1].records


@pytest.mark.slow
@pytest.mark.parametrize("nans", [False, True])
def test_what_is_not_finite_is_found_in_streamed_data_too(stream, nans):
    fast = dataclasses.replace(STREAMED, optim=Optim(learning_rate=1e20))
    said = r"by hard and kd, at step 2 of 9 \(epoch 1, seed 3\)"
    with pytest.raises(UsageError, match=said + (": invalid value" if nans else "; lower it")):
        tiny_runs.fit(fast, data=stream, seeds=(3,), nans=nans)


def test_streamed_data_take_one_seed_at_a_time(stream):
    with pytest.raises(UsageError, match="one seed at a time"):
        tiny_runs.fit(STREAMED, data=stream, seeds=(0, 1))


PRUNED = Prune(
    epochs=4,  # 12 steps
    batch=16,
    optim=STREAMED.optim,
    sparsity=0.7,
    criterion=Taylor(batches=2),
    schedule=Lottery(rounds=1, rewind=1),
)


@pytest.mark.slow
def test_streamed_data_are_scored_and_rewound(tmp_path, stream, monkeypatch):
    """The criterion sees the next two batches; after a rewind batches come as from there."""
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)
    begun, original = [], jobs.stream
    monkeypatch.setattr(jobs, "stream", lambda *given: begun.append(given[3]) or original(*given))
    given = {"data": stream, "seeds": (3,)}
    state, diary = tiny_runs.fit(PRUNED, **given)
    # A training has 7 steps: at the beginning, for the score, and for training again from step 1.
    assert begun == [0, 1, 1]
    gone = [int((~m).sum()) for m in jax.tree.leaves(state.masks)]
    assert gone == [56, 358]
    again, history, _ = tiny_runs.stop_and_go_on(tmp_path, 9, "quit", PRUNED, **given)
    assert not tiny.differences(again, state)
    assert history == diary.records


@pytest.mark.slow
def test_a_soup_and_an_average_of_epochs_see_the_stream_for_their_statistics(stream):
    train = Train(epochs=2, batch=16, swa=0.5, recalibrate=2, optim=Optim(learning_rate=0.05))
    averaged, plain = (
        tiny_runs.fit(dataclasses.replace(train, recalibrate=n), data=stream, seeds=(3,))[0]
        for n in (2, 0)
    )
    assert not tiny.differences(rest(averaged).params, rest(plain).params)
    assert tiny.differences(rest(averaged).collections, rest(plain).collections)
    members = [(tiny.perceptron(), rest(plain))] * 2
    fused, as_it_is = (
        fuse(
            Fuse(of=("a", "b"), how="soup", batch=16, recalibrate=n),
            members,
            stream,
            seeds=(3,),
            devices=1,
        )[1]
        for n in (2, 0)
    )
    assert not tiny.differences(fused.params, as_it_is.params)
    assert tiny.differences(fused.collections, as_it_is.collections)
