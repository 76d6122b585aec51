"""A run as a process that may be killed: `python killed_run.py FOLDER few|all|together|streamed`,
of a few stages and one seed, of all kinds of stages and two seeds one after another, with the file
that it delivers, of two seeds and two settings in one program, or of a set that is read on the way.

Says "go" once it trains. Beside each stage's network it leaves the checksums of all that was
trained: parameters, masks, moments, averages.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import tiny_tfds
from tiny_experiment import tiny

from kd_jax import checksums, delivery, locks, pieces, pipeline, report, stages, summary
from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Fuse, Gate, Prune, Quantize, Shift, Shrink, Train
from kd_jax.datasets import Data
from kd_jax.distill import CRD, KD
from kd_jax.loop import Silent
from kd_jax.optim import Optim
from kd_jax.prune import DNS, SNIP, Cubic, Lottery, Movement, OneShot
from kd_jax.writing import write_json

SHORT: dict[str, Any] = {"epochs": 8, "batch": 16, "optim": Optim(learning_rate=0.05)}
TAUGHT: dict[str, Any] = {**SHORT, "teacher": "train", "terms": Distill().terms}
STAGES: dict[str, Train] = {
    "train": Train(model="teacher", ema=0.9, **SHORT),
    "distill": Distill(augment=Augment(shift=1), replay="float16", **SHORT),
    "surgery": Prune(start="distill", allocation="std", threshold=0.5, schedule=DNS(), **SHORT),
    "lottery": Prune(sparsity=0.7, schedule=Lottery(rounds=2), **SHORT),
    "movement": Prune(
        start="distill", sparsity=0.6, criterion=Movement(), schedule=OneShot(at=0.6), **TAUGHT
    ),
    "smaller": Shrink(start="distill", amount=0.5, **TAUGHT),
    "gated": Gate(start="distill", amount=0.5, **SHORT),
    "coarse": Quantize(start="surgery", values="codebook", bits=3, **SHORT),
    "both": Fuse(of=("distill", "surgery")),
    "shifted": Shift(start="distill", classes=(3,), batch=16),
    "tuned": Shift(start="distill", classes=(7, 8), by=0.5, **SHORT),
}


FEW = {name: STAGES[name] for name in ("train", "distill", "surgery")}
ADAM: dict[str, Any] = {**SHORT, "optim": Optim(name="adam", learning_rate=0.01, warmup=4)}
# What else is carried from step to step: averages, Adam's moments, banks of features.
TOGETHER: dict[str, Train] = {
    "train": Train(model="teacher", swa=0.5, **SHORT),
    "distill": Distill(terms={"kd": KD(), "crd": CRD(negatives=8)}, **ADAM),
    "pruned": Prune(start="distill", sparsity=0.7, criterion=SNIP(), schedule=Cubic(), **ADAM),
}
STREAMED: dict[str, Train] = {
    "train": Train(model="teacher", **SHORT),
    "distill": Distill(augment=Augment(crop=1, flip=True), **SHORT),
    "pruned": Prune(start="distill", sparsity=0.7, schedule=Cubic(), **SHORT),
}
SETS = {"few": (FEW, 1), "all": (STAGES, 2), "together": (TOGETHER, 2), "streamed": (STREAMED, 1)}


def experiment(folder: Path, which: str) -> Experiment:
    """Checkpoints come as often as they can be written."""
    chosen, seeds = SETS[which]
    given: dict[str, Any] = {"out": str(folder), "checkpoint_seconds": 1e-3}
    if which == "all":
        given["deliver"] = "coarse"
    if which == "streamed":
        given["data"] = Data(name="tiny", dir=str(folder / "sets"), memory_mb=0)
    if which == "together":
        given["sweep"] = ("distill.optim.learning-rate=0.003,0.01",)
    return tiny(stages=chosen, seeds=seeds, together=which == "together", **given)


class Go(Silent):
    """Says when training begins."""

    said = False

    def advance(self, step: int, examples_per_second: float) -> None:
        if not Go.said:
            print("go", flush=True)
            Go.said = True


def main(folder: Path, which: str) -> None:
    pieces.PIECE_SECONDS = 0.02
    original = stages.fit

    def fit(job, state, store, *rest):
        state = original(job, state, store, *rest)
        write_json(store.folder / "state.json", checksums.checksums(jax.tree.leaves(state)))
        return state

    stages.fit = fit
    if which == "streamed" and not (folder / "run").exists():
        images, labels = tiny_tfds.random_images(160), [i % 3 for i in range(160)]
        tiny_tfds.write(folder / "sets", "tiny", dict.fromkeys(("train", "test"), (images, labels)))
    given = experiment(folder, which)
    run = pipeline.prepare(given, folder / "run", Silent())
    pipeline.claim(given, run.folder)
    with locks.held(run.folder) as alone:
        pipeline.train(run, Go(), alone)
        results = summary.summarise(run, "a test", Silent())
        if which == "all":
            results = delivery.delivered(run, results, Silent())
        report.write(run.folder, results, summary.histories(run))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
