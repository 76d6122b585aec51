"""Several teachers, peers, and the student's own average as the teacher."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from tiny_experiment import tiny as experiment

from kd_jax import pipeline, summary
from kd_jax.augment import Augment
from kd_jax.checkpoint import Store
from kd_jax.distill import KD, TERMS, LogitRegression
from kd_jax.distill.members import CAP, common_descent
from kd_jax.ensembles import ensemble, networks_of
from kd_jax.errors import UsageError
from kd_jax.forward import from_apply
from kd_jax.loop import Silent
from kd_jax.many import of_variant
from kd_jax.optim import Optim
from kd_jax.state import rest
from kd_jax.sweep import expand

# Where nobody reads the norms of gradients, their program is not compiled.
PLAIN = dataclasses.replace(tiny_runs.DISTILL, gradient_norms=False)
STAGE = dataclasses.replace(PLAIN, augment=Augment(shift=1))


def constant(logits):
    """A network that always says the same."""
    table = jnp.asarray(logits, jnp.float32)
    apply = lambda variables, x, train: jnp.broadcast_to(variables["params"]["z"], (len(x), 3))  # noqa: E731
    return from_apply(apply, {"params": {"z": table}})


def others(seeds=2):
    """Another teacher, [S, ...]."""
    x = jnp.zeros((1, *tiny.digits().train.inputs.shape[1:]))
    each = [tiny.perceptron().init(jax.random.key(10 + seed), x) for seed in range(seeds)]
    variables = jax.tree.map(lambda *xs: jnp.stack(xs), *each)
    params = variables.pop("params")
    return tiny_runs.Snapshot(params, variables, jax.tree.map(lambda _: None, params))


def two_teachers(store=None, same=False, **fields):
    """What a student of two teachers ends with. They may be one, and are of one architecture, so
    that each rule is one program in all tests."""
    one, network = tiny_runs.taught(2)
    model = ensemble((one, one))
    networks = networks_of([network, network if same else others()])
    stage = dataclasses.replace(PLAIN, teacher="one+other", **fields)
    return tiny_runs.fit(stage, teacher=(model, networks), store=store)[0]


# Ensembles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["logits", "probabilities"])
@pytest.mark.parametrize("weights", [(), (1.0, 3.0)])
def test_an_ensemble_says_the_weighted_mean(rule, weights):
    logits = np.array([[1.0, 2.0, -1.0], [0.0, -3.0, 4.0]])
    models = tuple(constant(z) for z in logits)
    model = ensemble(models, rule, weights)
    x = jnp.zeros((5, 2))
    said, _ = model.forward(model.init(jax.random.key(0), x), x)
    share = np.array(weights or (1.0, 1.0)) / sum(weights or (1.0, 1.0))
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = share @ logits if rule == "logits" else np.log(share @ softmax)
    np.testing.assert_allclose(said.logits, np.tile(expected, (5, 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(said.features["members"][:, 0], logits)


@pytest.mark.slow
def test_two_teachers_that_are_one_teach_what_it_does():
    model, network = tiny_runs.taught(2)
    both = (ensemble((model, model)), networks_of([network, network]))
    stage = dataclasses.replace(STAGE, teacher="a+b")
    alone, _ = tiny_runs.fit(STAGE)
    for combine in ("logits", "losses", "adaptive"):
        found, _ = tiny_runs.fit(dataclasses.replace(stage, combine=combine), teacher=both)
        for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_each_rule_teaches_something_else():
    ends = {rule: two_teachers(combine=rule).params for rule in ("logits", "losses", "adaptive")}
    kernels = [params["hidden"]["kernel"] for params in ends.values()]
    assert all(jnp.any(a != b) for a, b in itertools.pairwise(kernels))


@pytest.mark.parametrize("combine", ["losses", "adaptive"])
def test_terms_with_each_teacher_need_more_than_kept_logits(combine, tmp_path):
    """Without augmentation the teachers' logits are collected, but their mean is not enough."""
    found = two_teachers(store=Store(tmp_path), same=True, combine=combine)
    alone, _ = tiny_runs.fit(PLAIN)
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_shares_of_teachers_count():
    found = two_teachers(combine="losses", teacher_weights=(1.0, 1e-6))
    alone, _ = tiny_runs.fit(PLAIN)
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


