"""Small results made by hand, for the tests of what reads them."""

import dataclasses

from kd_jax.cka import Similarity
from kd_jax.latency import Latency
from kd_jax.results import DataFacts, Environment, Layer, Results, Row

ENVIRONMENT = Environment(
    python="3.13.0",
    jax="0.12.0",
    jaxlib="0.12.0",
    flax="0.12.12",
    optax="0.2.8",
    orbax="0.12",
    platform="cpu",
    device="cpu",
    cpu="Test CPU",
    cores=8,
    threads=2,
)
TEACHER, STUDENT = "mlp 64-256-256-10", "mlp 64-16-10"


def latency(one, many):
    spread = lambda ms: Latency(median_ms=ms, low_ms=0.9 * ms, high_ms=1.2 * ms, runs=20)  # noqa: E731
    return {"1": spread(one), "256": spread(many)}


def rows():
    teacher = Row(
        stage="train",
        label="teacher",
        model=TEACHER,
        accuracy=[0.97, 0.98, 0.99],
        cross_entropy=[0.1, 0.11, 0.12],
        parameters=85_002,
        nonzero=[85_002] * 3,
        macs=84_480,
        bytes_dense=340_008,
        bytes=[340_008] * 3,
        latency=latency(0.08, 2.56),
        seconds=3.0,
    )
    alone = Row(
        stage="alone",
        label="student alone",
        model=STUDENT,
        accuracy=[0.90, 0.92, 0.91],
        cross_entropy=[0.3, 0.31, 0.32],
        parameters=1_210,
        nonzero=[1_210] * 3,
        macs=1_184,
        bytes_dense=4_840,
        bytes=[4_840] * 3,
        latency=latency(0.02, 0.128),
    )
    distilled = dataclasses.replace(
        alone,
        stage="distill",
        label="student distilled",
        accuracy=[0.92, 0.935, 0.92],
        agreement=[0.93, 0.94, 0.95],
        agrees_with="train",
        latency=latency(0.02, 0.13),
    )
    pruned = dataclasses.replace(
        distilled,
        stage="prune",
        label="student distilled and pruned",
        accuracy=[0.91, 0.925, 0.915],
        nonzero=[262, 263, 263],
        prunable=1_184,
        sparsity=[948 / 1184, 947 / 1184, 947 / 1184],
        layers={
            "Dense_0/kernel": Layer(size=1_024, pruned=[820, 820, 820]),
            "Dense_1/kernel": Layer(size=160, pruned=[128, 127, 127]),
        },
        bytes=[1_200, 1_204, 1_204],
        latency=latency(0.019, 0.126),
        compared_with=["alone", "distill"],
    )
    return [teacher, alone, distilled, pruned]


def make(**changes):
    fields = {
        "experiment": "digits",
        "fingerprint": "ab12cd34",
        "command": "python run.py digits",
        "seeds": [0, 1, 2],
        "environment": ENVIRONMENT,
        "data": DataFacts(name="digits", note="8×8 images", train=1_257, validation=180, test=360),
        "seconds": 75.0,
        "rows": rows(),
    }
    return Results(**{**fields, **changes})


def learnt():
    """Results of three classes in which it is known what the networks learnt: the last one has no
    test example."""
    teacher, alone, distilled, pruned = rows()
    nan = float("nan")
    layers = {"layers": ["stage1", "pooled"], "others": ["stage1", "stage2", "pooled"]}
    alike = [[[0.9, 0.5, 0.1], [0.4, 0.6, 0.8 + 0.01 * seed]] for seed in range(3)]
    common = {"agrees_with": "train", "calibration_error": [0.04, 0.05, 0.06]}
    of = lambda first, last: [[first, last, nan], [first, last + 0.02, nan], [first, last, nan]]  # noqa: E731
    student = common | {
        "kl_divergence": [0.2, 0.22, 0.24],
        "similarity": Similarity(**layers, cka=alike),
    }
    teacher = dataclasses.replace(teacher, **common, class_accuracy=of(1.0, 0.9))
    alone = dataclasses.replace(alone, **student, class_accuracy=of(0.8, 0.7))
    distilled = dataclasses.replace(distilled, **student, class_accuracy=of(0.9, 0.65))
    pruned = dataclasses.replace(pruned, **student, class_accuracy=of(0.85, 0.75))
    data = DataFacts(name="pets", train=9, validation=9, test=9, classes=["cat", "a|b", "eel"])
    return make(rows=[teacher, alone, distilled, pruned], data=data)


def history(epochs, start, end, sparsity=None, every=1):
    """The records of a stage whose loss falls from `start` and whose accuracy rises to `end`."""
    records = []
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        loss = [start * (1 + 0.05 * seed) * 0.02**done for seed in range(3)]
        record = {"step": 10 * epoch, "epoch": epoch, "train": {"loss": loss}}
        if epoch % every == 0:
            scale = 1 - 0.6 * 0.01**done
            record["validation_accuracy"] = [(end - 0.01 * seed) * scale for seed in range(3)]
        if sparsity is not None:
            record["sparsity"] = [sparsity * min(1.0, 1.5 * done)] * 3
        records.append(record)
    return records


def histories():
    return {
        "train": history(20, 2.3, 0.98),
        "alone": history(30, 2.0, 0.91),
        "distill": history(30, 4.0, 0.93, every=2),
        "prune": history(12, 0.5, 0.92, sparsity=0.8),
    }
