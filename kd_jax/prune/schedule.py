"""When to prune, and how far: the events of a run, known before it starts."""

import dataclasses
from typing import Literal

from kd_jax.errors import require, require_between


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Masks change before some steps; in between, the net retrains."""

    def events(self, steps: int, final: float, start: float = 0.0) -> list[tuple[int, float]]:
        """[(step, sparsity after the mask update made before that step)] of a run of `steps`.

        Steps strictly increase within [0, steps); the last sparsity is exactly `final`.

        Raises:
          UsageError: not 0 <= start <= final < 1, or the run is too short.
        """
        require(steps >= 1, f"steps is {steps}: a run needs at least 1.")
        require(
            0 <= start <= final < 1,
            f"sparsity goes from {start} to {final}: it must not fall, and stay within [0, 1).",
        )
        return self._events(steps, final, start)

    def _events(self, steps: int, final: float, start: float) -> list[tuple[int, float]]:
        raise NotImplementedError


def _step(fraction: float, steps: int) -> int:
    """The step at a fraction of training, the nearest one; the end is the last step."""
    return min(round(fraction * steps), steps - 1)


@dataclasses.dataclass(frozen=True)
class OneShot(Schedule):
    """Everything at once.

    Attributes:
      at: fraction of training at which it happens, in [0, 1].
    """

    at: float = 0.0

    def __post_init__(self):
        require_between("OneShot.at", self.at, 0, 1)

    def _events(self, steps: int, final: float, start: float) -> list[tuple[int, float]]:
        return [(_step(self.at, steps), final)]


@dataclasses.dataclass(frozen=True)
class Iterative(Schedule):
    """Prune, retrain, repeat: rounds of equal length, each of which begins with pruning.

    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks",
    2015, https://arxiv.org/abs/1506.02626; the geometric shape is that of Frankle, Carbin, "The
    Lottery Ticket Hypothesis", 2019, https://arxiv.org/abs/1803.03635 (there without rewinding).

    Attributes:
      rounds: number of prunings, >= 1.
      shape: "linear" removes an equal number each round; "geometric" an equal fraction of what is
        left, so that ever fewer go as the net gets smaller.
    """

    rounds: int = 5
    shape: Literal["linear", "geometric"] = "geometric"

    def __post_init__(self):
        require_between("Iterative.rounds", self.rounds, 1)
        known = self.shape in ("linear", "geometric")
        require(known, f"Iterative.shape is {self.shape!r}: use 'linear' or 'geometric'.")

    def _events(self, steps: int, final: float, start: float) -> list[tuple[int, float]]:
        too_many = f"Iterative.rounds is {self.rounds}, but the run has {steps} steps: use fewer."
        require(self.rounds <= steps, too_many)
        events = []
        for i in range(1, self.rounds):
            if self.shape == "linear":
                sparsity = start + (final - start) * i / self.rounds
            else:
                sparsity = 1 - (1 - start) * ((1 - final) / (1 - start)) ** (i / self.rounds)
            events.append(((i - 1) * steps // self.rounds, sparsity))
        return [*events, ((self.rounds - 1) * steps // self.rounds, final)]


@dataclasses.dataclass(frozen=True)
class Cubic(Schedule):
    """s_t = s_f + (s_i − s_f)·(1 − (t − t_0) / (t_1 − t_0))³: fast at first, then ever slower.

    Zhu, Gupta, "To prune, or not to prune", 2017, https://arxiv.org/abs/1710.01878. Where the span
    is no multiple of `every`, an event at t_1 is added, so that the target is reached (TensorFlow's
    toolkit then ends short of it). The one at t_0 has the starting sparsity, as in the paper.

    Attributes:
      begin: t_0 as a fraction of training.
      end: t_1 as a fraction of training, >= begin.
      every: steps between updates, >= 1.
    """

    begin: float = 0.0
    end: float = 0.5
    every: int = 100

    def __post_init__(self):
        require_between("Cubic.begin", self.begin, 0, 1)
        require_between("Cubic.end", self.end, 0, 1)
        require_between("Cubic.every", self.every, 1)
        ordered = self.begin <= self.end
        require(ordered, f"Cubic.end is {self.end}: it must be at least begin, {self.begin}.")

    def _events(self, steps: int, final: float, start: float) -> list[tuple[int, float]]:
        first, last = _step(self.begin, steps), _step(self.end, steps)
        events = []
        for t in range(first, last, self.every):
            left = 1 - (t - first) / (last - first)
            events.append((t, final + (start - final) * left**3))
        return [*events, (last, final)]


SCHEDULES: dict[str, Schedule] = {
    "one_shot": OneShot(),
    "iterative": Iterative(),
    "cubic": Cubic(),
}
