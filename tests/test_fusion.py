"""Stages that make one network of several."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from calls import refused
from tiny_experiment import run_of
from tiny_experiment import tiny as experiment

from kd_jax import ahead, pipeline, summary
from kd_jax import plan as plan_lib
from kd_jax.chips import Chip, Slice
from kd_jax.config import Distill, Fuse, Prune, Shrink, Train
from kd_jax.errors import UsageError
from kd_jax.fusion import fuse
from kd_jax.loop import Silent
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.stages import evaluate
from kd_jax.stages import run as fit
from kd_jax.state import Snapshot, no_masks
from kd_jax.tree import named_leaves

SOUP = Fuse(of=("a", "b"), how="soup", batch=16, recalibrate=3)
COMMON = {"epochs": 1, "batch": 32, "optim": Optim(learning_rate=0.1)}


def member(model, *keys):
    """(model, its networks at their starts), a seed a key."""
    inputs = tiny.digits().train.inputs[:1].astype("float32")
    init = jax.jit(jax.vmap(lambda key: model.init(key, inputs)))
    variables = dict(init(jnp.stack([jax.random.key(key) for key in keys])))
    params = variables.pop("params")
    return model, Snapshot(params, variables, no_masks(params))


def fused(stage, members, seeds=(0, 1), devices=1, **given):
    return fuse(stage, members, tiny.digits(), seeds=seeds, devices=devices, **given)


def said(model, network):
    x = jnp.asarray(tiny.digits().test.inputs, jnp.float32)
    return jax.jit(jax.vmap(lambda v: model.forward(v, x)[0].logits))(network.variables)


@pytest.fixture(scope="module")
def learned():
    """A network that has learned, of one seed."""
    return fit(
        dataclasses.replace(tiny_runs.TRAIN, epochs=8), tiny.perceptron(), tiny.digits(), devices=1
    )


def two():
    return [member(tiny.perceptron(), 1, 2), member(tiny.convnet(), 3, 4)]


# What is fused ----------------------------------------------------------------------------------


def test_an_ensemble_of_two_architectures_by_hand():
    members = two()
    first, second = (said(*one) for one in members)
    model, network = fused(Fuse(of=("a", "b"), how="logits", shares=(3.0, 1.0)), members)
    np.testing.assert_allclose(said(model, network), 0.75 * first + 0.25 * second, rtol=1e-5)
    model, network = fused(Fuse(of=("a", "b")), members)
    mean = (jax.nn.softmax(first) + jax.nn.softmax(second)) / 2
    np.testing.assert_allclose(jax.nn.softmax(said(model, network)), mean, rtol=1e-5)
    np.testing.assert_array_equal(network.collections["shares"]["shares"], np.full((2, 2), 0.5))
    x = jnp.zeros((3, 8, 8, 1))
    own = jax.tree.map(lambda leaf: leaf[0], network.variables)
    features = jax.eval_shape(model.forward, own, x)[0].features
    shapes = {name: feature.shape for name, feature in features.items()}
    assert shapes == dict.fromkeys(("member0", "member1"), (3, 10))


def test_an_ensemble_of_an_ensemble():
    inner = fused(Fuse(of=("a", "b"), how="logits"), two())
    model, network = fused(Fuse(of=("c", "d"), how="logits"), [inner, two()[0]])
    by_hand = (said(*inner) + said(*two()[0])) / 2
    np.testing.assert_allclose(said(model, network), by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_shares_are_fitted_for_each_seed(learned):
    """Of a network that has learned and one that has not; no test example is asked."""
    members = [(tiny.perceptron(), learned), member(tiny.convnet(), 3)]
    diary = tiny_runs.Diary()
    stage = Fuse(of=("a", "b"), fit_shares=True)
    model, network = fused(stage, members, (0,), report=diary, name="both")
    shares = np.asarray(network.collections["shares"]["shares"])
    assert shares[0, 0] > 0.8
    assert diary.notes == [f"both: fused, shares {shares[0, 0]:.2f}, {shares[0, 1]:.2f}"]
    nll = lambda *one: evaluate(one[0], tiny.digits(), one[1], "validation")["cross_entropy"][0]  # noqa: E731
    equal = fused(Fuse(of=("a", "b")), members, (0,))
    assert nll(model, network) <= min(nll(*members[0]), nll(*members[1]), nll(*equal)) + 1e-4


def test_a_soup_is_the_mean_and_its_statistics_are_estimated_anew():
    """Statistics are those that three batches in training mode leave, of the seed's own order."""
    members = [member(tiny.perceptron(), 1, 2), member(tiny.perceptron(), 3, 4)]
    model, network = fused(SOUP, members)
    assert model is tiny.perceptron()
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *(one.params for _, one in members))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), network.params, mean)
    as_it_is = fused(dataclasses.replace(SOUP, recalibrate=0), members)[1]
    assert not tiny.differences(network.params, as_it_is.params)
    assert len(tiny.differences(network.collections, as_it_is.collections)) == 2
    apart = [
        fused(SOUP, [(m, jax.tree.map(lambda x, i=i: x[i : i + 1], n)) for m, n in members], (i,))
        for i in (0, 1)
    ]
    for seed, (_, alone) in enumerate(apart):
        jax.tree.map(
            lambda a, b, seed=seed: np.testing.assert_allclose(a[0], b[seed], rtol=1e-5, atol=1e-6),
            alone.variables,
            network.variables,
        )


