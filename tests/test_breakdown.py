"""Numbers that are not finite: the run ends at once, says where they began, keeps what is good."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import breakdown, pieces
from kd_jax.checkpoint import Store
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.forward import Model, Outputs
from kd_jax.optim import Optim

FAST = dataclasses.replace(tiny_runs.TRAIN, epochs=2, optim=Optim(learning_rate=1e20))
# A term that overflows from its first step on, which is that of the third epoch.
LATE = dataclasses.replace(
    tiny_runs.DISTILL,
    epochs=4,
    terms={"mild": KD(), "wild": KD(weight=3e38, temperature=9.0, start=2.0)},
)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)


@pytest.mark.slow
def test_a_rate_that_is_too_large_is_named_with_the_step():
    said = (
        r"^optim.learning-rate 1e\+20: the loss is not finite any more, by hard, at step 2 of 8 "
        r"\(epoch 1, seed 3\); lower it, or set optim.warmup or optim.clip-norm$"
    )
    with pytest.raises(UsageError, match=said):
        tiny_runs.fit(FAST, seeds=(3,))


def test_the_term_is_named_and_the_good_checkpoints_are_kept(tmp_path):
    store = Store(tmp_path)
    said = (
        r": the loss is not finite any more, by wild, at step 9 of 16 \(epoch 3, seed 0\); the "
        r"checkpoint of step 8 is kept; lower it"
    )
    with pytest.raises(UsageError, match=said):
        tiny_runs.fit(LATE, store=store, save_seconds=0.0)
    assert [record["epoch"] for record in store.history()] == [1, 2]
    store.close()
    good = dataclasses.replace(LATE, terms=LATE.terms | {"wild": KD(start=2.0)})
    straight, _ = tiny_runs.fit(good)
    state, diary = tiny_runs.fit(good, store=Store(tmp_path))  # and it can be gone on from
    assert diary.began == [("", 16, 8)]
    assert not tiny.differences(state, straight)


def test_without_a_checkpoint_it_is_found_from_the_start():
    with pytest.raises(UsageError, match=r"by wild, at step 9 of 16 \(epoch 3, seed 0\); lower it"):
        tiny_runs.fit(LATE)


@functools.cache
def root() -> Model:
    """A perceptron with a parameter whose part in the logits is 0, and by which their gradient is
    0 times infinity."""
    plain = tiny.perceptron()

    def init(key, inputs):
        variables = dict(plain.init(key, inputs))
        return variables | {"params": {**variables["params"], "root": jnp.zeros(2)}}

    def forward(variables, inputs, train=False, key=None):
        params = dict(variables["params"])
        nothing = jnp.sum(jnp.sqrt(params.pop("root")))
        said, collections = plain.forward({**variables, "params": params}, inputs, train, key)
        return Outputs(said.logits + 0 * nothing, said.features), collections

    return Model(init, forward)


def test_the_parameter_is_named():
    said = (
        r"the gradient of hard by root is not finite any more, at step 1 of 4 \(epoch 1, seed 0\)"
    )
    with pytest.raises(UsageError, match=said):
        tiny_runs.fit(tiny_runs.TRAIN, root())


@pytest.mark.slow
def test_a_moment_that_is_too_large_is_named():
    """A gradient of some 1e22 is finite, its square is not: Adam would move that parameter no more,
    and nothing else would tell."""
    plain = tiny.perceptron()

    def init(key, inputs):
        variables = dict(plain.init(key, inputs))
        return variables | {"params": {**variables["params"], "steep": jnp.zeros(())}}

    def forward(variables, inputs, train=False, key=None):
        params = dict(variables["params"])
        large = 1e22 * params.pop("steep") * jnp.arange(10.0)
        said, collections = plain.forward({**variables, "params": params}, inputs, train, key)
        return Outputs(said.logits + large[None], said.features), collections

    hot = dataclasses.replace(tiny_runs.TRAIN, optim=Optim(name="adam", learning_rate=1e-3))
    with pytest.raises(UsageError, match=r"moments/\S*nu/steep is not finite any more after step "):
        tiny_runs.fit(hot, Model(init, forward), seeds=(0,))


def test_the_operation_is_named_if_asked_for():
    with pytest.raises(UsageError, match=r"seed 3\): invalid value \(inf\) encountered in \w+ at "):
        tiny_runs.fit(FAST, seeds=(3,), nans=True)
    said = r"by root .*: invalid value \(inf\) encountered in div at test_breakdown.py:\d+;"
    with pytest.raises(UsageError, match=said):
        tiny_runs.fit(tiny_runs.TRAIN, root(), nans=True)


@pytest.mark.slow
def test_a_setting_that_is_lost_does_not_end_the_others():
    rates = [dataclasses.replace(FAST, optim=Optim(learning_rate=rate)) for rate in (0.05, 1e20)]
    state, diary = tiny_runs.fit(rates, seeds=(0, 1))
    warnings = [note for note in diary.notes if note.startswith("warning")]
    assert warnings == [
        "warning: the loss is not finite any more, by hard, at step 2 of 8 (epoch 1, seed 0, "
        "setting 2); the other settings go on"
    ]
    kernels = np.asarray(state.params["classifier"]["kernel"])
    assert np.isfinite(kernels).all(axis=(1, 2)).tolist() == [True, False, True, False]
    alone, _ = tiny_runs.fit(rates[0], seeds=(0, 1))
    np.testing.assert_allclose(
        kernels[::2], alone.params["classifier"]["kernel"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_a_seed_that_is_lost_ends_those_of_its_setting():
    start = tiny_runs.taught(2)[1]
    broken = jax.tree.map(lambda x: x.at[1].set(np.nan), start.params)
    start = dataclasses.replace(start, params=broken)
    with pytest.raises(UsageError, match=r"by hard, at step 1 of 8 \(epoch 1, seed 4\)"):
        tiny_runs.fit(dataclasses.replace(FAST, optim=Optim()), start=start, seeds=(3, 4))


def test_what_is_said_where_the_state_at_the_start_can_not_be_made_again():
    class Job:
        begin = None

    assert breakdown.explained(Job(), None, None, (3, 5), [0]) == (  # type: ignore[arg-type]
        "a number is not finite any more between the steps 3 and 5"
    )
