"""Schedules that train again: with rewinding, and in sparse and dense phases by turns."""

import dataclasses
import itertools
from typing import ClassVar

from kd_jax.errors import require, require_between
from kd_jax.prune.schedule import Event, Schedule, geometric, step_at


@dataclasses.dataclass(frozen=True)
class Lottery(Schedule):
    """Train, prune, rewind, repeat: what is left begins anew from what it was at an early step,
    with its optimizer, statistics, learning rate and the order of its data.

    Frankle, Carbin, "The Lottery Ticket Hypothesis", 2019, https://arxiv.org/abs/1803.03635;
    rewinding to a later step than the first: Frankle, Dziugaite, Roy, Carbin, "Linear Mode
    Connectivity and the Lottery Ticket Hypothesis", 2020, https://arxiv.org/abs/1912.05671.

    The stage's epochs are those of all trainings: rounds + 1 of an equal length L, in steps, of
    which all but the first leave out the steps before the rewound one. Where that does not divide,
    the last one ends up to `rounds` steps early.

    Attributes:
      rounds: number of prunings; of what is left an equal fraction goes each time.
      rewind: the step of a training to go back to.
    """

    rounds: int = 5
    rewind: int = 0

    remembers: ClassVar[tuple[str, ...]] = ("saved",)

    def __post_init__(self):
        require_between("Lottery.rounds", self.rounds, 1)
        require_between("Lottery.rewind", self.rewind, 0)

    def rewinds(self, steps: int) -> tuple[int, int]:
        return -(-(steps + self.rounds * self.rewind) // (self.rounds + 1)), self.rewind

    def _events(self, steps: int, final: float, start: float) -> list[Event]:
        length, back = self.rewinds(steps)
        require(
            length - back > self.rounds,
            f"Lottery.rewind is {back}, but the {steps} steps are for {self.rounds + 1} trainings, "
            "too few for each: use a smaller one, fewer rounds or more epochs.",
        )
        events = [Event(back, start, "save")]
        for i in range(1, self.rounds + 1):
            sparsity = final if i == self.rounds else geometric(start, final, i / self.rounds)
            events.append(Event(length + (i - 1) * (length - back), sparsity, "rewind"))
        return events


@dataclasses.dataclass(frozen=True)
class Cyclic(Schedule):
    """AC/DC: phases of sparse and dense training take turns; masks are chosen anew at each sparse
    one, of which the last is the longest.

    Peste, Iofinova, Vladu, Alistarh, "AC/DC: Alternating Compressed/DeCompressed Training of Deep
    Neural Networks", 2021, https://arxiv.org/abs/2106.12379. The defaults are those of 100 epochs:
    dense to 10, sparse and dense by turns of 5, the last dense one to 85. Weights that were pruned
    grow again from zero. What an earlier stage has pruned of the same layers comes back too.

    Attributes:
      begin: where the first sparse phase begins, as a fraction of training.
      phase: length of a phase.
      last: where the last sparse phase begins.
      reset: whether moments are reset when a dense phase begins (in the paper they are not).
    """

    begin: float = 0.1
    phase: float = 0.05
    last: float = 0.85
    reset: bool = False

    def __post_init__(self):
        for name in ("begin", "last"):
            require_between(f"Cyclic.{name}", getattr(self, name), 0, 1)
        require_between("Cyclic.phase", self.phase, 0, 1, open_low=True)
        room = self.begin + 2 * self.phase <= self.last + 1e-9
        fix = f"it must be at least begin + 2 phases, {self.begin + 2 * self.phase:g}."
        require(room, f"Cyclic.last is {self.last:g}: {fix}")

    def _events(self, steps: int, final: float, start: float) -> list[Event]:
        cycles = int((self.last - self.begin) / (2 * self.phase) + 1e-9)
        fractions = [self.begin + i * self.phase for i in range(2 * cycles)]
        times = [step_at(fraction, steps) for fraction in [*fractions, self.last]]
        require(
            all(a < b for a, b in itertools.pairwise(times)),
            f"Cyclic.phase is {self.phase:g}, which is no step of the {steps} of the run: use a "
            "larger one, or more epochs.",
        )
        events = []
        for i, time in enumerate(times):
            dense = i % 2 == 1
            events.append(Event(time, start if dense else final, "free" if dense else "prune"))
            if dense and self.reset:
                events.append(Event(time, start, "reset"))
        return events
