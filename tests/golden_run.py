"""Makes the folder of a small run as this version writes it, packed, for later versions to open:
`python golden_run.py FILE.zip`, with the tests' folder and the one above it in PYTHONPATH.

Of its three stages the last one was stopped: two networks are finished, one of them pruned, and
there are checkpoints on the way; beside them lies one network as encode writes it.
"""

import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tiny_experiment import tiny

from kd_jax import encode, files, pieces, pipeline
from kd_jax.config import Distill, Experiment, Prune, Train
from kd_jax.datasets import Data
from kd_jax.loop import Silent
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.stages import evaluate
from kd_jax.writing import write_bytes, write_json

STOPPED = 4  # steps of the last stage


def experiment() -> Experiment:
    common = {"epochs": 3, "batch": 16, "optim": Optim(learning_rate=0.1)}
    stages = {
        "train": Train(model="teacher", **common),
        "prune": Prune(start="train", model="teacher", sparsity=0.5, **common),
        "distill": Distill(teacher="prune", **common),
    }
    return tiny(
        name="golden",
        stages=stages,
        teacher=MLP(widths=(6,)),
        student=MLP(widths=(4,)),
        data=Data(train_limit=32, test_limit=16),
        seeds=1,
        checkpoint_seconds=1e-9,
        out="runs",
    )


class Stopping(Silent):
    """Ends the last stage before it is done, once two checkpoints are there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stage = folder, ""

    def begin(self, stage: str, steps: int, done: int) -> None:
        self.stage = stage

    def advance(self, step: int, examples_per_second: float) -> None:
        if self.stage.startswith("distill") and step >= STOPPED:
            until = time.monotonic() + 30
            while not list(self.folder.glob("distill/*/steps/[0-9]")):
                assert time.monotonic() < until
                time.sleep(0.01)
            raise KeyboardInterrupt


def main(folder: Path) -> None:
    """Leaves the run in a folder."""
    pieces.PIECE_SECONDS = 0.0  # a checkpoint a step
    given = experiment()
    run = pipeline.prepare(given, folder, Silent())
    pipeline.claim(given, folder)
    with contextlib.suppress(KeyboardInterrupt):
        pipeline.train(run, Stopping(folder))
    for left in [*folder.rglob("tensorboard"), *folder.rglob("*.orbax-checkpoint-tmp")]:
        shutil.rmtree(left)
    write_bytes(folder / "prune.kdz", files.encoded(run, "prune", 0, encode.CODERS).data)
    found = {
        stage: evaluate(run.model(stage), run.data, run.network(stage, (0,)))
        for stage in ("train", "prune")
    }
    write_json(folder / "golden.json", found)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
        shutil.make_archive(sys.argv[1].removesuffix(".zip"), "zip", place)