@pytest.mark.slow
def test_over_one_device_and_four():
    members = [member(tiny.perceptron(), 1, 2), member(tiny.perceptron(), 3, 4)]
    one, many = (fused(SOUP, members, devices=n)[1].variables for n in (1, 4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, many)


def test_a_greedy_soup_leaves_out_what_lowers_it(learned):
    bad = dataclasses.replace(learned, params=jax.tree.map(lambda w: -w, learned.params))
    members = [(tiny.perceptron(), bad), (tiny.perceptron(), learned)]
    _, network = fused(dataclasses.replace(SOUP, how="greedy_soup"), members, (0,))
    assert not tiny.differences(network.params, learned.params)


def broken(model, *keys):
    """The same of which the second seed has one number that is none."""
    model, network = member(model, *keys)
    bias = network.params["classifier"]["bias"].at[1, 3].set(np.nan)
    classifier = {**network.params["classifier"], "bias": bias}
    return model, dataclasses.replace(network, params={**network.params, "classifier": classifier})


def test_a_network_with_numbers_that_are_not_finite_is_not_fused():
    """Nor is it where its share is zero: zero times that is no number either."""
    members = [member(tiny.perceptron(), 1, 2), broken(tiny.perceptron(), 3, 4)]
    for stage in (Fuse(of=("a", "b")), SOUP, dataclasses.replace(SOUP, how="greedy_soup")):
        said = r"^of: network 1: params/classifier/bias is not finite: take another network, or"
        with pytest.raises(UsageError, match=said):
            fused(stage, members)


def test_a_soup_whose_mean_is_not_finite_is_refused():
    model, network = member(tiny.perceptron(), 1, 2)
    huge = dataclasses.replace(network, params=jax.tree.map(lambda w: 0 * w + 3e38, network.params))
    infinite = dataclasses.replace(SOUP, recalibrate=1)
    said = r"^of a b: batch_stats/.* and \d+ more is not finite \(seed 4, 5\): take another network"
    with pytest.raises(UsageError, match=said):
        fused(infinite, [(model, huge)] * 2, (4, 5))


def test_what_only_guesses_or_has_lost_a_layer_is_told_of_when_it_is_fused():
    (model, network), diary = member(tiny.perceptron(), 1, 2), tiny_runs.Diary()
    nothing = jax.tree.map(jnp.zeros_like, network.params["classifier"])
    masks = {**network.masks, "classifier": {"bias": None, "kernel": nothing["kernel"] > 0}}
    params = {**network.params, "classifier": nothing}
    dead = (model, dataclasses.replace(network, params=params, masks=masks))
    fused(SOUP, [dead, dead], (4, 5), report=diary, name="soup")
    frequent = np.bincount(tiny.digits().validation.labels).max() / len(tiny.digits().validation)
    assert diary.notes == [
        "soup: fused, shares 0.50, 0.50",
        "warning: classifier/kernel has lost all its weights in 2 seed(s)",
        "warning: no better than a guess at one of 10 classes, the most frequent of which is "
        f"{100 * frequent:.2f} % of all: seed 4, 5",
    ]


# What can't be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"of": ("a",)}, "of a: one network alone can't be fused: name two"),
        ({"of": ()}, "of nothing: one network alone can't be fused"),
        ({"of": ("a", "a")}, "of a a: one is named twice"),
        ({"epochs": 2}, "epochs: nothing is trained in fusing: leave it as it is"),
        ({"optim": Optim(learning_rate=0.5)}, "optim: nothing is trained in fusing"),
        ({"evaluate_every": 2}, "evaluate-every: nothing is trained in fusing"),
        ({"start": "a"}, "start 'a': what is fused is named by of: leave start empty"),
        ({"shares": (1.0,)}, "shares 1: 1 for 2 stages: give one a stage, or none"),
        ({"shares": (1.0, -1.0)}, "shares 1 -1 must not be negative, nor all of them 0"),
        ({"shares": (0.0, 0.0)}, "shares 0 0 must not be negative, nor all of them 0"),
        ({"shares": (1.0, 2.0), "how": "greedy_soup"}, "shares 1 2: a greedy soup finds out"),
        ({"shares": (1.0, 2.0), "fit_shares": True}, "shares 1 2: with fit-shares they are"),
        ({"fit_shares": True, "how": "vote"}, "fit-shares True: they are found for logits and"),
        ({"recalibrate": -1}, "recalibrate -1 must not be negative"),
        ({"swa": 0.5}, "swa 0.5 averages the ends of epochs"),
    ],
)
def test_settings_that_can_not_be(changes, said):
    with pytest.raises(UsageError) as error:
        Fuse(**{"of": ("a", "b")} | changes)
    assert str(error.value).startswith(said)


