"""Peers of different architectures: each learns from the others, the first is handed on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from calls import refused
from tiny_experiment import tiny as experiment

from kd_jax import ahead, jobs, pipeline, stages, step, summary, tree
from kd_jax.augment import normalise, one_hot
from kd_jax.batch import Batch
from kd_jax.checkpoint import Store
from kd_jax.distill import DKD, KD, MLKD, TERMS, TfKDVirtual, cross_entropy
from kd_jax.ensembles import part
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.models.mlp import MLP
from kd_jax.mutual import first, mutual
from kd_jax.state import rest
from kd_jax.sweep import expand

ONE, OTHER, THIRD = tiny.perceptron(), tiny.perceptron(5), tiny.convnet()
PAIR = mutual((ONE, OTHER))
STAGE = dataclasses.replace(
    tiny_runs.DISTILL,
    taught_by="peers",
    peer_models=("teacher",),
    hard_weight=0.8,
    terms={"kd": KD(temperature=2.0, weight=0.7)},
    epochs=4,
    gradient_norms=False,  # but where they are read: they are a program as large as a step's
)


def fit(stage=STAGE, model=PAIR, **given):
    return tiny_runs.fit(stage, model, teacher=None, **given)


def close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_without_terms_each_learns_alone_and_the_first_as_a_student_does():
    network = rest(fit(dataclasses.replace(STAGE, terms={}))[0])
    plain = dataclasses.replace(STAGE, terms={}, taught_by="teacher", peer_models=())
    alone = rest(tiny_runs.fit(plain, ONE, teacher=None)[0])
    close(first(network), alone)
    other = rest(tiny_runs.fit(plain, OTHER, teacher=None)[0])
    kernels = [network.params["member1"]["hidden"]["kernel"], other.params["hidden"]["kernel"]]
    assert kernels[0].shape == kernels[1].shape
    assert jnp.mean(jnp.abs(kernels[0] - kernels[1])) > 0.01  # it begins elsewhere


def test_the_parts_of_a_step_are_sums_over_all_by_hand():
    """Of three, each hears the mean of the losses with the other two; terms of all kinds."""
    models = (ONE, OTHER, THIRD)
    terms = {
        "kd": KD(temperature=2.0, weight=0.7),
        "dkd": DKD(weight=0.2),
        "mlkd": MLKD(temperatures=(2.0,), weight=0.1),
        "virtual": TfKDVirtual(weight=0.3),
    }
    stage = dataclasses.replace(STAGE, terms=terms, peer_models=("teacher", "assistant"))
    data = tiny.digits()
    prepared = jobs.prepare([stage], mutual(models), data, None, (0,), 1)
    state = prepared.begin(None)
    state = dataclasses.replace(
        jax.tree.map(lambda x: x[0], dataclasses.replace(state, step=None)), step=state.step
    )
    settings = dataclasses.replace(prepared.settings, seed=prepared.seeds[0])
    arrays = (jnp.asarray(x[:16]) for x in (data.train.ids, data.train.inputs, data.train.labels))
    batch = Batch(*arrays, weights=jnp.ones(16))
    parts_of = step.loss_parts(prepared.program, settings, state, None, batch)

    def by_hand(params):
        x, y = normalise(batch.inputs, data.spec), one_hot(batch.labels, 10)
        variables = {"params": params, **state.collections}
        views = [part(variables, f"member{i}") for i in range(3)]
        outputs = [m.forward(v, x, train=True) for m, v in zip(models, views, strict=True)]
        said = [found.logits for found, _ in outputs]
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
        heard = {
            name: {(i, j): jnp.mean(terms[name](said[i], said[j], y)) / 2 for i, j in pairs}
            for name in ("kd", "dkd", "mlkd")
        }
        hard = [jnp.mean(cross_entropy(z, y)) for z in said]
        virtual = sum(jnp.mean(terms["virtual"](z, y)) for z in said)
        return [moved for _, moved in outputs], heard, hard, virtual

    both = jax.jit(lambda params: (parts_of(params, {}, {}), by_hand(params)))
    (parts, (collections, metrics, _)), (moved, heard, hard, virtual) = both(state.params)
    for i, updated in enumerate(moved):
        close(part(collections, f"member{i}"), updated)
    np.testing.assert_allclose(parts["hard"], 0.8 * sum(hard), rtol=1e-4)
    np.testing.assert_allclose(metrics["hard"], hard[0], rtol=1e-4)
    for name, values in heard.items():
        factor = terms[name].weight * terms[name].factor(jnp.float32(0))
        np.testing.assert_allclose(parts[name], factor * sum(values.values()), rtol=1e-3)
        own = values[0, 1] + values[0, 2]
        np.testing.assert_allclose(metrics[name], own, rtol=1e-3)
    np.testing.assert_allclose(parts["virtual"], 0.3 * virtual, rtol=1e-4)


@pytest.mark.slow
def test_nobody_is_taught_through_the_gradient_of_another():
    """What the first learns from the second does not move the second: its own loss does."""
    stage = dataclasses.replace(STAGE, hard_weight=0.0)
    alone = dataclasses.replace(STAGE, terms={})
    assert tiny.differences(rest(fit(stage)[0]).params, rest(fit(alone)[0]).params)
    data = tiny.digits()
    prepared = jobs.prepare([stage], PAIR, data, None, (0,), 1)
    state = jax.tree.map(lambda x: x[0], dataclasses.replace(prepared.begin(None), step=None))
    state = dataclasses.replace(state, step=jnp.int32(0))
    settings = dataclasses.replace(prepared.settings, seed=prepared.seeds[0])
    arrays = (jnp.asarray(x[:16]) for x in (data.train.ids, data.train.inputs, data.train.labels))
    batch = Batch(*arrays, weights=jnp.ones(16))
    parts_of = step.loss_parts(prepared.program, settings, state, None, batch)
    gradient = jax.grad(lambda params: parts_of(params, {}, {})[0]["kd"])

    x = normalise(batch.inputs, data.spec)
    variables = {"params": state.params, **state.collections}
    one, other = (part(variables, f"member{i}") for i in (0, 1))

    def loss(params):
        z = OTHER.forward(other, x, train=True)[0].logits
        said = ONE.forward({**one, "params": params}, x, train=True)[0].logits
        return 0.7 * jnp.mean(STAGE.terms["kd"](said, z, z))

    both = jax.jit(lambda whole, one: (gradient(whole), jax.grad(loss)(one)))
    found, expected = both(state.params, one["params"])
    close(found["member0"], expected)


def test_they_come_closer_to_each_other():
    def distance(terms):
        network = rest(fit(dataclasses.replace(STAGE, terms=terms))[0])
        x = normalise(jnp.asarray(tiny.digits().test.inputs), tiny.digits().spec)
        say = lambda v: [z.logits for z in PAIR.forward(v, x)[0].features["peers"]]  # noqa: E731
        one, other = (jax.nn.softmax(z) for z in jax.jit(jax.vmap(say))(network.variables))
        return float(jnp.mean(jnp.abs(one - other)))

    assert distance({"kd": KD(temperature=1.0, weight=20.0)}) < 0.8 * distance({})


def test_what_is_handed_on_measured_and_told(tmp_path):
    data = tiny.digits()
    given = {"seeds": (0, 1), "devices": 1}
    store, diary = Store(tmp_path), tiny_runs.Diary()
    told = dataclasses.replace(STAGE, gradient_norms=True)
    network = stages.run(told, PAIR, data, store=store, report=diary, **given)
    assert network.params["hidden"]["kernel"].shape == (2, 64, 8)
    assert store.load().params.keys() == network.params.keys()
    record = diary.records[-1]
    found = stages.evaluate(ONE, data, network, "validation")["accuracy"]
    assert record["validation_accuracy"] == pytest.approx(found)
    assert record["gradients"].keys() == {"hard", "kd"}
    assert min(record["gradients"]["kd"]) > 0
    again = stages.run(STAGE, PAIR, data, store=Store(tmp_path / "again"), **given)
    assert not tiny.differences(again, network)


@pytest.mark.slow
def test_they_go_on_where_they_were_stopped(tmp_path):
    stage = dataclasses.replace(STAGE, ema=0.9)
    whole, _ = fit(stage)
    state, _, _ = tiny_runs.stop_and_go_on(tmp_path, 8, "quit", stage, model=PAIR, teacher=None)
    assert not tiny.differences(state, whole)


@pytest.mark.slow
def test_one_device_and_four_settings_together_and_apart():
    one = fit()[0]
    close(one, fit(devices=4)[0])
    other = dataclasses.replace(STAGE, hard_weight=0.2)
    both = stages.run([STAGE, other], PAIR, tiny.digits(), seeds=(0, 1), devices=1)
    close(jax.tree.map(lambda x: x[::2], both), first(rest(one)))


# Config and pipeline ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"taught_by": "teacher"},
            "peer-models teacher with taught-by teacher: they teach nothing",
        ),
        ({"start": "train"}, "peer-models teacher with start 'train': peers of other"),
        (
            {"terms": {"at": TERMS["at"]}},
            "terms at read features, and peers of other architectures",
        ),
        ({"terms": {"byot": TERMS["byot"]}}, "terms byot read features"),
        ({"terms": {"ctkd": TERMS["ctkd"]}}, "terms ctkd can't be learned from several"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(STAGE, **fields)


def test_networks_that_are_not_those_of_the_stage():
    for model, stage, said in (
        (
            ONE,
            STAGE,
            r"peer-models teacher: with its peers the stage has 2 networks, and was given 1",
        ),
        (
            PAIR,
            tiny_runs.TRAIN,
            "peer-models none: with its peers the stage has 1 networks, and was",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            fit(stage, model)
    with pytest.raises(UsageError, match="mutual: one network has no peers"):
        mutual((ONE,))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--distill.peer-models assistant",
            "--distill.peer-models assistant: the experiment has no",
        ),
        ("--distill.peer-models nobody", "--distill.peer-models 'nobody' is unknown."),
        (
            "--prune.taught-by peers --prune.peer-models teacher",
            "--prune.peer-models teacher: peers",
        ),
    ],
)
def test_flags(call, flags, said):
    flags = f"--distill.taught-by peers {flags}"
    assert refused(call, "run", "digits", *flags.split()).startswith(said)


def several():
    base = experiment(assistant=MLP(widths=(6,)))
    peers = {"taught_by": "peers", "peer_models": ("teacher", "assistant", "student")}
    mutually = dataclasses.replace(base.stages["distill"], teacher="", **peers)
    prune = dataclasses.replace(base.stages["prune"], start="distill", gradient_norms=False)
    stages = {
        "train": base.stages["train"],
        "distill": mutually,
        "prune": prune,
    }
    return dataclasses.replace(base, stages=stages)


def test_one_stage_of_all_peers():
    expanded, variants = expand(several())
    assert not variants
    assert expanded.needs("distill") == ()
    run = pipeline.planned(several())
    networks = {}
    for name in run.experiment.order():
        found = ahead.step_of(run, name, jax.devices()[:1], networks)
        assert "member0" not in networks[name].params
        members = [*found.state.params] if name == "distill" else []
        assert members == [f"member{i}" for i in range(4)] * bool(members)


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("together", [True, False])
def test_from_the_experiment_to_the_table(tmp_path, together):
    run = pipeline.prepare(dataclasses.replace(several(), together=together), tmp_path, Silent())
    pipeline.train(run, Silent())
    results = summary.summarise(run, "command", Silent())
    labels = {row.stage: row.label for row in results.rows}
    assert labels["distill"] == "student distilled beside teacher and assistant and student"
    row, model = results.row("distill"), run.model("distill")
    network = run.networks(["distill"], run.groups[0])
    found = stages.evaluate(model, run.data, network)["accuracy"]
    assert row.accuracy[: len(found)] == pytest.approx(found)
    alone = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    assert jax.tree.structure(network.params) == jax.tree.structure(alone)
    assert row.parameters == tree.count(alone)
    assert run.history("distill")[-1]["gradients"].keys() == {"hard", "kd"}
