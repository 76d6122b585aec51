"""Why a network was cut as it was."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calls import refused
from tiny_experiment import run_of, tiny

from kd_jax import explain
from kd_jax.augment import normalise, one_hot
from kd_jax.config import Prune, Shrink, Train
from kd_jax.distill import cross_entropy
from kd_jax.errors import UsageError
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.prune import CRITERIA, STRUCTURES
from kd_jax.prune.cut import cut
from kd_jax.prune.masks import apply, start
from kd_jax.tree import named_leaves

COMMON = {"epochs": 1, "batch": 32, "optim": Optim(learning_rate=0.1)}
STAGES = {
    "train": Train(**COMMON | {"epochs": 4}),
    "prune": Prune(start="train", sparsity=0.5, criterion=CRITERIA["taylor"], **COMMON),
    "groups": Prune(start="train", sparsity=0.5, structure=STRUCTURES["n_m"], **COMMON),
    "shrink": Shrink(start="train", amount=0.25, **COMMON),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    given = tiny(
        out=str(folder), stages=STAGES, student=MLP(widths=(16, 12)), teacher=None,
        sweep=("prune.sparsity=0.5,0.75",),
    )  # fmt: skip
    return run_of(given, folder / "run")


@pytest.mark.slow
def test_curves_of_layers_say_what_a_cut_costs(run):
    """By hand, of a criterion that needs no data: the loss on what the stage is shown first."""
    by_size = dataclasses.replace(STAGES["prune"], criterion=CRITERIA["magnitude"])
    stages = run.experiment.stages | {"prune/sparsity=0.5": by_size}
    plain = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, stages=stages))
    found = explain.curves(plain, "prune/sparsity=0.5", batches=3)
    assert found.names == ["classifier/kernel", "dense1/kernel", "dense2/kernel"]
    network, data = run.network("train", (0, 1)), run.data
    # Three batches are an epoch: all examples, in any order.
    shown = data.train.inputs[:96], data.train.labels[:96]
    inputs, targets = normalise(jnp.asarray(shown[0]), data.spec), one_hot(shown[1], 10)
    say = lambda v: run.model("train").forward(v, inputs)[0].logits  # noqa: E731
    loss = jax.jit(lambda v: jnp.mean(cross_entropy(say(v), targets)))
    sizes = {"classifier/kernel": 120, "dense1/kernel": 1024, "dense2/kernel": 192}
    for layer, k in (("dense1/kernel", 3), ("classifier/kernel", 5)):
        losses = []
        for seed in (0, 1):
            params = jax.tree.map(lambda x, seed=seed: x[seed], network.params)
            masks = start(params, include=(layer,))
            keep = {layer: sizes[layer] - round(sizes[layer] * (0.6 if k == 3 else 0.8))}
            masks = cut(STRUCTURES["weights"], jax.tree.map(jnp.abs, params), masks, keep)
            variables = {**network.collections, "params": apply(masks, params)}
            losses.append(float(loss(variables)))
        row = found.names.index(layer)
        np.testing.assert_allclose(found.losses[row, k], np.mean(losses), rtol=1e-4)
    assert np.ptp(found.losses[:, 0]) == 0
    np.testing.assert_allclose(found.chosen, 0.5, atol=1e-2)


@pytest.mark.slow
def test_curves_of_groups(run):
    found = explain.curves(run, "shrink")
    assert found.names == ["params/dense1/kernel:1", "params/dense2/kernel:1"]
    assert found.chosen.tolist() == [0.25, 0.25]
    assert found.losses.shape == found.gone.shape == (2, 10)
    assert found.gone[:, 0].tolist() == [0, 0]


def test_units_and_what_excites_them(run):
    second, first = explain.units(run, "shrink", examples=5)
    assert (first.group, first.kept.sum(), second.kept.sum()) == ("params/dense1/kernel:1", 12, 9)
    # The highest scores were kept, by the norm of the weights that put a unit out.
    assert first.scores[first.kept].min() >= first.scores[~first.kept].max()
    params = jax.tree.map(lambda x: x[0], run.network("train", (0, 1)).params)
    shown = explain.shown(run)
    x = normalise(jnp.asarray(shown.inputs), run.data.spec).reshape(len(shown), -1)
    hidden = np.maximum(x @ params["dense1"]["kernel"] + params["dense1"]["bias"][None], 0)
    np.testing.assert_allclose(first.activations, hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
    for unit in (0, 7):
        best = np.sort(hidden[:, unit])[::-1][:5]
        np.testing.assert_allclose(hidden[first.examples[unit], unit], best, rtol=1e-4, atol=1e-6)


def test_stages_that_cannot_be_explained(run):
    for stage, said in (
        ("train", "stage train cuts nothing"),
        ("groups", "stage groups keeps as many"),
    ):
        with pytest.raises(UsageError, match=said):
            explain.curves(run, stage)
    with pytest.raises(UsageError, match=r"stage prune/sparsity=0\.5 cuts no units"):
        explain.units(run, "prune/sparsity=0.5")


def test_the_command_writes_tables_and_plots(run, call):
    status, out, error = call("explain", run.folder)
    assert (status, error) == (0, "")
    assert "there are no curves of it" in out
    folder = run.folder / "explain"
    assert sorted(path.name for path in folder.iterdir()) == [
        "prune-sparsity=0.5_sensitivity.csv",
        "prune-sparsity=0.5_sensitivity.png",
        "shrink_examples.png",
        "shrink_sensitivity.csv",
        "shrink_sensitivity.png",
        "shrink_units.csv",
        "shrink_units.png",
    ]
    rows = list(csv.DictReader((folder / "shrink_units.csv").read_text().splitlines()))
    assert sum(int(row["kept"]) for row in rows) == 21
    assert len(rows) == 28
    ids = {int(i) for row in rows for i in row["examples"].split()}
    assert ids <= {int(i) for i in explain.shown(run).ids}
    assert named_leaves(run.network("shrink", (0, 1)).params)["dense1/kernel"].shape == (2, 64, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a run's folder"),
        (["RUN", "--stage", "shrimk"], "--stage 'shrimk' is no finished stage."),
        (["RUN", "--stage", "train"], "--stage 'train' cuts nothing"),
        (["RUN", "--batches", "none"], "--batches none: give a whole number above 0"),
        (["nowhere"], "no config.json here"),
    ],
)
def test_mistakes(run, call, arguments, message):
    words = [str(run.folder) if word == "RUN" else word for word in arguments]
    assert message in refused(call, "explain", *words)
