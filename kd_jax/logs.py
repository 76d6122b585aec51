"""TensorBoard-readable logs, written as training goes."""

import platform
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from kd_jax import regular
from kd_jax.checkpoint import Store
from kd_jax.loop import Reporter, Silent


class TensorBoard:
    """A loop.Reporter that writes scalars: a curve a run, such as seed-0, in the stage's folder.

    Each epoch's are on disk when it returns. tensorboardX's own writer has a thread for that: a
    disk that is full ends it, and whoever logs then waits for it without end. Here a disk that
    takes no more ends the logs alone, in one line: what is trained has no need of them.
    """

    def __init__(self, folder: Path, runs: list[str], report: Reporter | None = None) -> None:
        self.folder = folder
        self.runs = runs
        self._report = report or Silent()
        self._files: list[Path] = []

    def begin(self, stage: str, steps: int, done: int) -> None:
        # The step: a file is named by its second, and two of the same second must not be one.
        name = f"events.out.tfevents.{int(time.time()):010d}.{platform.node()}.{done}"
        self._files = [self.folder / run / name for run in self.runs]
        version = Event(file_version="brain.Event:2")
        # What was logged after the step that is resumed from is hidden, and logged again.
        start = Event(step=done + 1, session_log=SessionLog(status=SessionLog.START))
        self._append([[version, start] for _ in self._files])

    def advance(self, step: int, examples_per_second: float) -> None: ...

    def epoch(self, record: dict[str, Any]) -> None:
        curves = {f"train/{name}": values for name, values in record["train"].items()}
        curves |= {f"gradients/{n}": values for n, values in record.get("gradients", {}).items()}
        curves |= {n: record[n] for n in ("validation_accuracy", "sparsity") if n in record}
        self._append([_event(record["step"], curves, i)] for i in range(len(self._files)))

    def end(self, stage: str, seconds: float) -> None: ...

    def note(self, text: str) -> None: ...

    def _append(self, events: Iterable[Iterable[Event]]) -> None:
        """Writes events of each run at the end of its file; from the first that can't be written
        on, none."""
        for file, new in zip(self._files, events, strict=True):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                regular.append(file, b"".join(map(_framed, new)))
            except OSError as error:
                self._files = []
                self._report.note(
                    f"warning: can't write to {file} ({error.strerror or error}): no more curves "
                    "for TensorBoard from this stage; history.jsonl has them too"
                )
                return


def _event(step: int, curves: dict[str, Any], run: int) -> Event:
    """A point of each of a run's curves."""
    # Of values that are not finite tensorboardX warns on the screen, each time.
    points = [scalar(n, values[run]) for n, values in curves.items() if np.isfinite(values[run])]
    return Event(step=step, summary={"value": [value for one in points for value in one.value]})


def _framed(event: Event) -> bytes:
    """An event as its files hold it: length, checksum of that, event, checksum of it."""
    event.wall_time = time.time()
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(sums) + data + next(sums)


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
