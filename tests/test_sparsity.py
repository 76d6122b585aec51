"""What pruning stages leave: exactly as many weights as asked for, then and later."""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from marks import slow_but

from kd_jax import jobs, many, pieces
from kd_jax.config import Prune
from kd_jax.errors import UsageError
from kd_jax.prune import CRITERIA, Cubic, GraSP, Iterative, OneShot, Taylor
from kd_jax.state import rest
from kd_jax.tree import named_leaves

PRUNE = Prune(epochs=2, batch=16, optim=tiny_runs.TRAIN.optim, sparsity=0.7)  # 8 steps
SCHEDULES = {
    "one shot": OneShot(at=0.5),
    "iterative": Iterative(rounds=3),
    "cubic": Cubic(begin=0.2, end=0.8, every=2),
}
SIZES = {"classifier/kernel": 80, "hidden/kernel": 512}


def one_seed(masks, seed):
    return jax.tree.map(lambda m: np.asarray(m[seed]), masks)


def pruned(masks, seed):
    """{layer: entries that are pruned}."""
    one = named_leaves(one_seed(masks, seed))
    assert {name: mask.size for name, mask in one.items()} == SIZES
    return {name: int((~mask).sum()) for name, mask in one.items()}


def zeros(params, seed):
    """{layer: entries that are zero}."""
    named = named_leaves(params)
    return {name: int(np.sum(named[name][seed] == 0)) for name in SIZES}


@pytest.mark.parametrize("allocation", ["layer", "global"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_sparsity_is_exact(allocation, name):
    stage = dataclasses.replace(PRUNE, allocation=allocation, schedule=SCHEDULES[name])
    state, diary = tiny_runs.fit(stage)
    for seed in (0, 1):
        found = pruned(state.masks, seed)
        assert found == zeros(state.params, seed)
        if allocation == "layer":
            assert found == {"classifier/kernel": 56, "hidden/kernel": round(512 * 0.7)}
        else:
            assert sum(found.values()) == round(592 * Fraction("0.7"))
    last = diary.records[-1]["sparsity"]
    assert last == [sum(found.values()) / 592] * 2
    # On the way it only grows.
    assert diary.records[0]["sparsity"][0] <= last[0]
    if name == "one shot":
        assert diary.records[0]["sparsity"] == [0.0, 0.0]


def test_global_pruning_leaves_layers_unequal():
    stage = dataclasses.replace(PRUNE, allocation="global", schedule=SCHEDULES["one shot"])
    state, _ = tiny_runs.fit(stage)
    found = pruned(state.masks, 0)
    assert found["hidden/kernel"] / 512 != pytest.approx(found["classifier/kernel"] / 80, abs=0.01)


def test_kept_weights_were_larger_than_those_that_went():
    start = tiny_runs.taught(2)[1]
    state, _ = tiny_runs.fit(dataclasses.replace(PRUNE, schedule=OneShot()), start=start)
    for name in ("hidden", "classifier"):
        before = np.abs(start.params[name]["kernel"])
        mask = np.asarray(state.masks[name]["kernel"])
        for seed in (0, 1):
            kept, gone = before[seed][mask[seed]], before[seed][~mask[seed]]
            assert kept.min() >= gone.max()


def test_masks_stay_in_later_stages():
    pruned_once = rest(tiny_runs.fit(dataclasses.replace(PRUNE, schedule=OneShot()))[0])
    distilled, diary = tiny_runs.fit(tiny_runs.DISTILL, start=pruned_once)
    assert not tiny.differences(distilled.masks, pruned_once.masks)
    assert pruned(distilled.masks, 1) == zeros(distilled.params, 1)
    assert diary.records[-1]["sparsity"] == [414 / 592] * 2
    assert tiny.differences(distilled.params, pruned_once.params)

    # And a second pruning goes on from there.
    more = dataclasses.replace(PRUNE, sparsity=0.9, schedule=Iterative(rounds=2))
    last, _ = tiny_runs.fit(more, start=pruned_once)
    for seed in (0, 1):
        assert pruned(last.masks, seed) == {"classifier/kernel": 72, "hidden/kernel": 461}
        before, after = one_seed(pruned_once.masks, seed), one_seed(last.masks, seed)
        revived = jax.tree.map(lambda old, new: int((new & ~old).sum()), before, after)
        assert sum(jax.tree.leaves(revived)) == 0


def test_left_out_layers_are_not_touched():
    stage = dataclasses.replace(PRUNE, exclude=("classifier",), schedule=OneShot())
    state, diary = tiny_runs.fit(stage)
    assert state.masks["classifier"] == {"bias": None, "kernel": None}
    assert np.all(state.params["classifier"]["kernel"] != 0)
    assert diary.records[-1]["sparsity"] == [round(512 * 0.7) / 512] * 2


@pytest.mark.parametrize(("allocation", "threshold"), [("threshold", 0.2), ("std", 0.8)])
def test_thresholds_decide_the_sparsity(allocation, threshold):
    stage = dataclasses.replace(
        PRUNE, allocation=allocation, threshold=threshold, schedule=OneShot()
    )
    start = tiny_runs.taught(2)[1]
    state, _ = tiny_runs.fit(stage, start=start)
    for name in ("hidden", "classifier"):
        w = np.asarray(start.params[name]["kernel"][0])
        limit = threshold * (w.std() if allocation == "std" else 1)
        np.testing.assert_array_equal(state.masks[name]["kernel"][0], np.abs(w) >= limit)
        assert 0.1 < np.mean(np.abs(w) < limit) < 0.9


# After another pruning


def after(stage, **changes):
    """The state of a second stage that begins with the network of the first."""
    first, _ = tiny_runs.fit(stage)
    return first, dataclasses.replace(PRUNE, schedule=OneShot(), **changes)


def test_what_a_second_stage_excludes_keeps_its_masks():
    first, second = after(PRUNE, sparsity=0.9, exclude=("classifier",))
    state, _ = tiny_runs.fit(second, start=rest(first))
    for seed in (0, 1):
        assert pruned(state.masks, seed) == {
            "classifier/kernel": pruned(first.masks, seed)["classifier/kernel"],
            "hidden/kernel": round(512 * 0.9),
        }
    assert not tiny.differences(
        state.masks["classifier"]["kernel"], first.masks["classifier"]["kernel"]
    )


def test_two_stages_may_prune_different_layers():
    hidden = dataclasses.replace(PRUNE, sparsity=0.9, include=("hidden/kernel",))
    first, second = after(hidden, sparsity=0.5, include=("classifier/kernel",))
    state, _ = tiny_runs.fit(second, start=rest(first))
    found = named_leaves(one_seed(state.masks, 1))
    assert {name: int((~mask).sum()) for name, mask in found.items()} == {
        "classifier/kernel": 40,
        "hidden/kernel": round(512 * 0.9),
    }


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        # 0.7 of all weights is more than 0.7 of the larger layer.
        (
            {"allocation": "global"},
            {"allocation": "layer"},
            "sparsity 0.7 keeps 154 of hidden/kernel, but",
        ),
        (
            {"allocation": "std", "threshold": 1.5},
            {"allocation": "global", "sparsity": 0.5},
            "sparsity 0.5 keeps 296 of its prunable layers, but the network it starts from has",
        ),
    ],
)
def test_a_target_that_the_start_has_passed_is_refused(first, second, message):
    network, stage = after(dataclasses.replace(PRUNE, **first), **second)
    with pytest.raises(UsageError, match=message):
        tiny_runs.fit(stage, start=rest(network))


