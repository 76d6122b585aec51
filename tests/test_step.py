import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from kd_jax import step as step_lib
from kd_jax.augment import Augment
from kd_jax.batches import epoch_order, take
from kd_jax.changes import change_masks
from kd_jax.distill import KD
from kd_jax.forward import Outputs, from_linen
from kd_jax.objective import Settings
from kd_jax.optim import Optim
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune import PruningLoss
from kd_jax.state import Snapshot, no_masks, rest, start
from kd_jax.step import advance, train_step
from kd_jax.tree import named_leaves

KERNEL_MASK = np.arange(12).reshape(4, 3) % 3 != 1  # the middle column of the first kernel is gone
MASKS = {"first": {"kernel": KERNEL_MASK, "bias": None}, "second": {"kernel": None, "bias": None}}


def program(**changes):
    model, teacher = tiny.two_layers()[0], tiny.linear()[0]
    plain = Program(
        model=model,
        teacher=teacher,
        spec=tiny.SPEC,
        augment=Augment(),
        batch=5,
        steps=6,
        steps_per_epoch=3,
    )
    return dataclasses.replace(plain, **changes)


def settings(**changes):
    golden = Settings(
        seed=0,
        optim=Optim(learning_rate=0.2, weight_decay=0.01, warmup=2),
        label_smoothing=0.1,
        hard_weight=0.3,
        terms={"kd": KD(temperature=2.0, weight=0.7)},
        penalty=None,
        ema=0.9,
    )
    return golden.replace(**changes)


def begin(settings, masks=MASKS):
    variables = dict(tiny.two_layers()[1])
    params = variables.pop("params")
    masks = jax.tree.map(jnp.asarray, masks or no_masks(params))
    return start(Snapshot(params, variables, masks), settings.optim, settings.ema is not None)


def run(program, settings, state, steps, jit=False):
    """(state, [metrics of a step]) after steps on batches that are always the same."""
    soft = tiny.linear()[1]
    step = functools.partial(train_step, program)
    step = jax.jit(step) if jit else step
    metrics = []
    for i in range(steps):
        state, measured = step(settings, state, soft, tiny.batch(5, first=5 * i))
        metrics.append(measured)
    return state, metrics


# The golden step

MEANING = (
    "\n{name} is not what the step gave when it was checked against an independent NumPy program "
    "in double precision, its gradients by finite differences. A difference means that training "
    "is another one: the loss, the mask, the order of weight decay, momentum and learning rate, "
    "the average or the statistics. Unless that is what you intend, it is a mistake; if you do "
    "intend it, say in the changelog that results will not be comparable with older ones."
)


def test_two_steps_give_the_golden_numbers():
    state, metrics = run(program(), settings(), begin(settings()), 2)
    params, average = state.params, state.extra["ema"]["params"]
    momentum = next(v for k, v in named_leaves(state.opt_state).items() if k.endswith("first/bias"))
    golden = {
        "the first loss": (metrics[0]["loss"], 0.4280532),
        "the first hard loss": (metrics[0]["hard"], 1.1630649),
        "the first distillation loss": (metrics[0]["kd"], 0.1130482),
        "the second loss": (metrics[1]["loss"], 0.4378375),
        "the accuracy": (metrics[1]["accuracy"], 0.4),
        "a masked kernel": (
            params["first"]["kernel"][:2],
            [[0.8398455, 0, 0.1423503], [-0.744425, 0, -0.2708212]],
        ),
        "a kernel": (params["second"]["kernel"][0], [0.8454052, 0.8993624, 0.1380435]),
        "a bias": (params["second"]["bias"], [0.3836298, 0.4123170, 0.1454588]),
        "a bias's momentum": (momentum, [-0.0119859, 0.0043169, -0.0000908]),
        "an averaged bias": (average["second"]["bias"], [0.389245, 0.4188567, 0.1339743]),
        "an averaged kernel": (average["first"]["kernel"][0], [0.8404912, 0, 0.1424211]),
        "a statistic": (
            state.collections["statistics"]["mean"],
            [-0.0267146, 0.0424411, -0.0176382],
        ),
    }
    for name, (found, expected) in golden.items():
        message = MEANING.format(name=name)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=message)
    assert int(state.step) == 2


