"""The smallest experiment that has all kinds of stages, and data that need no reading."""

import dataclasses
from pathlib import Path

import numpy as np

from kd_jax import pipeline
from kd_jax.config import Distill, Experiment, Prune, Train
from kd_jax.data import Dataset, Split
from kd_jax.datasets import DATASETS, Data
from kd_jax.loop import Silent
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.runs import Run


def tiny(**changes) -> Experiment:
    """Train a teacher, distil, prune twice with a change of masks at the second of two epochs."""
    common = {"epochs": 2, "batch": 32, "optim": Optim(learning_rate=0.1)}
    stages = {
        "train": Train(model="teacher", **common),
        "distill": Distill(**common),
        "prune": Prune(start="distill", sparsity=0.5, **common),
    }
    fields = {
        "name": "tiny",
        "data": Data(train_limit=96, test_limit=40),
        "teacher": MLP(widths=(16,)),
        "student": MLP(widths=(8,)),
        "stages": stages,
        "seeds": 2,
        "devices": 1,
        "latency_batch": 4,
    }
    return Experiment(**{**fields, **changes})


def fake_data(name: str, count: int = 400, side: int = 0) -> Dataset:
    """Black images in the form of a known set, whose labels go round the classes."""
    spec = DATASETS[name]
    spec = dataclasses.replace(spec, size=(side, side)) if side else spec
    ids = np.arange(count, dtype=np.int32)
    split = Split(np.zeros((count, *spec.shape), np.uint8), ids % spec.classes, ids)
    return Dataset(spec, split, split, split, streamed=False, ids_below=count)


def run_of(given: Experiment, folder: Path) -> Run:
    """All its stages, trained in a folder."""
    run = pipeline.prepare(given, folder, Silent())
    pipeline.claim(given, run.folder)
    pipeline.train(run, Silent())
    return run
