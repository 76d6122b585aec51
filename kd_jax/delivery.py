"""The one file of a run that a device would be given, and what it is worth."""

import dataclasses

from kd_jax import files
from kd_jax.loop import Reporter
from kd_jax.results import Delivered, Results
from kd_jax.runs import Run
from kd_jax.writing import write_bytes

FOLDER = "encoded"


def name_of(stage: str, seed: int) -> str:
    """Of the file, within a run's folder."""
    return f"{FOLDER}/{stage.replace('/', '-')}-seed-{seed}.kdz"


def delivered(run: Run, results: Results, report: Reporter) -> Results:
    """The results with the file of the stage that the experiment names, if that is finished: it is
    written, and evaluated by a fresh process.

    Raises:
      UsageError: that process finds another network in it than the run has.
    """
    stage, seed = run.experiment.deliver, run.experiment.seed
    if stage not in run.done:
        return results
    report.note(f"writing {run.label(stage)}, seed {seed}, as one file")
    made, path = files.encoded(run, stage, seed), run.folder / name_of(stage, seed)
    write_bytes(path, made.data)
    reading = files.checked(run, stage, seed, path, run.experiment.data.dir)
    found = Delivered(
        stage=stage,
        seed=seed,
        file=name_of(stage, seed),
        bytes=len(made.data),
        accuracy=reading.accuracy,
        examples=reading.examples,
    )
    return dataclasses.replace(results, delivered=found)