# The adaptive rule --------------------------------------------------------------------------


def test_equal_and_orthogonal_gradients_share_evenly():
    np.testing.assert_allclose(common_descent(jnp.eye(2)), [0.5, 0.5], atol=1e-5)
    np.testing.assert_allclose(common_descent(jnp.eye(3)), [1 / 3] * 3, atol=1e-5)
    np.testing.assert_allclose(common_descent(jnp.zeros((2, 4))), [0.5, 0.5], atol=1e-5)


def test_a_small_gradient_gets_no_more_than_the_cap():
    weights = common_descent(jnp.array([[0.1, 0.0], [10.0, 0.0], [0.0, 10.0]]))
    assert weights[0] == pytest.approx(CAP, abs=1e-4)
    assert jnp.sum(weights) == pytest.approx(1, abs=1e-5)


def test_the_weights_are_the_best_of_a_fine_grid():
    gradients = np.array([[1.0, 0.2, -0.4], [-0.6, 1.0, 0.3], [0.1, -0.9, 1.2]])
    found = np.asarray(common_descent(jnp.asarray(gradients, jnp.float32), steps=2000))
    steps = np.linspace(0, 1, 101)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if 0 <= 1 - a - b <= CAP]
    grid = [w for w in grid if max(w) <= CAP]
    size = lambda w: np.linalg.norm(np.asarray(w) @ gradients)  # noqa: E731
    assert size(found) <= min(map(size, grid)) + 1e-4


# Peers ----------------------------------------------------------------------------------------

PEERS = dataclasses.replace(
    PLAIN,
    epochs=4,
    taught_by="peers",
    hard_weight=1.0,
    terms={"kd": KD(temperature=1.0, weight=1.0)},
)


def test_peers_differ_and_the_first_begins_like_a_student_alone():
    apart, _ = tiny_runs.fit(dataclasses.replace(PEERS, terms={}), teacher=None)
    first, second = (of_variant(rest(apart), i, 2) for i in (0, 1))
    alone, _ = tiny_runs.fit(
        dataclasses.replace(PEERS, terms={}, taught_by="teacher"), teacher=None
    )
    kernel = lambda network: network.params["hidden"]["kernel"]  # noqa: E731
    np.testing.assert_allclose(kernel(first), kernel(alone), rtol=1e-4, atol=1e-6)
    assert jnp.mean(jnp.abs(kernel(first) - kernel(second))) > 0.01


@pytest.mark.slow
def test_peers_come_closer_to_each_other():
    def distance(terms):
        stage = dataclasses.replace(PEERS, terms=terms)
        network = rest(tiny_runs.fit(stage, teacher=None)[0])
        data, model = tiny.digits(), tiny.perceptron()
        x = jnp.asarray(data.test.inputs, jnp.float32)
        said = jax.vmap(lambda v: model.forward(v, x)[0].logits)(network.variables)
        p = jax.nn.softmax(said)
        return float(jnp.mean(jnp.abs(p[0::2] - p[1::2])))

    close = {"kd": KD(temperature=1.0, weight=20.0)}
    assert distance(close) < 0.8 * distance({})


@pytest.mark.slow
def test_three_peers_hear_the_mean_of_two():
    stage = dataclasses.replace(PEERS, peers=3, epochs=1)
    _, diary = tiny_runs.fit(stage, teacher=None, seeds=(0,))
    heard = diary.records[0]["train"]["kd"]
    assert len(heard) == 3
    assert len(set(heard)) == 3
    assert min(heard) > 0


def test_peers_go_on_where_they_were_stopped(tmp_path):
    whole, _ = tiny_runs.fit(PEERS, teacher=None)
    state, _, _ = tiny_runs.stop_and_go_on(tmp_path, 8, "quit", PEERS, teacher=None)
    assert not tiny.differences(state, whole)