# Criteria that look at data


def at_step_four(**changes):
    return dataclasses.replace(PRUNE, schedule=OneShot(at=0.5), **changes)


def first_masks(stage, **given):
    """The masks that a stage begins with, before its first step. No step is taken, nor compiled."""
    original, masks = pieces.Runner.change, []

    def change(self, step, state, event):
        masks.append(original(self, step, state, event).masks)
        raise tiny_runs.Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces.Runner, "change", change)
        with pytest.raises(tiny_runs.Stopped):
            tiny_runs.fit(stage, **given)
    return masks[0]


# test_learning has those that are trained, and prune/ the masks of each.
FAST = ("magnitude",)


@pytest.mark.parametrize("name", slow_but(FAST, CRITERIA))
def test_every_criterion_prunes_exactly(name):
    state, _ = tiny_runs.fit(at_step_four(criterion=CRITERIA[name]))
    assert pruned(state.masks, 1) == {"classifier/kernel": 56, "hidden/kernel": 358}
    by_magnitude, _ = tiny_runs.fit(at_step_four())
    assert bool(tiny.differences(state.masks, by_magnitude.masks)) == (name != "magnitude")


def gradient_by_hand(stage, seed, steps):
    """The gradient of the cross-entropy at the start, of the first batches."""
    model, data = tiny.perceptron(), tiny.digits()
    prepared = jobs.prepare([stage], model, data, None, (seed,), 1)
    variables = jax.tree.map(lambda x: x[0], rest(prepared.begin(None)).variables)
    order = prepared.compiled.order(prepared.settings, prepared.seeds, 0, prepared.resident)[0]

    def loss(params, inputs, labels):
        logits = model.forward({**variables, "params": params}, inputs, train=True)[0].logits
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(16), labels])

    def normalised(rows):
        spec, inputs = data.spec, data.train.inputs[rows].astype(np.float32)
        return (inputs / spec.scale - np.asarray(spec.mean)) / np.asarray(spec.std)

    gradient = jax.jit(jax.grad(loss))
    order = np.asarray(order)
    grads = [
        gradient(variables["params"], normalised(rows), data.train.labels[rows])
        for rows in order[: 16 * steps].reshape(steps, 16)
    ]
    return variables["params"], jax.tree.map(lambda *g: sum(g) / steps, *grads)


@pytest.mark.parametrize("batches", slow_but([3], [1, 3]))
def test_the_gradient_is_that_of_the_batches_of_the_next_steps(batches):
    stage = dataclasses.replace(PRUNE, criterion=Taylor(batches=batches), schedule=OneShot())
    masks = first_masks(stage, seeds=(4,))
    params, grads = gradient_by_hand(stage, 4, batches)
    for name in ("hidden", "classifier"):
        score = np.abs(np.asarray(params[name]["kernel"] * grads[name]["kernel"]))
        mask = np.asarray(masks[name]["kernel"][0])
        assert score[mask].min() >= score[~mask].max()


@pytest.mark.slow
def test_numbers_of_a_criterion_are_swept_in_one_program():
    begun = dataclasses.replace(PRUNE, schedule=OneShot())
    stages = [dataclasses.replace(begun, criterion=GraSP(temperature=t)) for t in (1.0, 200.0)]
    together, masks = first_masks(stages), []
    for index, stage in enumerate(stages):
        alone = first_masks(stage)
        one = many.of_variant(together, index, 2)
        assert not tiny.differences(one, alone)
        masks.append(alone)
    assert tiny.differences(*masks)


@pytest.mark.slow
def test_a_teacher_takes_part_in_the_score():
    scores = {"criterion": Taylor(), "schedule": OneShot()}
    taught = first_masks(dataclasses.replace(tiny_runs.PRUNE, **scores))
    alone = first_masks(dataclasses.replace(tiny_runs.PRUNE, teacher="", terms={}, **scores))
    assert tiny.differences(taught, alone)
