"""Settings that differ in numbers train in one program, and give what each gives alone."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from marks import slow_but

import kd_jax
from kd_jax import jobs, many
from kd_jax.checkpoint import Store
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.loop import no_metrics
from kd_jax.program import Teacher
from kd_jax.state import rest

PRUNE = dataclasses.replace(tiny_runs.PRUNE, optim=kd_jax.Optim(learning_rate=0.05))
SEEDS = (0, 1)


def kd(temperature):
    return {"kd": KD(temperature=temperature, weight=0.7)}


# Each in a setting of its own, and in the last all at once.
VARIANTS = [
    dataclasses.replace(PRUNE, terms=kd(2.0)),
    dataclasses.replace(PRUNE, terms=kd(8.0)),
    dataclasses.replace(PRUNE, optim=kd_jax.Optim(learning_rate=0.02, momentum=0.5)),
    dataclasses.replace(
        PRUNE, sparsity=0.4, hard_weight=0.9, label_smoothing=0.0, ema=0.5, terms=kd(1.0)
    ),
]


@pytest.fixture(scope="module")
def together():
    return tiny_runs.fit(VARIANTS, teacher=tiny_runs.taught(2))


@pytest.mark.parametrize("index", slow_but([1, 3], range(len(VARIANTS))))
def test_a_variant_is_what_it_is_alone(together, index):
    alone, diary = tiny_runs.fit(VARIANTS[index])
    one = many.of_variant(rest(together[0]), index, len(VARIANTS))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(rest(alone)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    for record, expected in zip(together[1].records, diary.records, strict=True):
        for name, values in expected["train"].items():
            of_variant = record["train"][name][index :: len(VARIANTS)]
            np.testing.assert_allclose(of_variant, values, rtol=2e-3, atol=1e-5)
        assert record["sparsity"][index :: len(VARIANTS)] == expected["sparsity"]


def test_all_sparsities_are_exact(together):
    masks = many.of_variant(together[0].masks, 3, len(VARIANTS))["hidden"]["kernel"]
    assert np.sum(masks, axis=(1, 2)).tolist() == [512 - 205] * len(SEEDS)  # 0.4 · 512 = 204.8


def test_of_runs_is_the_inverse_of_of_variant(together):
    network = rest(together[0])
    each = [many.of_variant(network, i, len(VARIANTS)) for i in range(len(VARIANTS))]
    assert not tiny.differences(many.of_runs(each), network)


@pytest.mark.slow
def test_a_network_each_variant_starts_from_and_learns_from(together):
    start = rest(together[0])
    stages = [dataclasses.replace(tiny_runs.DISTILL, terms=kd(t)) for t in (1.0, 2.0, 3.0, 4.0)]
    model = tiny.perceptron()
    found, _ = tiny_runs.fit(stages, start=start, teacher=(model, start))
    for index, stage in enumerate(stages):
        own = many.of_variant(start, index, len(stages))
        alone, _ = tiny_runs.fit(stage, start=own, teacher=(model, own))
        one = many.of_variant(rest(found), index, len(stages))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(rest(alone)), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_a_stopped_sweep_ends_like_one_that_never_stopped(tmp_path, together):
    given = {"teacher": tiny_runs.taught(2)}
    state, _, _ = tiny_runs.stop_and_go_on(tmp_path, 8, "quit", VARIANTS, **given)
    assert not tiny.differences(state, together[0])
    assert Store(tmp_path).load().params["hidden"]["kernel"].shape[0] == len(SEEDS) * len(VARIANTS)


def test_the_teacher_is_asked_once_for_all_variants():
    wide, data = tiny.perceptron(37), tiny.digits()
    x = jnp.zeros((1, *data.train.inputs.shape[1:]))
    teacher = kd_jax.network(wide.init(jax.random.key(0), x)["params"])
    stages = [
        dataclasses.replace(tiny_runs.DISTILL, terms=kd(t)) for t in (1.0, 2.0, 3.0, 4.0, 5.0)
    ]
    prepared = jobs.prepare(stages, tiny.perceptron(), data, (wide, teacher), (0,), 1)
    variables = {"params": teacher.params, "batch_stats": _statistics(wide, x)}
    carry = (prepared.begin(None), no_metrics(prepared.settings, 1))
    given = (prepared.settings, prepared.seeds, *carry, Teacher(variables), prepared.resident, 2)
    jaxpr = str(jax.make_jaxpr(lambda *given: prepared.compiled.advance(*given))(*given))
    shapes = re.findall(r"f32\[([\d,]*)\] = dot_general", jaxpr)
    of_teacher = [shape for shape in shapes if "37" in shape.split(",")]
    assert of_teacher
    assert not [shape for shape in of_teacher if "5" in shape.split(",")]
    assert [shape for shape in shapes if "5" in shape.split(",")]


def _statistics(model, x):
    statistics = model.init(jax.random.key(0), x)["batch_stats"]
    return jax.tree.map(lambda x: x[None], statistics)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(PRUNE, epochs=4),
        dataclasses.replace(PRUNE, batch=32),
        dataclasses.replace(PRUNE, ema=None),
        dataclasses.replace(PRUNE, fraction=0.9),
        dataclasses.replace(PRUNE, allocation="global"),
        dataclasses.replace(PRUNE, terms={"logits": kd_jax.TERMS["logits"]}),
        dataclasses.replace(PRUNE, augment=kd_jax.Augment(mixup=0.5)),
        dataclasses.replace(PRUNE, schedule=kd_jax.OneShot()),
    ],
)
def test_what_changes_the_program_is_refused(other):
    with pytest.raises(UsageError, match="it changes the program"):
        tiny_runs.fit([PRUNE, other], teacher=tiny_runs.taught(2))
