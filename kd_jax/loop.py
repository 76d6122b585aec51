"""The only Python loop over steps: it cuts a stage into pieces, changes masks between them,
reads the validation accuracy, saves, and tells how it goes."""

import bisect
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import changes, hosts, stopping
from kd_jax.batch import Batch
from kd_jax.checkpoint import Store
from kd_jax.compiled import Compiled
from kd_jax.devices import replicated
from kd_jax.errors import UsageError
from kd_jax.objective import Settings, no_metrics
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune.schedule import Action

PIECE_SECONDS = 1.0  # how long the device may work before we look at it again


class Reporter(Protocol):
    """Is told how a stage goes. All arguments are host numbers."""

    def begin(self, stage: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, examples_per_second: float) -> None: ...
    def epoch(self, record: dict[str, Any]) -> None: ...
    def end(self, stage: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A reporter that says nothing."""

    def begin(self, stage: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, examples_per_second: float) -> None: ...
    def epoch(self, record: dict[str, Any]) -> None: ...
    def end(self, stage: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


@dataclasses.dataclass(frozen=True)
class Job:
    """A stage made ready to run.

    Attributes:
      program, compiled: what runs.
      settings, seeds: what it is given; seeds is an array [S]. With V variants of the settings
        there are S·V runs, seed by seed.
      teacher: for programs that have one; or a function from an epoch, counted from 0, to it.
      data: the resident training split; or a function from a step to the batches from there on.
      events: {step: [(action, target)]}, the mask changes before these steps; or after the last.
      validate: state -> validation accuracy of each run, or None where nothing is held out.
      validate_every: epochs between two validations.
      norms: whether the gradient norms of the loss's parts are measured at each epoch's end.
      sparsity: state -> pruned fraction of the prunable weights of each run.
    """

    program: Program
    compiled: Compiled
    settings: Settings
    seeds: Any
    teacher: Teacher | Callable[[int], Teacher] | None
    data: Resident | Callable[[int], Iterator[Batch]]
    events: dict[int, Any]
    validate: Callable[[Any], list[float]] | None
    validate_every: int
    sparsity: Callable[[Any], list[float]] | None
    norms: bool = False


def fit(
    job: Job,
    state: Any,
    store: Store | None = None,
    report: Reporter | None = None,
    save_seconds: float = 30.0,
    name: str = "",
) -> Any:
    """The state after all steps of the stage, from `state` at step 0 or the latest checkpoint.

    Raises:
      UsageError: no seed is left whose loss is finite.
      Stop: the process was told to stop, and all that was trained is saved.
    """
    report = report or Silent()
    zeros = hosts.place(no_metrics(job.settings, len(job.seeds)), replicated(job.program.sharding))
    carry = (state, zeros)
    found = store.restore(carry) if store is not None else None
    step, carry = found if found is not None else (0, carry)
    if store is not None:
        for damaged in store.damaged:
            report.note(f"warning: the checkpoint of step {damaged} is damaged, and was deleted")
        store.rewind(step)
    report.begin(name, job.program.steps, step)
    runner = _Runner(job, step)
    saved, lost = time.monotonic(), 0
    if not job.program.steps:  # a stage that trains nothing
        carry = runner.changed(step, carry)
    while step < job.program.steps:
        # A checkpoint is of the state before the events of its step: a resumed run comes by here.
        carry = runner.changed(step, carry)
        step, carry = runner.piece(step, carry)
        if step == job.program.steps:
            carry = runner.changed(step, carry)
        report.advance(step, runner.speed)
        if step % job.program.steps_per_epoch == 0 or step == job.program.steps:
            record = _record(job, step, carry) | runner.norms(carry[0])
            carry = (carry[0], jax.tree.map(jnp.zeros_like, carry[1]))
            report.epoch(record)
            if store is not None:
                store.log(record)
            lost = _watch(job, record, lost, report)
        if store is None:
            continue
        due, told = runner.agreed(time.monotonic() - saved > save_seconds)
        if due or told:
            store.save(step, carry)
            saved = time.monotonic()
        if told:
            store.close()
            raise stopping.Stop(told, f"{name}: saved at step {step} of {job.program.steps}")
    stopping.settled()
    return carry[0]


def _watch(job: Job, record: dict[str, Any], before: int, report: Reporter) -> int:
    """How many runs have lost their way: says so when they do, and stops when all have."""
    variants = job.settings.variants
    lost = np.flatnonzero(~np.isfinite(record["train"]["loss"]))
    rate, epoch = np.max(job.settings.optim.learning_rate), record["epoch"]
    if lost.size == len(job.seeds) * variants:
        raise UsageError(
            f"optim.learning-rate {rate:g}: the loss is not finite any more in "
            f"epoch {epoch}; lower it, or set optim.warmup or optim.clip-norm"
        )
    if lost.size > before:
        which = lambda run: f" (variant {run % variants + 1})" if variants > 1 else ""  # noqa: E731
        listed = ", ".join(f"{job.seeds[run // variants]}{which(run)}" for run in lost)
        report.note(f"warning: the loss of seed {listed} is not finite any more in epoch {epoch}")
    return int(lost.size)


class _Runner:
    """Runs pieces of about a second each, and measures how fast that is."""

    def __init__(self, job: Job, step: int) -> None:
        self.job = job
        self.speed = 0.0
        self._size = 4  # steps: few, until the speed is known
        resident = isinstance(job.data, Resident)
        self._batches = None if resident else job.data(self._position(step))  # type: ignore[operator]
        self._stops = sorted(job.events)
        self._warm = False
        self._epoch, self._taught = -1, None
        self._last: Any = None

    def piece(self, step: int, carry: Any) -> tuple[int, Any]:
        """Steps up to the next epoch's end, mask change or about a second from now."""
        program = self.job.program
        size, position = program.steps_per_epoch, self._position(step)
        # An epoch's end, of the stage and of a training that is repeated in it.
        ends = [step + size - step % size, step + size - position % size, program.steps]
        place = bisect.bisect_right(self._stops, step)
        stop = min([*ends, step + self._size, *self._stops[place : place + 1]])
        teacher = self._teacher(position // size)
        began = time.monotonic()
        carry = self._run(carry, teacher, stop - step)
        jax.block_until_ready(carry[1])
        self._measure(stop - step, time.monotonic() - began)
        return stop, carry

    def agreed(self, due: bool) -> tuple[bool, int]:
        """(whether it is time to save, the signal by which a host was told to stop, or 0). Several
        hosts save at the same steps, whatever their clocks say, and end together."""
        stopping.unsaved()
        each = hosts.told([self._size, due, stopping.told()])
        self._size = int(each[0, 0])
        return bool(each[0, 1]), int(each[:, 2].max())

    def _position(self, step: int) -> int:
        return int(self.job.program.position(step))

    def changed(self, step: int, carry: Any) -> Any:
        """What is carried, after the events of a step."""
        for event in self.job.events.get(step, ()):
            carry = (self.change(step, carry[0], event), carry[1])
        return carry

    def change(self, step: int, state: Any, event: tuple[Action, Any]) -> Any:
        """The state after an event; of streamed data, the batches of the next steps are read."""
        job, position = self.job, self._position(step)
        data = job.data
        if not isinstance(data, Resident):
            count = changes.looks_at(job.program, job.settings, event[0])
            data = tuple(itertools.islice(data(position), count)) if count else None
            if event[0] == "rewind":
                self._batches = job.data(position)  # type: ignore[operator]
        # Statistics need no teacher, who at the end may be one of an epoch that is not replayed.
        asked = event[0] != "calibrate"
        teacher = self._teacher(position // job.program.steps_per_epoch) if asked else None
        return job.compiled.change_masks(job.settings, job.seeds, state, event, teacher, data)

    def norms(self, state: Any) -> dict[str, Any]:
        """{"gradients": {part of the loss: [S·V]}} of the last step's batch, if asked for."""
        job = self.job
        if not job.norms:
            return {}
        given = (job.settings, job.seeds, state, self._taught)
        if self._batches is None:
            order = job.compiled.order(job.settings, job.seeds, state.step - 1, job.data)
            found = job.compiled.norms(*given, job.data, order)
        else:
            found = job.compiled.norms(*given, self._last)
        return {
            "gradients": {name: np.asarray(x, np.float64).tolist() for name, x in found.items()}
        }

    def _teacher(self, epoch: int) -> Teacher | None:
        if not callable(self.job.teacher):
            self._taught = self.job.teacher
            return self._taught
        if epoch != self._epoch:
            self._epoch, self._taught = epoch, self.job.teacher(epoch)
        return self._taught

    def _run(self, carry: Any, teacher: Teacher | None, steps: int) -> Any:
        job = self.job
        given = (job.settings, job.seeds)
        if self._batches is None:
            return job.compiled.advance(*given, *carry, teacher, job.data, steps)
        for _ in range(steps):
            self._last = next(self._batches)
            carry = job.compiled.step(*given, *carry, teacher, self._last)
        return carry

    def _measure(self, steps: int, seconds: float) -> None:
        if self._warm:  # the first piece compiles
            self.speed = steps * self.job.program.batch / max(seconds, 1e-9)
            per_step = seconds / steps
            self._size = max(1, min(round(PIECE_SECONDS / max(per_step, 1e-9)), 4 * self._size))
        self._warm = True


def _record(job: Job, step: int, carry: Any) -> dict[str, Any]:
    """What is kept of an epoch: lists have an entry a run."""
    state, sums = carry
    program = job.program
    epoch = -(-step // program.steps_per_epoch)
    steps = step - (epoch - 1) * program.steps_per_epoch
    means = {name: (np.asarray(x, np.float64) / steps).tolist() for name, x in sums.items()}
    record = {"step": step, "epoch": epoch, "train": means}
    if job.sparsity is not None:
        record["sparsity"] = job.sparsity(state)
    due = epoch % job.validate_every == 0 or step == program.steps
    if job.validate is not None and due:
        record["validation_accuracy"] = job.validate(state)
    return record