def test_jit_equals_eager():
    eager, measured = run(program(), settings(), begin(settings()), 3)
    jitted, measured_too = run(program(), settings(), begin(settings()), 3, jit=True)
    assert jax.tree.structure(eager) == jax.tree.structure(jitted)
    for a, b in zip(
        jax.tree.leaves((eager, measured)), jax.tree.leaves((jitted, measured_too)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_step_keeps_structure_shapes_and_types():
    before = begin(settings())
    shape = lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False))  # noqa: E731
    after, metrics = run(program(), settings(), before, 1, jit=True)
    assert jax.tree.map(shape, before) == jax.tree.map(shape, after)
    assert {value.dtype for value in metrics[0].values()} == {jnp.dtype(jnp.float32)}


# Masks


@pytest.mark.parametrize(
    "optim",
    [
        Optim(),
        pytest.param(Optim(nesterov=True), marks=pytest.mark.slow),
        Optim(name="adam"),
        pytest.param(Optim(name="adamw"), marks=pytest.mark.slow),
        Optim(clip_norm=0.1, max_norm=0.5),
    ],
    ids=["sgd", "nesterov", "adam", "adamw", "clipped"],
)
def test_what_is_masked_stays_zero(optim):
    optim = dataclasses.replace(optim, weight_decay=0.1, learning_rate=0.05)
    given = settings(optim=optim, penalty=PruningLoss(weight=0.01))
    state, _ = run(program(), given, begin(given, masks=None), 2)
    # Moments are there by now: the change of masks has to clear them, too.
    before = _values_of_first_kernel(state)
    assert all(np.all(value != 0) for value in before.values())
    masks = jax.tree.map(jnp.asarray, MASKS)
    keep = {"first/kernel": int(KERNEL_MASK.sum())}
    state = state.replace(masks=jax.tree.map(lambda m: m | True, masks))
    state = change_masks(program(), given, state, keep)
    mask = np.asarray(state.masks["first"]["kernel"])
    assert mask.sum() == KERNEL_MASK.sum()
    kernel = np.abs(before["params"])
    assert kernel[mask].min() > kernel[~mask].max()
    for _ in range(2):
        for name, value in _values_of_first_kernel(state).items():
            np.testing.assert_array_equal(value[~mask], 0.0, err_msg=name)
            assert np.all(value[mask] != 0), name
        state, _ = run(program(), given, state, 3)
    assert not np.array_equal(_values_of_first_kernel(state)["params"][mask], kernel[mask])


def _values_of_first_kernel(state):
    """{name: value} of the first kernel's parameter, average and moments."""
    kept = {"params": state.params, "extra": state.extra, "moments": state.opt_state}
    named = named_leaves(kept)
    found = {k: np.asarray(v) for k, v in named.items() if k.endswith("first/kernel")}
    assert len(found) >= 3
    return {"params" if k == "params/first/kernel" else k: v for k, v in found.items()}


def test_a_mask_alone_hides_its_weight():
    # The pruned weight's own value plays no part, so nothing can flow from it either.
    plain = settings(optim=Optim(momentum=0.0, schedule="constant"), ema=None)
    state = begin(plain)
    kernel = state.params["first"]["kernel"]
    first = {**state.params["first"], "kernel": jnp.where(KERNEL_MASK, kernel, 1e3)}
    spoiled = state.replace(params={**state.params, "first": first})
    (a, measured), (b, measured_too) = (run(program(), plain, s, 1) for s in (state, spoiled))
    assert measured == measured_too
    assert not tiny.differences(a.params["second"], b.params["second"])
    moved = jnp.where(KERNEL_MASK, a.params["first"]["kernel"], 1e3)
    np.testing.assert_array_equal(b.params["first"]["kernel"], moved)


@pytest.mark.parametrize(
    ("allocation", "target", "kept"),
    [
        ("layer", {"kernel": 2}, [[3, 4]]),
        ("global", 1, [[4]]),
        ("threshold", 2.5, [[3, 4]]),
        # the standard deviation of 1, -2, 3 and 4 is 2.29
        ("std", 1.2, [[3, 4]]),
    ],
)
def test_masks_of_each_allocation(allocation, target, kept):
    params = {"kernel": jnp.array([[1.0, -2.0], [3.0, 4.0]])}
    masks = {"kernel": jnp.ones((2, 2), bool)}
    given = settings()
    state = start(Snapshot(params, {}, masks), given.optim, ema=True)
    state = change_masks(program(allocation=allocation), given, state, target)
    assert state.params["kernel"][state.masks["kernel"]].tolist() == kept[0]
    assert not tiny.differences(state.extra["ema"]["params"], state.params)


# The teacher