# The student's own average ----------------------------------------------------------------------


def test_the_average_teaches():
    stage = dataclasses.replace(STAGE, taught_by="average", ema=0.9, epochs=3)
    with_it, diary = tiny_runs.fit(stage, teacher=None)
    silent = {"kd": dataclasses.replace(stage.terms["kd"], weight=1e-12)}
    without, _ = tiny_runs.fit(dataclasses.replace(stage, terms=silent), teacher=None)
    assert diary.records[-1]["train"]["kd"][0] > 0
    kernels = [state.params["hidden"]["kernel"] for state in (with_it, without)]
    assert jnp.max(jnp.abs(kernels[0] - kernels[1])) > 1e-4


# Config and pipeline --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"taught_by": "average"}, "taught-by average: the student has no average: set ema"),
        ({"taught_by": "peers", "peers": 1}, "peers 1 must be at least 2"),
        ({"taught_by": "peers", "replay": "float16"}, "replay float16 with taught-by peers"),
        (
            {"taught_by": "peers", "terms": {"at": TERMS["at"]}},
            "terms at can't be learned",
        ),
        (
            {"teacher": "a+b", "combine": "losses", "terms": {"at": TERMS["at"]}},
            "terms at can't be learned from several",
        ),
        ({"teacher": "a+b", "teacher_weights": (1.0,)}, "teacher-weights 1.0: give each of the 2"),
        ({"teacher": "a+b", "teacher_weights": (1.0, 0.0)}, "teacher-weights 1.0 0.0: give each"),
        (
            {"teacher": "a+b", "combine": "losses", "replay": "float16"},
            "replay float16 with",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(tiny_runs.DISTILL, **fields)


def several(**changes):
    base = experiment()
    distill = dataclasses.replace(base.stages["distill"], gradient_norms=False)
    stages = {
        "train": base.stages["train"],
        "second": dataclasses.replace(distill, teacher="train"),
        "distill": dataclasses.replace(distill, teacher="train+second", gradient_norms=True),
        "mutual": dataclasses.replace(distill, taught_by="peers"),
        "prune": dataclasses.replace(base.stages["prune"], start="mutual", gradient_norms=False),
    }
    return dataclasses.replace(base, **{"stages": stages, **changes})


def test_what_stages_need_and_the_peers_that_they_become():
    expanded, variants = expand(several())
    assert expanded.needs("distill") == ("train", "second")
    assert [name for name in expanded.stages if name.startswith("mutual")] == [
        "mutual/peer=1",
        "mutual/peer=2",
    ]
    assert expanded.stages["prune/peer=2"].start == "mutual/peer=2"
    assert variants["prune/peer=2"].words == "peer 2"
    assert variants["mutual/peer=1"].joint
    assert not variants["prune/peer=1"].joint
    with pytest.raises(UsageError, match="the students of mutual teach one another"):
        expand(several(sweep=("mutual.temperature=1,2",)))
    stages = several().stages
    unknown = dataclasses.replace(stages["distill"], teacher="train+nobody")
    with pytest.raises(UsageError, match=r"distill\.teacher 'nobody' is no stage"):
        several(stages=stages | {"distill": unknown})


@pytest.mark.parametrize("fields", [{"taught_by": "peers"}, {"taught_by": "average", "ema": 0.9}])
def test_a_teacher_that_teaches_nothing_is_a_stage_all_the_same(fields):
    """That of a stage before it was told to learn from others may stay; what names none is a
    slip."""
    stages = several().stages
    idle = dataclasses.replace(stages["mutual"], **fields)
    kept = several(stages=stages | {"mutual": dataclasses.replace(idle, teacher="second")})
    assert kept.needs("mutual") == ()
    for name in ("nobody", "train+nobody"):
        slip = dataclasses.replace(idle, teacher=name)
        with pytest.raises(UsageError, match=r"mutual\.teacher 'nobody' is no stage"):
            several(stages=stages | {"mutual": slip})


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("together", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_from_the_experiment_to_the_table(tmp_path, together):
    run = pipeline.prepare(several(together=together), tmp_path, Silent())
    pipeline.train(run, Silent())
    assert run.network("mutual/peer=2", run.groups[0]).params
    results = summary.summarise(run, "command", Silent())
    labels = [row.label for row in results.rows]
    assert "student distilled, mutual, peer 1" in labels  # one of several that are distilled
    assert labels[-1] == "student distilled and pruned, peer 2"
    record = run.history("distill")[-1]
    assert record["gradients"].keys() == {"hard", "kd"}
    assert all(len(values) == 2 for values in record["gradients"].values())


# Gradient norms -------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradient_norms_are_those_of_each_part_alone():
    """Of a stage of one step: the batch is all that was seen, the state the one after it."""
    terms = {"kd": KD(temperature=2.0, weight=0.5), "logits": LogitRegression(weight=0.1)}
    stage = dataclasses.replace(tiny_runs.DISTILL, batch=64, terms=terms, hard_weight=0.3)
    state, diary = tiny_runs.fit(stage, seeds=(0,))
    model, data = tiny.perceptron(), tiny.digits()
    from kd_jax.augment import normalise, one_hot
    from kd_jax.distill import cross_entropy

    params, collections = jax.tree.map(lambda x: x[0], (state.params, state.collections))

    @jax.jit
    def norms(params, teacher, inputs, labels):
        x, targets = normalise(inputs, data.spec), one_hot(labels, 10)
        z_t = model.forward(teacher, x)[0].logits
        losses = {
            "hard": lambda z: 0.3 * cross_entropy(z, targets),
            "kd": lambda z: 0.5 * terms["kd"](z, z_t, targets),
            "logits": lambda z: 0.1 * terms["logits"](z, z_t, targets),
        }

        def values(params):
            z = model.forward({"params": params, **collections}, x, train=True)[0].logits
            return {name: jnp.mean(loss(z)) for name, loss in losses.items()}

        each = jax.jacrev(values)(params)
        squares = lambda g: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(g))  # noqa: E731
        return {name: jnp.sqrt(squares(g)) for name, g in each.items()}

    teacher = tiny_runs.teacher()[1].variables
    expected = norms(params, teacher, data.train.inputs, data.train.labels)
    found = diary.records[-1]["gradients"]
    assert found.keys() == expected.keys()
    for name, norm in expected.items():
        assert found[name][0] == pytest.approx(float(norm), rel=1e-4)


def test_gradient_norms_can_be_left_out():
    _, diary = tiny_runs.fit(dataclasses.replace(tiny_runs.DISTILL, gradient_norms=False))
    assert "gradients" not in diary.records[0]
    _, diary = tiny_runs.fit(tiny_runs.TRAIN)
    assert "gradients" not in diary.records[0]  # the loss has one part


# Two momenta ------------------------------------------------------------------------------------


def dot(delta):
    optim = Optim(name="dot", learning_rate=0.05, momentum=0.8, weight_decay=0.01, dot_delta=delta)
    terms = {"kd": KD(temperature=2.0, weight=0.7), "logits": LogitRegression(weight=0.1)}
    return dataclasses.replace(PLAIN, optim=optim, terms=terms, epochs=2)


@pytest.mark.slow
def test_without_a_difference_two_momenta_are_one():
    two, _ = tiny_runs.fit(dot(0.0))
    plain = dataclasses.replace(dot(0.0).optim, name="sgd")
    one, _ = tiny_runs.fit(dataclasses.replace(dot(0.0), optim=plain))
    for a, b in zip(jax.tree.leaves(rest(two)), jax.tree.leaves(rest(one)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    other, _ = tiny_runs.fit(dot(0.1))
    assert (
        jnp.max(jnp.abs(other.params["hidden"]["kernel"] - two.params["hidden"]["kernel"])) > 1e-4
    )


def test_two_momenta_need_a_teacher():
    with pytest.raises(UsageError, match=r"optim.name dot is for what a teacher says"):
        dataclasses.replace(tiny_runs.TRAIN, optim=Optim(name="dot"))