def test_others_still_train_for_an_epoch_at_least():
    with pytest.raises(UsageError, match="epochs 0 must be at least 1"):
        Train(epochs=0)


def staged(**stages):
    return {"train": Train(**COMMON), "other": Train(model="teacher", **COMMON), **stages}


@pytest.mark.parametrize(
    ("stages", "changes", "said"),
    [
        ({"fuse": Fuse(of=("train", "trian"))}, {}, r"fuse\.of 'trian' is no stage. Did you mean"),
        (
            {"fuse": Fuse(of=("train", "other"), how="soup")},
            {},
            r"fuse\.of 'other' is of the teacher, and a soup of student networks alone",
        ),
        (
            {"fuse": Fuse(of=("train",), across="seeds")},
            {"seeds": 1},
            r"fuse\.across seeds: of one stage, train, with one seed there is one",
        ),
        (
            {"fuse": Fuse(of=("train", "other")), "after": Prune(start="fuse", **COMMON)},
            {},
            r"after\.start 'fuse' is an ensemble, and can't be gone on from: learn from it",
        ),
        (
            {"fuse": Fuse(of=("train", "after")), "after": Distill(teacher="fuse", **COMMON)},
            {},
            r"(fuse\.of 'after'|after\.teacher 'fuse') closes a circle",
        ),
    ],
)
def test_experiments_that_can_not_be(stages, changes, said):
    with pytest.raises(UsageError, match=said):
        experiment(stages=staged(**stages), **changes)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (SOUP, r"of a b: a soup is of networks of one form, and batch_stats/norm/mean is of"),
        (Fuse(of=("a", "b"), fit_shares=True), r"fit-shares True decides by validation examples"),
        (dataclasses.replace(SOUP, how="greedy_soup"), r"how greedy_soup decides by validation"),
    ],
)
def test_networks_that_can_not_be_fused(stage, said):
    data = tiny.digits()
    none = dataclasses.replace(
        data.validation,
        **{name: getattr(data.validation, name)[:0] for name in ("inputs", "labels", "ids")},
    )
    with pytest.raises(UsageError, match="^" + said):
        fuse(stage, two(), dataclasses.replace(data, validation=none), seeds=(0, 1), devices=1)
    with pytest.raises(UsageError, match=r"^of: network 0: "):
        fused(Fuse(of=("a", "b")), two(), (0,))
    with pytest.raises(UsageError, match=r"^of: one network alone can't be fused"):
        fused(Fuse(of=("a", "b")), two()[:1])
    with pytest.raises(UsageError, match=r"^shares: 2 for 3 networks: give one a network"):
        fused(Fuse(of=("a", "b"), shares=(1.0, 2.0)), [*two(), two()[0]])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--vote.of distill", "vote.of distill: one network alone can't be fused"),
        ("--vote.of distill nobody", "vote.of 'nobody' is no stage."),
        ("--soup.of train distill", "soup.of 'train' is of the teacher"),
        ("--vote.how all", "--vote.how 'all' is unknown."),
        ("--data.validation 0", "--fitted.fit-shares True decides by validation examples"),
    ],
)
def test_before_any_training(call, flags, said):
    found = refused(call, "run", "digits_fuse", "--smoke", *flags.split())
    assert said in found, found


