"""When masks change, and what then happens: the events of a run, known before it starts.

An event is (step, sparsity, action, amount); it happens before that step. The actions:

- prune: keep the weights of the best score, of those that are left.
- scatter: keep some that are drawn at random, of those that are left.
- choose: keep the best of all, those included that were masked.
- free: mask nothing any more. Weights grow again from zero.
- swap: of each layer lose a share (`amount`) of the worst, and grow as many elsewhere.
- measure: set a threshold for each layer, by which masks then move within the steps (see DNS).
- save, rewind: remember all that is trained; prune, then put it back as it was.
- reset: begin the optimizer's moments anew.
- calibrate: estimate batch statistics anew. A stage adds it, no schedule does.
- project: find the sparse weights that dense ones are drawn to, until they are pruned (see ADMM).
- settle: the last "prune" of a criterion that learns. Up to it, weights wait behind masks that are
  chosen anew each time; then those that are masked are gone, and nothing is learned any more.

Beside its events a schedule says once and for all how masks act in the step: they hide weights,
which are then zero, and so are their gradients; or, with `straight_through`, they hide them in the
forward pass alone, while all weights go on learning, and a mask may at any time show them again.
Where masks move so often that a program of their own would cost more than the steps between, they
move in the step (`DNS`); all others move between steps.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

from kd_jax.errors import require, require_between

Action = Literal[
    "prune",
    "scatter",
    "choose",
    "free",
    "swap",
    "measure",
    "save",
    "rewind",
    "reset",
    "calibrate",
    "settle",
    "project",
]


class Event(NamedTuple):
    """What happens to the masks before a step.

    Attributes:
      step: in [0, steps).
      sparsity: that of the masks from then on, where the action cuts to a number.
      action: see above.
      amount: what the action takes besides.
    """

    step: int
    sparsity: float
    action: Action = "prune"
    amount: Any = None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Masks change before some steps; in between, the net retrains.

    A subclass gives `_events`, pairs (step, sparsity) where all it does is to prune.
    """

    straight_through: ClassVar[bool] = False
    """Whether masks hide weights in the forward pass alone."""
    grows: ClassVar[Literal["", "random", "gradient"]] = ""
    """By what score a swap grows weights."""
    at_once: ClassVar[bool] = False
    """Whether it cuts so much at once that batch statistics say nothing any more."""
    remembers: ClassVar[tuple[str, ...]] = ()
    """What the state carries for it: "saved", "thresholds" or "drawn"."""

    def events(self, steps: int, final: float, start: float = 0.0) -> list[Event]:
        """The events of a run of `steps`, in order.

        Steps don't fall, within [0, steps); the last sparsity is exactly `final`.

        Raises:
          UsageError: not 0 <= start <= final < 1, or the run is too short.
        """
        require(steps >= 1, f"steps is {steps}: a run needs at least 1.")
        require(
            0 <= start <= final < 1,
            f"sparsity goes from {start} to {final}: it must not fall, and stay within [0, 1).",
        )
        return [Event(*event) for event in self._events(steps, final, start)]

    def _events(self, steps: int, final: float, start: float) -> list[Any]:
        raise NotImplementedError

    def rewinds(self, steps: int) -> tuple[int, int] | None:
        """(length of a training, the step it is put back to), if it is repeated within a run."""
        return None


def step_at(fraction: float, steps: int) -> int:
    """The step at a fraction of training, the nearest one; the end is the last step."""
    return min(round(fraction * steps), steps - 1)


@dataclasses.dataclass(frozen=True)
class OneShot(Schedule):
    """Everything at once, before one step.

    Attributes:
      at: fraction of training at which it happens, in [0, 1].
      rounds: in how many prunings, of an equal fraction of what is left each, with scores made anew
        and no training between them (SynFlow: 100).
    """

    at: float = 0.0
    rounds: int = 1

    at_once: ClassVar[bool] = True

    def __post_init__(self):
        require_between("OneShot.at", self.at, 0, 1)
        require_between("OneShot.rounds", self.rounds, 1)

    def _events(self, steps: int, final: float, start: float) -> list[tuple[int, float]]:
        step = step_at(self.at, steps)
        rounds = range(1, self.rounds)
        return [*((step, geometric(start, final, i / self.rounds)) for i in rounds), (step, final)]


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
                sparsity = geometric(start, final, i / self.rounds)
            events.append(((i - 1) * steps // self.rounds, sparsity))
        return [*events, ((self.rounds - 1) * steps // self.rounds, final)]


@dataclasses.dataclass(frozen=True)
class Gradual(Schedule):
    """A sparsity that rises at even intervals. Where the span is no multiple of `every`, an event
    at its end is added, so that the target is reached (TensorFlow's toolkit then ends short of it).

    Attributes:
      begin: t_0 as a fraction of training.
      end: t_1 as a fraction of training, >= begin.
      every: steps between updates, >= 1.
    """

    begin: float = 0.0
    end: float = 0.5
    every: int = 100

    def __post_init__(self):
        who = type(self).__name__
        require_between(f"{who}.begin", self.begin, 0, 1)
        require_between(f"{who}.end", self.end, 0, 1)
        require_between(f"{who}.every", self.every, 1)
        ordered = self.begin <= self.end
        require(ordered, f"{who}.end is {self.end}: it must be at least begin, {self.begin}.")

    def _events(self, steps: int, final: float, start: float) -> list[tuple[int, float]]:
        first, last = step_at(self.begin, steps), step_at(self.end, steps)
        times = range(first, last, self.every)
        events = [(t, self.at(start, final, 1 - (t - first) / (last - first))) for t in times]
        return [*events, (last, final)]

    def at(self, start: float, final: float, left: float) -> float:
        """The sparsity when a fraction `left` of the span is still to come."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Cubic(Gradual):
    """s_t = s_f + (s_i − s_f)·(1 − (t − t_0) / (t_1 − t_0))³: fast at first, then ever slower.

    Zhu, Gupta, "To prune, or not to prune", 2017, https://arxiv.org/abs/1710.01878. The event at
    t_0 has the starting sparsity, as in the paper.
    """

    def at(self, start: float, final: float, left: float) -> float:
        return final + (start - final) * left**3


@dataclasses.dataclass(frozen=True)
class Exponential(Gradual):
    """s_t = 1 − (1 − s_i)·((1 − s_f) / (1 − s_i))^((t − t_0) / (t_1 − t_0)): of what is left, an
    equal fraction goes each time; as in SynFlow (2020, https://arxiv.org/abs/2006.05467) and NNCF.
    """

    def at(self, start: float, final: float, left: float) -> float:
        return geometric(start, final, 1 - left)


def geometric(start: float, final: float, share: float) -> float:
    """The sparsity after a share of the way, where what is left falls by equal fractions."""
    return 1 - (1 - start) * ((1 - final) / (1 - start)) ** share