def test_the_teacher_is_untouched_and_gets_no_gradient():
    soft = tiny.linear()[1]
    before = np.array(soft["params"]["kernel"])

    def loss(soft, scale):
        state, metrics = train_step(
            program(),
            settings(terms={"kd": KD(weight=scale)}),
            begin(settings()),
            soft,
            tiny.batch(),
        )
        moved = sum(jnp.sum(x) for x in jax.tree.leaves(state.params))
        return metrics["loss"] + moved

    by_teacher, by_weight = jax.grad(loss, argnums=(0, 1))(soft, 0.7)
    np.testing.assert_array_equal(by_teacher["params"]["kernel"], 0)
    assert by_weight != 0
    np.testing.assert_array_equal(soft["params"]["kernel"], before)


def test_the_teacher_matters_only_by_its_terms():
    given = settings(terms={})
    alone, _ = train_step(program(teacher=None), given, begin(given), None, tiny.batch())
    taught, _ = train_step(program(), given, begin(given), tiny.linear()[1], tiny.batch())
    assert not tiny.differences(alone, taught)
    distilled, _ = train_step(program(), settings(), begin(given), tiny.linear()[1], tiny.batch())
    assert tiny.differences(alone.params, distilled.params)


def test_collected_logits_teach_what_the_teacher_itself_would():
    soft = tiny.linear()[1]
    logits = Outputs(tiny.batch().inputs @ soft["params"]["kernel"])
    online, measured = train_step(program(), settings(), begin(settings()), soft, tiny.batch())
    replayed, measured_too = train_step(
        program(), settings(), begin(settings()), logits, tiny.batch()
    )
    for a, b in zip(
        jax.tree.leaves((online, measured)), jax.tree.leaves((replayed, measured_too)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def spy(model, seen):
    """The model, which writes down (inputs, train) of each forward pass."""

    def forward(variables, inputs, train=False, key=None):
        seen.append((np.asarray(inputs), train))
        return model.forward(variables, inputs, train, key)

    return dataclasses.replace(model, forward=forward)


def test_the_teacher_evaluates_what_the_student_trains_on():
    taught, learned = [], []
    spied = program(
        model=spy(program().model, learned),
        teacher=spy(program().teacher, taught),
        augment=Augment(mixup=1.0),
    )
    run(spied, settings(), begin(settings()), 1)
    ((shown, mode),), ((studied, student_mode),) = taught, learned
    assert (mode, student_mode) == (False, True)
    np.testing.assert_array_equal(shown, studied)
    assert np.any(shown != tiny.batch().inputs)  # both saw the mixture, not what is stored


# What a model is given


def test_mixed_inputs_come_with_mixed_targets():
    seen = []

    class Spy(KD):
        def __call__(self, student_logits, teacher_logits, targets):
            seen.append(np.asarray(targets))
            return super().__call__(student_logits, teacher_logits, targets)

    inputs = []
    mixing = program(teacher=spy(program().teacher, inputs), augment=Augment(mixup=1.0))
    given = settings(terms={"kd": Spy()}, label_smoothing=0.0)
    run(mixing, given, begin(given), 1)
    batch = tiny.batch()
    difference = np.roll(batch.inputs, 1, axis=0) - batch.inputs
    share = np.median((inputs[0][0] - batch.inputs) / difference)
    assert 0.001 < share < 0.999
    one_hot = np.eye(3)[np.asarray(batch.labels)]
    expected = (1 - share) * one_hot + share * np.roll(one_hot, 1, axis=0)
    np.testing.assert_allclose(seen[0], expected, atol=1e-4)


def test_statistics_move_in_training_only():
    state = begin(settings())
    model = program().model
    trained, _ = run(program(), settings(), state, 1)
    assert tiny.differences(trained.collections, state.collections)
    # Evaluation reads them: with those of the start, the logits would be others.
    snapshot = rest(trained)
    still = snapshot.replace(collections=state.collections)
    logits, others = (
        step_lib.predict(model, tiny.SPEC, s, tiny.batch().inputs) for s in (snapshot, still)
    )
    assert np.abs(logits - others).max() > 1e-4


def test_what_is_evaluated_is_the_average():
    state, _ = run(program(), settings(), begin(settings()), 2)
    snapshot = rest(state)
    assert not tiny.differences(snapshot.params, state.extra["ema"]["params"])
    assert tiny.differences(snapshot.params, state.params)
    without = settings(ema=None)
    state, _ = run(program(), without, begin(without), 2)
    assert state.extra == {}
    assert not tiny.differences(rest(state).params, state.params)


class Narrow(nn.Module):
    """bfloat16, with all that may overflow or drop out."""

    @nn.compact
    def __call__(self, inputs, train):
        x = nn.Dense(8, dtype=jnp.bfloat16, kernel_init=tiny.sines)(inputs)
        x = nn.BatchNorm(use_running_average=not train, dtype=jnp.bfloat16)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(3, dtype=jnp.bfloat16, kernel_init=tiny.sines)(x)


def test_half_precision_computes_and_full_precision_keeps():
    narrow = program(model=from_linen(Narrow()))
    variables = narrow.model.init(jax.random.key(0), tiny.batch().inputs)
    params = variables.pop("params")
    given = settings()
    state = start(Snapshot(params, variables, no_masks(params)), given.optim, ema=True)
    logits = narrow.model.forward({"params": params, **variables}, tiny.batch().inputs)[0].logits
    assert logits.dtype == jnp.bfloat16
    state, metrics = run(narrow, given, state, 4, jit=True)
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(x).all() for x in floats)
    assert all(np.isfinite(measured["loss"]) for measured in metrics)
    assert metrics[3]["loss"].dtype == jnp.float32


def test_dropout_is_a_function_of_seed_and_step():
    dropping = program(model=from_linen(Narrow()))
    params = dropping.model.init(jax.random.key(0), tiny.batch().inputs)
    params, rest_of_it = params["params"], {"batch_stats": params["batch_stats"]}
    given = settings()
    state = start(Snapshot(params, rest_of_it, no_masks(params)), given.optim, ema=True)

    def loss(seed, step):
        at = state.replace(step=jnp.asarray(step))
        soft = tiny.linear()[1]
        return float(
            train_step(dropping, given.replace(seed=seed), at, soft, tiny.batch())[1]["loss"]
        )

    assert loss(0, 1) == loss(0, 1)
    assert len({loss(0, 1), loss(0, 2), loss(1, 1)}) == 3


# Resident data


def resident(count=17):
    batch = tiny.batch(count)
    return Resident(ids=100 + batch.ids, inputs=batch.inputs, labels=batch.labels)


def test_an_epoch_takes_examples_once_and_in_a_new_order():
    taking = jax.jit(functools.partial(take, program()), static_argnums=2)

    def ids(seed, step):
        order = epoch_order(program(), seed, step, resident())
        return np.asarray(taking(order, step, None, resident())[0].ids).tolist()

    epochs = [[i for step in range(3) for i in ids(0, 3 * epoch + step)] for epoch in (0, 1)]
    for epoch in epochs:
        assert len(set(epoch)) == 15
        assert set(epoch) <= set(range(100, 117))
    assert epochs[0] != epochs[1]
    assert ids(0, 4) == ids(0, 4) != ids(1, 4)


def test_a_batch_belongs_together():
    data = resident()
    logits = jnp.arange(17.0)[:, None] * jnp.ones((1, 3))
    order = epoch_order(program(), 0, 2, data)
    batch, soft = take(program(), order, 2, Teacher(logits=logits), data)
    rows = np.asarray(batch.ids) - 100
    np.testing.assert_array_equal(batch.inputs, data.inputs[rows])
    np.testing.assert_array_equal(batch.labels, data.labels[rows])
    np.testing.assert_array_equal(batch.weights, np.ones(5))
    np.testing.assert_array_equal(soft.logits[:, 0], rows)
    variables = tiny.linear()[1]
    assert take(program(), order, 2, Teacher(variables=variables), data)[1] is variables


def test_many_steps_are_single_steps_one_after_another():
    given, teacher, data = settings(), Teacher(variables=tiny.linear()[1]), resident()
    sums = {name: jnp.ones(()) for name in ("hard", "kd", "loss", "accuracy")}
    moved, total = jax.jit(functools.partial(advance, program()))(
        given, begin(given), sums, teacher, data, 3
    )
    state, losses = begin(given), []
    order = epoch_order(program(), given.seed, 0, data)
    for step in range(3):
        batch, soft = take(program(), order, step, teacher, data)
        state, metrics = train_step(program(), given, state, soft, batch)
        losses.append(float(metrics["loss"]))
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert float(total["loss"]) == pytest.approx(1 + sum(losses), rel=1e-5)
    assert int(moved.step) == 3


def test_no_steps_change_nothing():
    given, teacher = settings(), Teacher(variables=tiny.linear()[1])
    sums = {name: jnp.ones(()) for name in ("hard", "kd", "loss", "accuracy")}
    moved = advance(program(), given, begin(given), sums, teacher, resident(), 0)
    assert not tiny.differences(moved, (begin(given), sums))