# In an experiment -------------------------------------------------------------------------------

STAGES = staged(
    a=Prune(start="train", sparsity=0.5, **COMMON),
    b=Prune(start="train", sparsity=0.5, label_smoothing=0.2, **COMMON),
    vote=Fuse(of=("train", "other", "a"), how="vote"),
    soup=Fuse(of=("a", "b"), how="soup"),
    every=Fuse(of=("a", "b"), across="seeds", shares=(3.0, 1.0)),
    back=Distill(teacher="vote", gradient_norms=False, **COMMON),
    after=Prune(start="soup", sparsity=0.75, **COMMON),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuse")
    return run_of(experiment(stages=STAGES, out=str(folder)), folder / "run")


@pytest.mark.slow
def test_networks_of_a_run(run):
    a, b, soup = (run.network(name, (0, 1)) for name in ("a", "b", "soup"))
    for name, w in named_leaves(soup.params).items():
        mean = (named_leaves(a.params)[name] + named_leaves(b.params)[name]) / 2
        np.testing.assert_allclose(w, mean, rtol=1e-5, atol=1e-7)
    for name, mask in named_leaves(soup.masks).items():
        both = named_leaves(a.masks)[name] | named_leaves(b.masks)[name]
        np.testing.assert_array_equal(mask, both)
    after = named_leaves(run.network("after", (0, 1)).masks)
    for name, mask in named_leaves(soup.masks).items():
        assert np.all(mask | ~after[name])  # nothing comes back
    vote = run.network("vote", (0, 1))
    assert [*vote.params] == ["member0", "member1", "member2"]
    kept = {f"member2/{name}": mask for name, mask in named_leaves(a.masks).items()}
    assert not tiny.differences(named_leaves(vote.masks), kept)
    assert run.facts("vote", (0, 1))["shares"] == [[pytest.approx(1 / 3)] * 3] * 2


def test_across_seeds_all_have_one_network(run):
    network = run.network("every", (0, 1))
    for name, leaf in named_leaves(network.variables).items():
        np.testing.assert_array_equal(leaf[0], leaf[1], err_msg=name)
    np.testing.assert_allclose(
        network.collections["shares"]["shares"][0], [0.375, 0.375, 0.125, 0.125]
    )
    of_a, of_b = run.network("a", (0, 1)), run.network("b", (0, 1))
    for i, (of, seed) in enumerate([(of_a, 0), (of_a, 1), (of_b, 0), (of_b, 1)]):
        own = named_leaves(network.params[f"member{i}"])
        for name, leaf in named_leaves(of.params).items():
            np.testing.assert_array_equal(own[name][0], leaf[seed])


def test_what_is_done_is_not_done_again(run):
    before = run.network("soup", (0, 1))
    diary = tiny_runs.Diary()
    pipeline.train(run, diary)
    assert all(note.endswith("done before") for note in diary.notes)
    assert len(diary.notes) == len(STAGES)
    assert not tiny.differences(before.params, run.network("soup", (0, 1)).params)


def test_what_networks_are_called(run):
    assert {name: run.label(name) for name in ("vote", "soup", "every", "back", "after")} == {
        "vote": "vote of train + other + a",
        "soup": "soup of a + b",
        "every": "weighted mean probabilities of 2 seeds of a + b",
        "back": "student distilled from vote of train + other + a",
        "after": "soup of a + b and pruned",
    }


@pytest.mark.slow
def test_a_run_is_opened_anew_and_reported(run):
    opened = pipeline.open_run(run.folder, Silent())
    found = summary.summarise(opened, "", Silent())
    rows = {row.stage: row for row in found.rows}
    vote, parts = rows["vote"], [rows[name] for name in ("train", "other", "a")]
    assert vote.macs == sum(row.macs for row in parts)
    assert vote.parameters == sum(row.parameters for row in parts)
    sizes = zip(*(row.bytes for row in parts), strict=True)
    assert [*vote.bytes] == [sum(each) + 3 * 4 for each in sizes]  # and three shares
    assert vote.model == "vote of [MLP(widths=(8,)), MLP(widths=(16,)), MLP(widths=(8,))]"
    assert [*vote.compared_with] == ["train", "other", "a"]
    assert len(vote.validation_accuracy) == 2
    assert rows["soup"].macs == rows["a"].macs
    assert rows["soup"].model == rows["a"].model
    assert rows["every"].accuracy[0] == rows["every"].accuracy[1]
    assert rows["back"].agrees_with == "vote"
    assert set(vote.latency) == {"1", "4"}


def test_a_sweep_makes_a_fused_network_of_each_setting(tmp_path):
    stages = {name: STAGES[name] for name in ("train", "a", "b", "soup", "after")}
    given = experiment(stages=stages, teacher=None, sweep=("a.sparsity=0.5,0.75",))
    run = pipeline.prepare(given, tmp_path / "run", Silent())
    named = [name for name in run.experiment.stages if name.startswith("soup/")]
    assert named == ["soup/sparsity=0.5", "soup/sparsity=0.75"]
    assert run.experiment.stages[named[1]].of == ("a/sparsity=0.75", "b")
    assert [run.members(name) for name in named] == [(name,) for name in named]
    assert len(run.members("a/sparsity=0.5")) == 2


def test_it_is_planned(monkeypatch):
    """What fuses has no steps; what comes after it finds its network."""
    run, networks = pipeline.planned(experiment(stages=STAGES)), {}
    for name in STAGES:
        if isinstance(STAGES[name], Fuse):
            ahead.fused_of(run, name, networks)
        else:
            ahead.step_of(run, name, jax.devices()[:1], networks)
    assert networks["every"].collections["shares"]["shares"].shape == (2, 4)
    assert len(networks["vote"].params) == 3
    monkeypatch.setattr(plan_lib, "_compile", lambda *_: (None, "not compiled"))
    chip = Chip(flops=1e12, memory=1e9, memory_speed=1e11, link_speed=1e10, axes=1, wraps=4)
    given = experiment(stages=STAGES, devices=0)
    made = plan_lib.plan(given, Slice("cpu:1", chip, (1,), tuple(jax.devices()[:1])))
    assert {s.stage for s in made.stages} == {"train", "other", "a", "b", "back", "after"}


def test_a_soup_of_networks_that_were_cut_differently_is_refused(tmp_path):
    stages = staged(
        small=Shrink(start="train", amount=0.5, **COMMON),
        soup=Fuse(of=("train", "small"), how="soup"),
    )
    given = experiment(stages=stages, student=MLP(widths=(8,)))
    with pytest.raises(UsageError, match=r"^--soup\.of train small: a soup is of networks of one"):
        pipeline.prepare(given, tmp_path / "run", Silent())
