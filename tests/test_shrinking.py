"""Stages that cut channels for good."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from calls import refused
from marks import slow_but
from safetensors.numpy import load_file
from tiny_experiment import run_of, tiny

from kd_jax import ahead, cuts, jsons, pipeline, results, shrinking, summary
from kd_jax.config import Prune, Shrink, Train
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.latency import Latency
from kd_jax.loop import Silent
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.prune import CHANNEL_CRITERIA
from kd_jax.tree import named_leaves

NOT_OF_MLPS = ("norm_scale", "taylor_norm", "hrank")  # no norms, no maps
COMMON = {"epochs": 2, "batch": 32, "optim": Optim(learning_rate=0.1)}
STAGES = {
    "train": Train(**COMMON),
    "prune": Prune(start="train", sparsity=0.5, **COMMON),
    "shrink": Shrink(
        start="prune",
        amount=0.25,
        teacher="train",
        terms={"kd": KD()},
        gradient_norms=False,  # a program as large as a step's
        **COMMON,
    ),
    "again": Shrink(start="shrink", macs=0.5, scope="global", **COMMON),
    "after": Prune(start="again", sparsity=0.8, **COMMON),
}


def experiment(**changes):
    fields = {"student": MLP(widths=(16, 12)), "stages": STAGES, "teacher": None}
    return tiny(**fields | changes)


def trained(folder, **changes):
    return run_of(experiment(out=str(folder), **changes), folder / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("shrink"))


LAYERS = ("dense1/kernel", "dense2/kernel", "classifier/kernel")


def kernels(run, stage, seeds=(0, 1)):
    named = named_leaves(run.network(stage, seeds).params)
    return {name: named[name] for name in LAYERS}


def test_what_is_left_is_smaller(run):
    shapes = {stage: [x.shape[1:] for x in kernels(run, stage).values()] for stage in STAGES}
    assert shapes["prune"] == [(64, 16), (16, 12), (12, 10)]
    assert shapes["shrink"] == [(64, 12), (12, 9), (9, 10)]
    macs = lambda stage: sum(a * b for a, b in shapes[stage])  # noqa: E731
    assert macs("again") <= 0.5 * macs("shrink")
    assert shapes["after"] == shapes["again"]


def test_masks_are_cut_with_what_they_mask(run):
    network = run.network("shrink", (0, 1))
    masks = named_leaves(network.masks)
    for name, kernel in kernels(run, "shrink").items():
        assert masks[name].shape == kernel.shape
        assert not np.any(np.asarray(kernel)[~np.asarray(masks[name])])
        assert not np.all(masks[name])
    pruned = named_leaves(run.network("after", (0, 1)).masks)
    for mask in pruned.values():
        size = mask[0].size
        np.testing.assert_array_equal(np.sum(mask, axis=(1, 2)), size - round(0.8 * size))


def test_each_seed_keeps_its_own_best(run):
    """By the norm of the weights that put a unit out."""
    kept = load_file(run.cut("shrink").folder / "units.safetensors")
    first = kept["params/dense1/kernel:1"]
    kernel = np.asarray(kernels(run, "prune")["dense1/kernel"])
    norms = np.linalg.norm(kernel, axis=1)
    expected = np.sort(np.argsort(-norms, axis=-1, kind="stable")[:, :12], axis=-1)
    np.testing.assert_array_equal(first, expected)
    assert np.any(first[0] != first[1])


@pytest.mark.usefixtures("unmeasured")
def test_a_run_is_opened_anew(run):
    """By another process: with what the folder says, and nothing else."""
    cuts._rebuilt.cache_clear()
    opened = pipeline.open_run(run.folder, Silent())
    found = summary.summarise(opened, "", Silent())
    rows = {row.stage: row for row in found.rows}
    sizes = [rows[stage].parameters for stage in ("prune", "shrink", "again")]
    assert sizes == sorted(sizes, reverse=True)
    assert rows["shrink"].label == "student and pruned and shrunk"
    assert [*rows["shrink"].compared_with] == ["prune"]
    assert rows["again"].model == rows["after"].model != rows["shrink"].model
    assert rows["again"].macs <= 0.5 * rows["shrink"].macs
    assert rows["after"].macs_nonzero[0] < rows["after"].macs
    results.write(run.folder, found)
    assert json.loads((run.folder / "results.json").read_text())["rows"]


@pytest.mark.slow
def test_seeds_apart_are_cut_as_together(run, tmp_path):
    stages = {name: STAGES[name] for name in ("train", "prune", "shrink")}
    apart = trained(tmp_path, stages=stages, together=False)
    units = [r.cut("shrink").folder / "units.safetensors" for r in (run, apart)]
    one, other = (load_file(path) for path in units)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    for seed in (0, 1):
        ours = kernels(apart, "shrink", (seed,))
        for name, kernel in kernels(run, "shrink").items():
            np.testing.assert_allclose(ours[name][0], kernel[seed], rtol=1e-4, atol=1e-5)


def test_widths_in_which_a_number_differs_are_refused(run, tmp_path):
    """They would make a network of other sizes, which the arrays may even fit."""
    found = run.cut("shrink")
    raw, known = (found.folder / cuts.WIDTHS).read_bytes(), found.widths()
    copy = cuts.Cut(tmp_path)
    path = tmp_path / cuts.WIDTHS
    for place in [at for at, letter in enumerate(raw) if chr(letter).isdigit()]:
        bad = bytearray(raw)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(UsageError) as error:
            copy.widths()
        said = str(error.value)
        assert said.startswith(f"{path}: ")
        assert said.endswith(f": delete {tmp_path}, and the same command cuts anew")
    said = json.loads(raw)
    said["groups"] |= {next(iter(said["groups"])): [1, 16]}
    path.write_text(json.dumps(said))
    with pytest.raises(UsageError, match=rf"^{path}: damaged or edited \(its checksum is of other"):
        copy.model(run.model("prune"), run.data.spec.shape)
    # An earlier version wrote none.
    path.write_text(json.dumps(jsons.unsummed(json.loads(raw))[0]))
    assert copy.widths() == known
    assert copy.text() == found.text() == known.to_json()


def test_what_was_decided_stays(run, tmp_path, monkeypatch):
    """A run that stops after the choice goes on with it."""
    stages = {name: STAGES[name] for name in ("train", "prune", "shrink")}
    given = experiment(out=str(tmp_path), stages=stages)
    begun = pipeline.prepare(given, tmp_path / "run", Silent())
    for stage in ("train", "prune"):
        pipeline._train_stage(begun, stage, (0, 1), Silent())
    pipeline._decide(begun, "shrink", Silent())
    monkeypatch.setattr(shrinking, "decide", None)  # not again
    pipeline.train(begun, Silent())
    for name, kernel in kernels(run, "shrink").items():
        np.testing.assert_array_equal(kernels(begun, "shrink")[name], kernel)


@pytest.mark.slow
def test_settings_that_cut_differently_train_one_by_one(tmp_path):
    stages = {"train": STAGES["train"], "shrink": Shrink(start="train", **COMMON)}
    run = trained(tmp_path, stages=stages, sweep=("shrink.amount=0.25,0.5",), seeds=1)
    widths = [kernels(run, f"shrink/amount={a}", (0,)) for a in ("0.25", "0.5")]
    assert [next(iter(one.values())).shape[-1] for one in widths] == [12, 8]


def test_settings_after_one_cut_train_together(tmp_path):
    """They have the same shapes; settings of the cut itself, and what comes after it, have not."""
    for swept, count in (("after.sparsity=0.8,0.9", 2), ("shrink.amount=0.25,0.5", 1)):
        given = experiment(out=str(tmp_path), sweep=(swept,))
        run = pipeline.prepare(given, tmp_path / "run", Silent())
        afters = [name for name in run.experiment.stages if name.startswith("after/")]
        assert [len(run.members(name)) for name in afters] == [count] * 2


@pytest.mark.slow
def test_groups_may_stay_whole_and_widths_be_multiples(tmp_path):
    shrink = Shrink(start="train", amount=0.6, multiple_of=8, keep=("dense2",), **COMMON)
    run = trained(tmp_path, stages={"train": STAGES["train"], "shrink": shrink}, seeds=1)
    assert [x.shape[-1] for x in kernels(run, "shrink", (0,)).values()] == [8, 12, 10]


@pytest.mark.parametrize(
    "target", slow_but(["macs", "latency"], ["amount", "macs", "size", "latency"])
)
def test_amounts_are_found_by_a_scan(run, target):
    stage = dataclasses.replace(
        STAGES["shrink"], scope="sensitivity", **{"amount": 0.5, target: 0.5}
    )
    model, network = run.model("prune"), run.network("prune", (0, 1))
    timed = []

    def measure(networks, inputs):
        """As if time were work."""
        timed.append(inputs)
        sizes = {n: sum(x.size for x in jax.tree.leaves(v)) for n, (_, v) in networks.items()}
        form = lambda size: Latency(median_ms=size, low_ms=size, high_ms=size, runs=1)  # noqa: E731
        return {name: {"1": form(size)} for name, size in sizes.items()}

    kept = shrinking.decide(stage, model, run.data, network, 0, measure)
    one, two = (kept[f"params/dense{i}/kernel:1"].shape[-1] for i in (1, 2))
    if target == "amount":
        assert one + two == 14
    macs = 64 * one + one * two + two * 10
    if target == "macs":
        assert 0.4 * (64 * 16 + 16 * 12 + 120) < macs <= 0.5 * (64 * 16 + 16 * 12 + 120)
    if target in ("size", "latency"):
        assert 0.4 * 1374 < macs + one + two + 10 <= 0.5 * 1374
    assert bool(timed) == (target == "latency")


@pytest.mark.parametrize("criterion", [c for c in CHANNEL_CRITERIA if c not in NOT_OF_MLPS])
def test_every_criterion_decides(run, criterion):
    """Those that look at data are shown the stage's own."""
    stage = dataclasses.replace(STAGES["shrink"], criterion=criterion, batches=2)
    model, network = run.model("prune"), run.network("prune", (0, 1))
    kept = shrinking.decide(stage, model, run.data, network, 0, None)
    assert {name: units.shape for name, units in kept.items()} == {
        "params/dense1/kernel:1": (2, 12),
        "params/dense2/kernel:1": (2, 9),
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": ""}, "start is empty: name the stage whose network is to be cut"),
        ({"amount": 1.0}, "amount 1.0 must be above 0 and below 1"),
        ({"macs": 0.0}, "macs 0.0 must be above 0 and below 1"),
        ({"size": 1.5}, "size 1.5 must be above 0 and below 1"),
        ({"macs": 0.5, "latency": 0.5}, "macs and latency are both set: one of them"),
        ({"latency_batch": 0}, "latency-batch 0 must be at least 1"),
        ({"multiple_of": 0}, "multiple-of 0 must be at least 1"),
        ({"criterion": "l3"}, "criterion 'l3' is unknown. Known: activation, "),
        ({"teacher": "train", "terms": {}}, "teacher 'train' without terms teaches nothing"),
    ],
)
def test_settings_that_can_not_be(changes, said):
    with pytest.raises(UsageError) as error:
        dataclasses.replace(STAGES["shrink"], **changes)
    assert str(error.value).startswith(said[:40])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--shrink.keep nothing",
            "--shrink.keep 'nothing' finds no group: change it. They are: params/",
        ),
        ("--shrink.keep [", "--shrink.keep '[' is no regular expression"),
        ("--shrink.keep .", "--shrink.keep .: nothing of this network is left that could be cut"),
        (
            "--shrink.macs 0.001",
            "--shrink.macs is 0.001: with one unit left of each group it is still",
        ),
        (
            "--student.widths 8 --student lenet_300_100 --shrink.criterion hrank",
            "--shrink.criterion 'hrank' scores groups with",
        ),
        ("--shrink.start shrink", "--shrink.start 'shrink' closes a circle"),
    ],
)
def test_before_any_training(call, flags, said):
    found = refused(call, "run", "digits_shrink", "--smoke", *flags.split())
    assert found.startswith(said), found


def test_it_is_planned():
    run = pipeline.planned(experiment())
    networks = {}
    for stage in ("train", "prune", "shrink", "again"):
        ahead.step_of(run, stage, jax.devices()[:1], networks)
    shapes = {stage: named_leaves(network.params) for stage, network in networks.items()}
    assert shapes["shrink"]["dense1/kernel"].shape == (2, 64, 12)
    assert shapes["again"]["dense1/kernel"].shape[-1] < 12
