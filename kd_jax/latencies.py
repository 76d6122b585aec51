"""How long all networks of a run take to answer: at several batches, by XLA and by onnxruntime,
with one thread and with all."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import chosen
from kd_jax.data import Split
from kd_jax.environment import environment
from kd_jax.errors import UsageError, require
from kd_jax.export import FILES, exchange, extras, network
from kd_jax.export.programs import write_onnx
from kd_jax.latency import Latency
from kd_jax.latency_worker import Question
from kd_jax.results import Environment
from kd_jax.runs import Run
from kd_jax.writing import write_json

Note = Callable[[str], None]
BATCHES = (1, 8, 64)
SECONDS = 0.5  # for each network and batch, in each process

CONVENTION = (
    "Median of timings of one call, raw images to logits, in float32 unless products are of "
    "int8, with the 10th and 90th percentile. The networks of a process are timed in turns; each "
    "runtime and each number of threads has a process of its own, one after another, so compare "
    "within these. A network with masks alone does the work of a dense one, and gets no ratio. "
    "Memory is what XLA reserves for intermediate results, without parameters. Energy is not "
    "measured."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Of one network at one batch.

    Attributes:
      stage, network: whose, and in a reader's words.
      runtime: XLA or onnxruntime.
      threads: 1, or 0 for as many as there are cores.
      masked: whether it has zeros that are multiplied like any number.
      times: how many times faster than the run's first network, in the same process; None where
        either is unsteady, or where it is masked.
      temporary_bytes, parameter_bytes: of XLA.
    """

    stage: str
    network: str
    runtime: str
    threads: int
    batch: int
    latency: Latency
    masked: bool
    times: float | None = None
    temporary_bytes: int | None = None
    parameter_bytes: int | None = None

    @property
    def name(self) -> str:
        return f"{self.network} (masked)" if self.masked else self.network

    @property
    def ms(self) -> str:
        """The median, marked where it is unsteady."""
        return f"{self.latency.median_ms:.3g}{'*' if self.latency.unsteady else ''}"

    @property
    def spread(self) -> str:
        return f"{self.latency.low_ms:.3g} to {self.latency.high_ms:.3g}"

    @property
    def where(self) -> str:
        return f"{self.runtime}, {'1 thread' if self.threads == 1 else 'all threads'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latencies:
    """Of a run."""

    run: str
    seed: int
    environment: Environment
    timings: list[Timing]
    convention: str = CONVENTION

    @property
    def unsteady(self) -> int:
        """How many timings spread so widely that something else was at work too."""
        return sum(timing.latency.unsteady for timing in self.timings)


def measure(
    run: Run,
    stages: Sequence[str] = (),
    batches: Sequence[int] = BATCHES,
    seconds: float = SECONDS,
    note: Note = lambda text: None,
) -> Latencies:
    """Times the networks of finished stages (none named: of all), of the run's first seed.

    Raises:
      UsageError: no such stage, or a batch or time that can't be.
    """
    for batch in batches:
        require(1 <= batch <= 2**16, f"--batches {batch}: must be 1 to {2**16}")
    require(0 < seconds <= 600, f"--seconds {seconds:g}: must be above 0 and at most 600")
    wanted = [chosen.stage_of(run, name, "--stages") for name in stages] or list(run.done)
    require(bool(wanted), f"{run.folder}: no stage of this run is finished: run it first")
    seed = chosen.seed_of(run, None)
    batches = sorted({*batches})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pruned, lacking = _write(run, wanted, seed, folder, note)
        np.save(folder / "images.npy", _images(run, batches[-1]))
        timings = []
        for runtime, threads in _processes(note):
            note(f"timing by {runtime}, {'one thread' if threads else 'all threads'}")
            there = [s for s in wanted if runtime == "XLA" or s not in lacking]
            question = Question(
                runtime,
                threads,
                {stage: str(_folder(folder, stage)) for stage in there},
                [stage for stage in there if stage in pruned],
                str(folder / "images.npy"),
                batches,
                seconds,
            )
            rows = ask(question, folder) if there else []
            timings += _timings(run, question, rows, wanted[0])
    return Latencies(run=run.folder.name, seed=seed, environment=environment(), timings=timings)


def _folder(folder: Path, stage: str) -> Path:
    return folder / stage.replace("/", "-")


def _write(
    run: Run, stages: Sequence[str], seed: int, folder: Path, note: Note
) -> tuple[set[str], set[str]]:
    """Exports the networks; (stages whose networks have masks, those that ONNX has no form for)."""
    pruned, lacking = set(), set()
    for stage in stages:
        note(f"{stage}: writing its network")
        given, own = network.of_run(run, stage, seed), _folder(folder, stage)
        own.mkdir()
        exchange.write(own, run, stage, seed, given)
        if not all(np.all(mask) for mask in jax.tree.leaves(given.snapshot.masks)):
            pruned.add(stage)
        if not extras.missing("onnx"):
            try:
                write_onnx(own / FILES["onnx"], given)
                if network.has_integers(given):
                    write_onnx(own / FILES["onnx-int8"], network.in_integers(given))
            except UsageError as error:
                lacking.add(stage)
                note(f"{stage}: not timed by onnxruntime: {error}")
    return pruned, lacking


def _images(run: Run, count: int) -> np.ndarray:
    """Stored test images, again from the first where there are fewer."""
    test = run.data.test
    places = np.arange(count) % len(test)
    if isinstance(test, Split):
        return test.inputs[places]
    return np.stack([np.asarray(test[int(place)][0]) for place in places])


def _processes(note: Note) -> list[tuple[str, int]]:
    """(runtime, threads); of a device that is no CPU, its own threads alone."""
    several = (0, 1) if (os.cpu_count() or 1) > 1 else (1,)
    found = [("XLA", n) for n in (several if jax.default_backend() == "cpu" else (0,))]
    if extras.missing("onnx"):
        note('not timed by onnxruntime: it is in the extra export (pip install -e ".[export]")')
        return found
    return found + [("onnxruntime", n) for n in several]


def ask(question: Question, folder: Path) -> list[dict[str, Any]]:
    """What a worker finds, in a process of its own."""
    asked, answer = folder / "question.json", folder / "answer.json"
    write_json(asked, dataclasses.asdict(question))
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    done = subprocess.run(
        [sys.executable, "-m", "kd_jax.latency_worker", asked, answer],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UsageError(f"timing by {question.runtime} failed: {said[-1]}")
    return json.loads(answer.read_text(encoding="utf-8"))


def _timings(
    run: Run, question: Question, rows: Sequence[dict[str, Any]], first: str
) -> list[Timing]:
    found = {(row["network"], row["batch"]): Latency(**row["latency"]) for row in rows}
    timings = []
    for row in rows:
        stage, _, form = row["network"].partition(", ")
        latency, base = found[row["network"], row["batch"]], found.get((first, row["batch"]))
        masked = stage in question.pruned and not form
        fair = not masked and base is not None and not (latency.unsteady or base.unsteady)
        times = base.median_ms / latency.median_ms if fair and base is not None else None
        words = f"{run.label(stage)}{f', {form}' if form else ''}"
        timings.append(
            Timing(
                stage=stage,
                network=words,
                runtime=question.runtime,
                threads=question.threads,
                batch=row["batch"],
                latency=latency,
                masked=masked,
                times=times,
                temporary_bytes=row.get("temporary_bytes"),
                parameter_bytes=row.get("parameter_bytes"),
            )
        )
    return timings
