"""Stages whose networks choose their units for each input."""

import dataclasses
import json

import jax
import made_results
import numpy as np
import pytest
from calls import refused
from tiny_experiment import run_of, tiny

from kd_jax import ahead, pipeline, results, savings, summary, tables
from kd_jax.columns import columns
from kd_jax.columns_gates import gates as gate_columns
from kd_jax.config import Gate, Prune, Shrink, Train
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.latency import Latency
from kd_jax.loop import Silent
from kd_jax.models.lstm import LSTM
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.savings import Savings
from kd_jax.tree import named_leaves

COMMON = {"epochs": 2, "batch": 32, "optim": Optim(learning_rate=0.1)}
STAGES = {
    "train": Train(**COMMON),
    "prune": Prune(start="train", sparsity=0.5, **COMMON),
    "shrink": Shrink(start="prune", amount=0.25, **COMMON),
    "gate": Gate(start="shrink", teacher="train", hidden=6, terms={"kd": KD()}, **COMMON),
    "after": Prune(start="gate", sparsity=0.8, **COMMON),
}


def experiment(**changes):
    fields = {"student": MLP(widths=(16, 12)), "stages": STAGES, "teacher": None}
    return tiny(**fields | changes)


def trained(folder, **changes):
    return run_of(experiment(out=str(folder), **changes), folder / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("gate"))


@pytest.mark.slow
def test_both_parts_are_trained_and_masks_stay(run):
    before, after = run.network("shrink", (0, 1)), run.network("gate", (0, 1))
    assert [*after.params] == ["backbone", "gater"]
    assert after.params["gater"]["saliency"]["kernel"].shape == (2, 6, 12 + 9)
    begun = run.gated("gate").begin(before, (0, 1))
    for name, leaf in named_leaves(after.params).items():
        assert np.any(np.asarray(leaf) != np.asarray(named_leaves(begun.params)[name])), name
    masks, own = named_leaves(before.masks), named_leaves(after.masks)
    assert {f"backbone/{name}" for name in masks} == set(own)
    for name, mask in masks.items():
        np.testing.assert_array_equal(own[f"backbone/{name}"], mask)
        kernel = named_leaves(after.params)[f"backbone/{name}"]
        assert not np.any(np.asarray(kernel)[~np.asarray(mask)])


def test_weights_of_both_are_pruned_after(run):
    for mask in named_leaves(run.network("after", (0, 1)).masks).values():
        size = mask[0].size
        np.testing.assert_array_equal(np.sum(mask, axis=(1, 2)), size - round(0.8 * size))


def test_seeds_apart_begin_as_together(run):
    dense = run.network("shrink", (0, 1))
    gated = run.gated("gate")
    alone = gated.begin(jax.tree.map(lambda x: x[1:], dense), (1,))
    both = gated.begin(dense, (0, 1))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[1]), alone, both)
    hidden = both.params["gater"]["hidden"]["kernel"]
    assert np.any(np.asarray(hidden[0]) != np.asarray(hidden[1]))


@pytest.mark.slow
def test_a_run_is_opened_anew_and_reported(run):
    opened = pipeline.open_run(run.folder, Silent())
    found = summary.summarise(opened, "", Silent())
    rows = {row.stage: row for row in found.rows}
    gating, row = rows["gate"].gating, rows["gate"]
    assert (gating.units, gating.kept) == (21, 6 + 5)
    dense = 64 * 12 + 12 * 9 + 9 * 10
    gater = 64 * 6 + 6 * 21
    assert gating.macs_dense == dense == rows["shrink"].macs
    assert gating.macs == 64 * 6 + 6 * 5 + 5 * 10 + gater
    assert row.macs == dense + gater
    for always, never, sometimes in zip(gating.always, gating.never, gating.sometimes, strict=True):
        assert always + never + sometimes == pytest.approx(1)
        # 11 of 21 are open for each: those for all are no more, and those for none no more.
        assert always <= 11 / 21 + 1e-6
        assert never <= 10 / 21 + 1e-6
    assert row.label == "student and pruned and shrunk and gated"
    assert [*row.compared_with] == ["shrink"]
    assert row.model.endswith("gated to 11 of 21 units")
    assert rows["after"].gating is not None
    assert rows["shrink"].gating is None
    results.write(run.folder, found)
    read = results.read(run.folder)
    assert read.row("gate").gating == gating
    assert json.loads((run.folder / "results.json").read_text())["rows"][3]["gating"]["kept"] == 11
    assert savings.CONVENTION in tables.markdown([read])


