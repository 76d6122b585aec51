"""Measures cases: a worker a row, timed in turns, so that a machine that grows slower or faster
meanwhile does so for all of them."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kd_jax.bench.cases import CASES, Case, Work, at_batch, request
from kd_jax.bench.process import Worker, busy, require_torch
from kd_jax.bench.timings import Measured, Result, compare
from kd_jax.errors import UsageError, did_you_mean, require

BLOCK_SECONDS = 1.5  # about how long a block lasts where the number of steps is not given
SETTLE_SECONDS = 0.2  # after a block: the threads of some pools spin for a while before they sleep

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How to measure.

    Attributes:
      against: "torch", or empty: kd_jax alone.
      torch_python: the interpreter that has PyTorch; empty: this one.
      batch: batch size of every case; 0: each case's own.
      rounds: blocks of each row.
      steps: steps a block; 0: as many as take 1.5 seconds.
    """

    against: str = ""
    torch_python: str = ""
    batch: int = 0
    rounds: int = 7
    steps: int = 0

    def __post_init__(self) -> None:
        known = f"--against {self.against}: there is only torch to compare with"
        require(self.against in ("", "torch"), known)
        require(
            not self.torch_python or bool(self.against),
            "--torch-python without --against torch: add it",
        )
        rounds, most = self.rounds, 10**6
        require(1 <= rounds <= most, f"--rounds {rounds} must be in [1, {most}]")
        for name in ("batch", "steps"):
            value = getattr(self, name)
            fits = 0 <= value <= most
            require(fits, f"--{name} {value} must be in [0, {most}] (0: chosen for you)")


def run(names: Sequence[str], options: Options, say: Say = lambda text: None) -> list[Result]:
    """Measures cases, all if none is named.

    Raises:
      UsageError: a case is unknown, or there is nothing to compare with.
    """
    return list(results(names, options, say))


def results(names: Sequence[str], options: Options, say: Say) -> Iterator[Result]:
    """The same, each result as soon as it is there."""
    for name, batch in planned(names, options):
        yield result_of(name, CASES[name], batch, options, say)


def planned(names: Sequence[str], options: Options) -> list[tuple[str, int]]:
    """(case, batch size) of each measurement. Raises UsageError, as `run` does."""
    for name in names:
        if name not in CASES:
            raise UsageError(f"unknown case {name!r}.{did_you_mean(name, CASES)}")
    if options.against:
        require_torch(options.torch_python)
    chosen = names or list(CASES)
    batches = lambda name: (options.batch,) if options.batch else CASES[name].batches or (0,)  # noqa: E731
    return [(name, batch) for name in chosen for batch in batches(name)]


def result_of(name: str, case: Case, batch: int, options: Options, say: Say) -> Result:
    """Measures the rows of one case in turns; batch 0: those of its stages."""
    title = f"{name}, batch {batch}" if batch else name
    wanted = [work for work in case.works if options.against or work.framework != "torch"]
    others, rows = busy(), []
    try:
        for work in wanted:
            say(f"{title}: {work.label}, up to speed")
            rows.append(_Timed(at_batch(work, batch), options))
        _same_nets(rows)
        for turn in range(options.rounds):
            say(f"{title}: round {turn + 1} of {options.rounds}")
            for row in rows:
                row.block()
    finally:
        for row in rows:
            row.worker.close()
    measured = [row.measured() for row in rows]
    compared = compare(case, measured)
    return Result(case=name, about=case.about, busy=others, rows=measured, compared=compared)


def _same_nets(rows: Sequence["_Timed"]) -> None:
    """Both frameworks must have built the same nets."""
    seen: dict[Any, _Timed] = {}
    for row in rows:
        first = seen.setdefault((row.work.student, row.work.teacher), row)
        for fact in ("parameters", "macs"):
            here, there = row.facts[fact], first.facts[fact]
            assert here == there, f"{fact}: {row.work.label} {here}, {first.work.label} {there}"


class _Timed:
    """A worker with its row, through the first step and up to speed."""

    def __init__(self, work: Work, options: Options) -> None:
        self.work = work
        began = time.perf_counter()
        self.worker = Worker(work.framework, options.torch_python)
        try:
            self.worker.ask({"prepare": request(work)})
            self.first = self.worker.ask({"run": 1})["seconds"]
            self.first_step = time.perf_counter() - began
            self.facts = self.worker.ask({"facts": None})
            self.steps = options.steps or self._steps()
            self.worker.ask({"run": self.steps})
        except BaseException:
            self.worker.close()
            raise
        self.seconds: list[float] = []
        self.peak_bytes = 0

    def _steps(self) -> int:
        """So many steps that a block lasts about as long as it should."""
        steps = 1
        while True:
            one = self.worker.ask({"run": steps})["seconds"] / steps
            wanted = max(1, round(BLOCK_SECONDS / one))
            if wanted <= 2 * steps:
                return wanted
            steps = min(wanted, 10 * steps)

    def block(self) -> None:
        reply = self.worker.ask({"run": self.steps})
        self.seconds.append(reply["seconds"] / self.steps)
        self.peak_bytes = reply["peak_bytes"]
        time.sleep(SETTLE_SECONDS)

    def measured(self) -> Measured:
        return Measured(
            label=self.work.label,
            framework=self.work.framework,
            batch=self.work.stage.batch,
            seeds=self.work.seeds,
            parameters=self.facts["parameters"],
            versions=self.facts.get("versions", {}),
            steps=self.steps,
            seconds=self.seconds,
            first_step=self.first_step,
            compile=max(0.0, self.first - float(np.median(self.seconds))),
            peak_bytes=self.peak_bytes,
        )
