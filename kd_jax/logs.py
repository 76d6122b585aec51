"""TensorBoard-readable logs, written as training goes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from kd_jax.checkpoint import Store
from kd_jax.loop import Silent


class TensorBoard:
    """A loop.Reporter that writes scalars: a curve a run, such as seed-0, in the stage's folder."""

    def __init__(self, folder: Path, runs: list[str]) -> None:
        self.folder = folder
        self.runs = runs
        self._writers: list[SummaryWriter] = []

    def begin(self, stage: str, steps: int, done: int) -> None:
        # What was logged after the step that is resumed from is hidden, and logged again.
        # The suffix: a file is named by its second, and must not overwrite one of the same second.
        self._writers = [
            SummaryWriter(
                str(self.folder / run),
                purge_step=done + 1,
                flush_secs=1,  # of the usual 120, a kill would lose what is not logged again
                filename_suffix=f".{done}",
            )
            for run in self.runs
        ]

    def advance(self, step: int, examples_per_second: float) -> None: ...

    def epoch(self, record: dict[str, Any]) -> None:
        curves = {f"train/{name}": values for name, values in record["train"].items()}
        curves |= {f"gradients/{n}": values for n, values in record.get("gradients", {}).items()}
        curves |= {n: record[n] for n in ("validation_accuracy", "sparsity") if n in record}
        for i, writer in enumerate(self._writers):
            for name, values in curves.items():
                if np.isfinite(values[i]):  # of other values it warns on the screen, each time
                    writer.add_scalar(name, values[i], record["step"])

    def end(self, stage: str, seconds: float) -> None:
        for writer in self._writers:
            writer.close()

    def note(self, text: str) -> None: ...


class Stopwatch(Silent):
    """A loop.Reporter that keeps the seconds that a stage has taken, those before a kill too, and
    how fast it trains: the median over pieces of training."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self.clock = store, clock
        self._kept = store.spent()
        self._began = clock() - self._kept
        self._speeds: list[float] = []

    def advance(self, step: int, examples_per_second: float) -> None:
        if examples_per_second > 0:  # of the first piece it is not known
            self._speeds.append(examples_per_second)
        seconds = self.clock() - self._began
        if seconds - self._kept >= 1.0:  # pieces of training may be much shorter
            self.store.spend(seconds)
            self._kept = seconds

    def end(self, stage: str, seconds: float) -> None:
        if self._speeds:
            self.store.pace(float(np.median(self._speeds)))


class Several:
    """A loop.Reporter that tells several others."""

    def __init__(self, *reporters: Any) -> None:
        self.reporters = reporters

    def begin(self, stage: str, steps: int, done: int) -> None:
        for reporter in self.reporters:
            reporter.begin(stage, steps, done)

    def advance(self, step: int, examples_per_second: float) -> None:
        for reporter in self.reporters:
            reporter.advance(step, examples_per_second)

    def epoch(self, record: dict[str, Any]) -> None:
        for reporter in self.reporters:
            reporter.epoch(record)

    def end(self, stage: str, seconds: float) -> None:
        for reporter in self.reporters:
            reporter.end(stage, seconds)

    def note(self, text: str) -> None:
        for reporter in self.reporters:
            reporter.note(text)
