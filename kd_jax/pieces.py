"""A stage made ready to run, and what runs it: pieces of about a second, and mask changes between
them."""

import bisect
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from kd_jax import changes, hosts, stopping
from kd_jax.batch import Batch
from kd_jax.batches import take
from kd_jax.compiled import Compiled
from kd_jax.faults import Faults
from kd_jax.many import length
from kd_jax.objective import Settings
from kd_jax.program import Program, Resident, Teacher
from kd_jax.prune.schedule import Action
from kd_jax.state import TrainState

PIECE_SECONDS = 1.0  # how long the device may work before we look at it again


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
      begin: makes the state at step 0 once more, for a search of what went wrong.
      guess: the accuracy of who always names the most frequent class.
      nans: whether that search goes on to the operation.
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
    begin: Callable[[], TrainState] | None = None
    guess: float = 0.0
    nans: bool = False


class Runner:
    """Runs pieces of about a second each, and measures how fast that is."""

    def __init__(self, job: Job, step: int, stops: Sequence[int] = ()) -> None:
        self.job = job
        self.speed = 0.0
        self._size = 4  # steps: few, until the speed is known
        resident = isinstance(job.data, Resident)
        self._batches = None if resident else job.data(self._position(step))  # type: ignore[operator]
        self._stops = sorted({*job.events, *stops})  # where pieces end come what may
        self._warm = False
        self._epochs = job.program.steps_per_epoch
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

    def one(self, step: int, carry: Any) -> Any:
        """What is carried after one step."""
        return self._run(carry, self._teacher(self._position(step) // self._epochs), 1)

    def faults(self, step: int, state: Any) -> Faults:
        """What is not finite in the step that follows a state, of all runs."""
        job, teacher = self.job, self._teacher(self._position(step) // self._epochs)
        given = (job.settings, job.seeds, state, teacher)
        if self._batches is None:
            order = job.compiled.order(job.settings, job.seeds, state.step, job.data)
            return job.compiled.faults(*given, job.data, order)
        return job.compiled.faults(*given, self._next())

    def alone(self, step: int, state: Any, run: int) -> tuple[Settings, TrainState, Any, Batch]:
        """What train_step takes of one run."""
        job, variants = self.job, self.job.settings.variants
        seed = job.seeds[run // variants]
        settings = jax.tree.map(lambda x: x[run % variants] if np.ndim(x) else x, job.settings)
        settings = dataclasses.replace(settings, seed=seed)
        of_run = jax.tree.map(lambda x: x[run], dataclasses.replace(state, step=None))
        state = dataclasses.replace(of_run, step=state.step)
        teacher = self._teacher(self._position(step) // self._epochs)
        if teacher is not None:
            count = length(teacher)
            place = run if count == len(job.seeds) * variants else run // variants
            teacher = jax.tree.map(lambda x: x[place], teacher)
        if isinstance(job.data, Resident):
            order = job.compiled.order(job.settings, job.seeds, state.step, job.data)
            batch, soft = take(job.program, order[run // variants], state.step, teacher, job.data)
            return settings, state, soft, batch
        return settings, state, teacher and teacher.variables, self._next()

    def _next(self) -> Batch:
        """The next batch of streamed data, which stays the next one."""
        batches = self._batches
        assert batches is not None
        batch = next(batches)
        self._batches = itertools.chain([batch], batches)
        return batch

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
