"""All networks of a run, timed in processes of their own."""

import csv
import json

import numpy as np
import pytest
from calls import refused
from tiny_experiment import run_of, tiny

from kd_jax import UsageError, latencies, latencies_table, latency_worker, pipeline
from kd_jax.config import Prune, Train
from kd_jax.loop import Silent
from kd_jax.optim import Optim


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A teacher, a student of it, and that pruned: not trained."""
    return pipeline.prepare(tiny(seeds=1), tmp_path_factory.mktemp("runs"), Silent())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network, and the same pruned."""
    common = {"model": "teacher", "epochs": 1, "batch": 32, "optim": Optim(learning_rate=0.1)}
    stages = {"train": Train(**common), "prune": Prune(start="train", sparsity=0.5, **common)}
    return run_of(tiny(seeds=1, stages=stages), tmp_path_factory.mktemp("runs") / "run")


STEADY = {"low_ms": 1.0, "high_ms": 1.2, "runs": 9}


def row(network, batch, median, **changes):
    latency = {"median_ms": median, **STEADY, **changes}
    return {"network": network, "batch": batch, "latency": latency}


def question(**changes):
    asked = {"runtime": "XLA", "threads": 1, "networks": {}, "pruned": ["prune"], "images": ""}
    return latency_worker.Question(**{**asked, "batches": [1], "seconds": 0.1, **changes})


def test_ratios_are_to_the_first_network_in_the_same_process(run):
    rows = [row("train", 1, 4.0), row("distill", 1, 1.0), row("train", 8, 9.0)]
    found = latencies._timings(run, question(), [*rows, row("distill", 8, 3.0)], "train")
    assert [timing.times for timing in found] == [1.0, 4.0, 1.0, 3.0]
    assert [timing.network for timing in found][:2] == ["teacher", "student distilled"]


def test_a_masked_network_is_never_called_faster(run):
    """Nor is one that was timed while the machine had other work."""
    zeros = f"prune, {latency_worker.ZEROS}"
    rows = [row("train", 1, 4.0), row("prune", 1, 1.0), row(zeros, 1, 2.0)]
    masked, left_out = latencies._timings(run, question(), rows, "train")[1:]
    assert masked.masked
    assert masked.times is None
    assert "(masked)" in latencies_table.cells(masked)[0]
    assert not left_out.masked
    assert left_out.times == 2.0
    assert left_out.network.endswith(", zeros left out")
    rows[2] = row(zeros, 1, 2.0, high_ms=2.5)
    unsteady = latencies._timings(run, question(), rows, "train")[2]
    assert unsteady.times is None
    assert unsteady.ms == "2*"


def test_unsteady_timings_are_told(run):
    rows = [row("train", 1, 4.0), row("distill", 1, 1.0, high_ms=2.5)]
    timings = latencies._timings(run, question(), rows, "train")
    here = latencies.environment()
    found = latencies.Latencies(run="r", seed=0, environment=here, timings=timings)
    assert found.unsteady == 1
    assert latencies_table.notes(found)[0].startswith("* 1 of 2 timings are unsteady")
    assert "| student distilled | XLA, 1 thread | 1 | 1* | 1 to 2.5 | – | – |" in (
        latencies_table.markdown(found)
    )


@pytest.mark.slow
def test_the_verb_times_by_both_runtimes_and_writes_the_table(call, trained, monkeypatch):
    processes = [("XLA", 1), ("onnxruntime", 1)]  # those with all threads differ in a number
    monkeypatch.setattr(latencies, "_processes", lambda note: processes)
    flags = ["--batches", "4", "1", "--seconds", "0.02"]
    status, out, error = call("latency", trained.folder, *flags)
    assert (status, error) == (0, "")
    for words in ("XLA, 1 thread", "onnxruntime, 1 thread", "(masked)", "Energy is not measured"):
        assert words in out
    said = json.loads((trained.folder / "latency.json").read_text(encoding="utf-8"))
    timings = said["timings"]
    plain = [t for t in timings if not t["network"].endswith("zeros left out")]
    assert {(t["runtime"], t["threads"]) for t in timings} == {*processes}
    assert len(plain) == len(processes) * 2 * 2  # networks, batches
    for timing in timings:
        assert 0 < timing["latency"]["low_ms"] <= timing["latency"]["median_ms"]
        assert timing["masked"] <= (timing["times"] is None)
        if timing["runtime"] == "XLA":
            assert timing["parameter_bytes"] > 4 * 8 * 64
            assert timing["temporary_bytes"] >= 0
    with (trained.folder / "latency.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(r["median_ms"]) for r in table] == [t["latency"]["median_ms"] for t in timings]
    text = (trained.folder / "latency.md").read_text(encoding="utf-8")
    assert "| teacher and pruned (masked) | XLA, 1 thread | 4 |" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batches", "0"], "--batches 0: must be 1 to"),
        (["--batches", "x"], "--batches x: give whole numbers"),
        (["--seconds", "-1"], "--seconds -1: must be above 0"),
        (["--seconds", "long"], "--seconds long: give a number"),
        (["--stages", "tain"], "--stages 'tain' is no finished stage. Did you mean 'train'"),
    ],
)
def test_mistakes_are_told_in_one_line(call, trained, flags, words):
    assert words in refused(call, "latency", trained.folder, *flags)


def test_processes_are_of_each_runtime_with_all_threads_and_with_one(monkeypatch):
    monkeypatch.setattr(latencies.os, "cpu_count", lambda: 4)
    every = [("XLA", 0), ("XLA", 1), ("onnxruntime", 0), ("onnxruntime", 1)]
    assert latencies._processes(print) == every
    monkeypatch.setattr(latencies.extras, "missing", lambda form: ["onnxruntime"])
    said: list[str] = []
    assert latencies._processes(said.append) == every[:2]
    assert "extra export" in said[0]


def test_a_worker_that_dies_is_told(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 1), np.uint8))
    asked = question(networks={"a": str(tmp_path)}, images=str(tmp_path / "images.npy"))
    with pytest.raises(UsageError, match=r"timing by XLA failed: .*config\.json"):
        latencies.ask(asked, tmp_path)
