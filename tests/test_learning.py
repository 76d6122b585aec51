"""Criteria that are trained, in whole stages."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from marks import slow_but

from kd_jax import jobs, learning, many, pieces, randomness
from kd_jax.config import Prune, Train
from kd_jax.objective import no_metrics
from kd_jax.optim import Optim
from kd_jax.prune import CRITERIA, L0, STR, Cubic, Learned, Movement, OneShot, SoftMovement
from kd_jax.state import rest

STAGE = Prune(
    epochs=2,  # 8 steps
    batch=16,
    optim=Optim(learning_rate=0.05, weight_decay=1e-2),
    sparsity=0.7,
    schedule=OneShot(at=0.7),  # before step 6
    recalibrate=0,  # of the criterion alone
)
LEARNED = [name for name, c in CRITERIA.items() if isinstance(c, Learned)]


def staged(criterion, **changes):
    if isinstance(criterion, str):
        criterion = CRITERIA[criterion]
    return dataclasses.replace(STAGE, criterion=criterion, **changes)


def hidden(tree):
    return np.asarray(tree["hidden"]["kernel"])


def before_and_after(given, **changes):
    """[(step, state before the event, after it)], of copies; and the state at the end."""
    seen, original = [], pieces.Runner.change

    def change(self, step, state, event):
        before = jax.tree.map(np.array, state)
        state = original(self, step, state, event)
        seen.append((step, event[0], before, jax.tree.map(np.array, state)))
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces.Runner, "change", change)
        state, diary = tiny_runs.fit(given, **changes)
    return seen, state, diary


def test_a_step_of_movement_by_hand():
    """S is what was lost by −η ∂L/∂W' ⊙ W, of one step of plain descent, and W moved as ever."""
    optim = Optim(learning_rate=0.1, momentum=0.0, schedule="constant")
    given = staged(Movement(rate=3.0), optim=optim, epochs=1, schedule=OneShot(at=1.0))
    plain = Train(epochs=1, batch=16, optim=optim)
    states = {}
    for name, stage in {"movement": given, "plain": plain}.items():
        prepared = jobs.prepare([stage], tiny.perceptron(), tiny.digits(), None, (0,), 1)
        first = prepared.begin(None)
        begun = jax.tree.map(np.array, first)
        zeros = no_metrics(prepared.settings, 1)
        told = (prepared.settings, prepared.seeds, first, zeros, None, prepared.resident, 1)
        states[name] = begun, prepared.compiled.advance(*told)[0]
    (begun, moved), (_, like) = states["movement"], states["plain"]
    np.testing.assert_allclose(hidden(moved.params), hidden(like.params), rtol=1e-5, atol=1e-7)
    w = hidden(begun.params)
    gradient = (w - hidden(like.params)) / 0.1
    s = moved.extra["learned"].values["hidden/kernel"]
    np.testing.assert_allclose(s, -0.3 * gradient * w, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_masks_of_movement_are_chosen_anew_and_weights_wait_behind_them():
    given = staged("movement", schedule=Cubic(begin=0.0, end=0.9, every=1), epochs=4, ema=0.8)
    seen, _, _ = before_and_after(given, seeds=(0,))
    assert [action for _, action, _, _ in seen] == ["prune"] * (len(seen) - 1) + ["settle"]
    masks = [hidden(after.masks) for _, _, _, after in seen]
    assert any((new & ~old).any() for old, new in itertools.pairwise(masks))  # some come back
    for _, action, before, after in seen:
        scores, mask = before.extra["learned"].values["hidden/kernel"], hidden(after.masks)
        if not mask.all():
            assert scores[mask].min() >= scores[~mask].max()
        w, m = hidden(after.params), hidden(after.extra["ema"]["params"])
        if action == "prune":
            np.testing.assert_array_equal(w, hidden(before.params))
        else:
            assert (w[~mask] == 0).all()
            assert (m[~mask] == 0).all()
            np.testing.assert_array_equal(w[mask], hidden(before.params)[mask])


@pytest.mark.parametrize("name", slow_but(["movement"], LEARNED))
def test_it_learns_and_then_weights_are_what_the_network_saw_and_it_learns_no_more(name):
    seen, state, diary = before_and_after(staged(name))
    ((step, action, before, after),) = seen
    assert (step, action) == (6, "settle")
    assert hidden(after.masks).sum() == 2 * (512 - round(0.7 * 512))
    prepared = jobs.prepare([staged(name)], tiny.perceptron(), tiny.digits(), None, (0, 1), 1)
    begun = prepared.begin(None).extra["learned"]
    assert begun.going.all()
    for layer, s in begun.values.items():
        assert (before.extra["learned"].values[layer] != s).any(), layer
    network = prepared.compiled.rest(prepared.settings, prepared.seeds, before)
    mask = hidden(after.masks)
    np.testing.assert_array_equal(hidden(after.params)[mask], hidden(network.params)[mask])
    assert (hidden(after.params)[~mask] == 0).all()
    learned = after.extra["learned"]
    assert not learned.going.any()
    assert not tiny.differences(state.extra["learned"], learned)
    assert diary.records[-1]["sparsity"] == [414 / 592] * 2
    assert all(np.isfinite(r["train"]["criterion_sparsity"]).all() for r in diary.records)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("movement", marks=pytest.mark.slow), "l0"])