def test_a_masked_network_is_never_called_faster():
    found, of = made_results.make(), lambda ms: Latency(median_ms=ms, low_ms=ms, high_ms=ms, runs=3)
    shares = {"always": [0.3, 0.3, 0.3], "never": [0.5, 0.4, 0.3]}
    counts = {"units": 21, "kept": 11, "macs": 100, "macs_dense": 250}
    for gathered, said in ((5.0, "2.0×"), (9.8, "no faster"), (20.0, "no faster")):
        times = {"dense": of(10.0), "masked": of(1.0), "gathered": of(gathered)}
        row = dataclasses.replace(found.rows[-1], gating=Savings(**counts, **shares, **times))
        several = dataclasses.replace(found, rows=[*found.rows[:-1], row])
        cells = {c.header: c.cell(several, row).line() for c in gate_columns([several])}
        assert cells["gathered, ms"].endswith(f"({said})")
        assert cells["masked, ms"] == "1.00"
        assert cells["units open"] == "11 of 21"
        assert cells["for all, none, some %"] == "30 / 40 / 30"
        assert cells["MACs"] == "100 (of 250, 2.5×)"
        usual = {c.header: c.cell(several, row).line() for c in columns([several])}
        assert "×" not in usual["batch 1, ms"]
    assert gate_columns([found]) == []


@pytest.mark.slow
def test_settings_that_gate_differently_train_one_by_one(tmp_path):
    stages = {"train": STAGES["train"], "gate": Gate(start="train", **COMMON)}
    stages["after"] = Prune(start="gate", sparsity=0.5, **COMMON)
    for swept, count in (("gate.amount=0.25,0.5", 1), ("after.sparsity=0.5,0.8", 2)):
        given = experiment(stages=stages, sweep=(swept,), out=str(tmp_path))
        run = pipeline.prepare(given, tmp_path / "run", Silent())
        afters = [name for name in run.experiment.stages if name.startswith("after/")]
        assert [len(run.members(name)) for name in afters] == [count] * 2


def test_it_is_planned():
    run = pipeline.planned(experiment())
    networks = {}
    for stage in STAGES:
        ahead.step_of(run, stage, jax.devices()[:1], networks)
    named = named_leaves(networks["after"].params)
    assert named["gater/saliency/kernel"].shape == (2, 6, 21)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": ""}, "start is empty: name the stage whose network is to be gated"),
        ({"amount": 0.0}, "amount 0.0 must be above 0 and below 1"),
        ({"amount": 1.0}, "amount 1.0 must be above 0 and below 1"),
        ({"hidden": 0}, "hidden 0 must be at least 1"),
    ],
)
def test_settings_that_can_not_be(changes, said):
    with pytest.raises(UsageError) as error:
        dataclasses.replace(STAGES["gate"], **changes)
    assert str(error.value) == said


@pytest.mark.parametrize("kind", [Shrink, Gate])
def test_a_gated_network_is_not_cut_or_gated_again(kind):
    stages = {**STAGES, "again": kind(start="after", **COMMON)}
    with pytest.raises(UsageError, match=r"again\.start 'after': that network is gated"):
        experiment(stages=stages)


@pytest.mark.slow
def test_a_network_of_loops_is_refused(tmp_path):
    stages = {"train": STAGES["train"], "gate": Gate(start="train", **COMMON)}
    given = experiment(student=LSTM(units=8), stages=stages)
    with pytest.raises(UsageError, match=r"^--gate\.start: nothing of this network can be gated"):
        pipeline.prepare(given, tmp_path / "run", Silent())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--gate.keep nothing", "--gate.keep 'nothing' finds no group: change it. They are: p"),
        ("--gate.amount 0.001", "--gate.amount 0.001 is no unit of any group"),
    ],
)
def test_before_any_training(call, flags, said):
    found = refused(call, "run", "digits_shrink", "--smoke", "--only", "gate", *flags.split())
    assert found.startswith(said), found