def test_devices_learn_like_one(name):
    given = staged(name)
    one, several = (tiny_runs.fit(given, devices=n)[0] for n in (1, 4))
    # What is cut may turn on a rounding, but what is learned may not.
    for a, b in zip(
        jax.tree.leaves(one.extra["learned"].values),
        jax.tree.leaves(several.extra["learned"].values),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4)


def test_gates_are_those_of_their_seed_and_step():
    """And at rest they are others than in training: evaluation draws nothing."""
    given = staged(L0(shut=0.5), schedule=OneShot(at=1.0), epochs=1)
    prepared = jobs.prepare([given], tiny.perceptron(), tiny.digits(), None, (0, 1), 1)
    state, told = prepared.begin(None), (prepared.settings, prepared.seeds)
    values = jax.tree.map(lambda x: x[0], state.extra["learned"].values)
    one = jax.tree.map(lambda x: x[0] if x.ndim else x, state)

    def seen(seed, step):
        key = randomness.at_step(seed, "gates", step)
        return learning.shown(prepared.program, prepared.settings, one, one.params, values, key)[
            "hidden"
        ]["kernel"]

    first = seen(0, 0)
    np.testing.assert_array_equal(first, seen(0, 0))
    for other in (seen(1, 0), seen(0, 1)):
        assert (first != other).mean() > 0.5
    resting = hidden(prepared.compiled.rest(*told, state).params)
    np.testing.assert_array_equal(resting, hidden(prepared.compiled.rest(*told, state).params))
    z = L0().gate(state.extra["learned"].values["hidden/kernel"], None)
    np.testing.assert_allclose(resting, hidden(state.params) * z, rtol=1e-6)


@pytest.mark.slow
def test_a_layer_finds_its_threshold_by_decay():
    """Without it s stays about where it began; with it, it is on its way to 0."""
    found = []
    for decay in (0.0, 0.5):
        state, _ = tiny_runs.fit(staged(STR(decay=decay), schedule=OneShot(at=1.0)), seeds=(0,))
        found.append(float(state.extra["learned"].values["hidden/kernel"][0]))
    assert abs(found[0] + 5) < 0.2
    assert found[1] > found[0] + 0.5


@pytest.mark.slow
def test_variants_of_the_price_are_what_each_is_alone():
    given = [staged(SoftMovement(weight=w, rate=20.0)) for w in (1e-4, 1e-1)]
    together, _ = tiny_runs.fit(given)
    found = []
    for index, one in enumerate(given):
        alone, _ = tiny_runs.fit(one)
        values = many.of_variant(together.extra["learned"].values, index, 2)
        found.append(values["hidden/kernel"])
        for a, b in zip(
            jax.tree.leaves(values), jax.tree.leaves(alone.extra["learned"].values), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert jnp.mean(found[1]) < jnp.mean(found[0])


@pytest.mark.slow
def test_a_higher_price_shuts_more_weights():
    shares = []
    for weight in (1e-4, 1.0):
        criterion = SoftMovement(weight=weight, rate=20.0)
        _, diary = tiny_runs.fit(staged(criterion, schedule=OneShot(at=1.0)), seeds=(0,))
        shares.append(diary.records[1]["train"]["criterion_sparsity"][0])
        assert diary.records[0]["train"]["criterion_price"][0] > 0
    assert shares[0] < 0.2 < shares[1]


def test_the_loss_holds_the_price():
    given = staged(SoftMovement(weight=0.5), schedule=OneShot(at=1.0))
    _, diary = tiny_runs.fit(given, seeds=(0,))
    told = diary.records[0]["train"]
    assert told["loss"][0] == pytest.approx(told["hard"][0] + told["criterion_price"][0], rel=1e-5)


def test_what_an_earlier_stage_pruned_does_not_come_back():
    once, _ = tiny_runs.fit(dataclasses.replace(STAGE, sparsity=0.5))
    more = staged("movement", schedule=Cubic(end=0.9, every=2))
    state, _ = tiny_runs.fit(more, start=rest(once))
    assert not (hidden(state.masks) & ~hidden(once.masks)).any()
    assert hidden(state.masks).sum() == 2 * 154


def test_validation_reads_the_network_as_the_criterion_shows_it():
    """Before the cut, with scores so dear that all weights are shut, it can only guess."""
    shut = staged(SoftMovement(weight=1.0, rate=1e4), schedule=OneShot(at=1.0))
    _, diary = tiny_runs.fit(shut, seeds=(0,))
    assert diary.records[0]["train"]["criterion_sparsity"][0] > 0.7
    first = diary.records[0]["validation_accuracy"][0]
    labels = tiny.digits().validation.labels
    assert first in {float(np.mean(labels == k)) for k in range(10)}
