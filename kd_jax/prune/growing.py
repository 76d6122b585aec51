"""Schedules under which masked weights come back: sparse training with a fixed number of weights,
and dense weights, behind masks that are chosen again and again or drawn to sparse ones."""

import dataclasses
from math import cos, pi
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from kd_jax.errors import require, require_between
from kd_jax.prune.schedule import Event, Schedule, step_at

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Static(Schedule):
    """A mask that is drawn at random before the first step, and kept."""

    def _events(self, steps: int, final: float, start: float) -> list[Event]:
        return [Event(0, final, "scatter")]


@dataclasses.dataclass(frozen=True)
class SET(Schedule):
    """Sparse from the first step on: at even intervals each layer loses its smallest weights and
    grows as many others, at random, which begin at zero. The share falls by a cosine:
    f_t = α/2·(1 + cos(π t / T_end)).

    Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science", 2018, https://arxiv.org/abs/1707.04780; the falling
    share, and that what was just dropped may grow again (it then keeps its value), are those of
    RigL's code. The criterion says what is dropped.

    Attributes:
      fraction: α, the share of the weights left that is dropped at first, in [0, 1].
      every: steps between updates.
      end: T_end as a fraction of training (25,000 of 32,000 steps).
      begin: whether the first mask is random, or made by the criterion.
    """

    fraction: float = 0.3
    every: int = 100
    end: float = 0.75
    begin: Literal["random", "criterion"] = "random"

    grows: ClassVar[Literal["", "random", "gradient"]] = "random"

    def __post_init__(self):
        who = type(self).__name__
        require_between(f"{who}.fraction", self.fraction, 0, 1)
        require_between(f"{who}.every", self.every, 1)
        require_between(f"{who}.end", self.end, 0, 1)
        known = self.begin in ("random", "criterion")
        require(known, f"{who}.begin is {self.begin!r}: use 'random' or 'criterion'.")

    def _events(self, steps: int, final: float, start: float) -> list[Event]:
        end = round(self.end * steps)
        first = Event(0, final, "scatter" if self.begin == "random" else "prune")
        return [
            first,
            *(
                Event(t, final, "swap", self.share(t, end))
                for t in range(self.every, end, self.every)
            ),
        ]

    def share(self, step: int, end: int) -> float:
        """The share of the weights left that is dropped at a step."""
        return self.fraction / 2 * (1 + cos(pi * step / end))


@dataclasses.dataclass(frozen=True)
class RigL(SET):
    """As SET, but what grows is where the dense gradient is largest. That gradient is computed at
    the updates alone, on the batch of the next step.

    Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", 2020,
    https://arxiv.org/abs/1911.11134. The reference code leaves out the optimizer's step on these
    batches; here it follows.
    """

    grows: ClassVar[Literal["", "random", "gradient"]] = "gradient"


@dataclasses.dataclass(frozen=True)
class STE(Schedule):
    """Dense weights behind a mask that is chosen anew at even intervals; the gradient of the masked
    network moves them all. At the end, those that are masked are dropped.

    Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation", 2013, https://arxiv.org/abs/1308.3432; Wortsman, Farhadi, Rastegari,
    "Discovering Neural Wirings", 2019, https://arxiv.org/abs/1906.00586.

    Attributes:
      begin: from where on there are masks, as a fraction of training.
      every: steps between two choices; 1, each step, as in the papers, is the dearest.
    """

    begin: float = 0.0
    every: int = 1

    straight_through: ClassVar[bool] = True

    def __post_init__(self):
        who = type(self).__name__
        require_between(f"{who}.begin", self.begin, 0, 1)
        require_between(f"{who}.every", self.every, 1)

    def _events(self, steps: int, final: float, start: float) -> list[Event]:
        first = min(round(self.begin * steps), steps - 1)
        return [Event(t, final, "choose") for t in range(first, steps, self.every)]


@dataclasses.dataclass(frozen=True)
class SRSTE(STE):
    """STE that draws masked weights to zero, so that masks settle: the gradient gains λ·w where w
    is masked.

    Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", 2021,
    https://arxiv.org/abs/2102.04010.

    Attributes:
      decay: λ >= 0.
    """

    decay: float = 2e-4

    def __post_init__(self):
        STE.__post_init__(self)
        require_between("SRSTE.decay", self.decay, 0)


@dataclasses.dataclass(frozen=True)
class ADMM(Schedule):
    """Dense weights W that are drawn to sparse ones Z: the gradient gains ρ·(W − Z + U), and at
    even intervals Z = Π(W + U), U ← U + W − Z, where Π keeps the best weights, as many as asked
    for. At the end masks are cut as Π would, and what is left retrains. At first Z is Π(W), and U
    zero.

    Zhang, Ye, Zhang, Tang, Wen, Fardad, Wang, "A Systematic DNN Weight Pruning Framework using
    Alternating Direction Method of Multipliers", 2018, https://arxiv.org/abs/1804.03294. Π is made
    of the stage's criterion, allocation and structure; with magnitude and single weights it is the
    Euclidean projection of the paper, where ρ also grows from run to run. A well-known port has the
    length of W − Z + U in its loss, not squared, and so another gradient.

    Attributes:
      rho: ρ > 0.
      begin: where weights begin to be drawn, as a fraction of training.
      end: where masks are cut.
      every: steps between two projections (an epoch's, in the paper).
    """

    rho: float = 1e-2
    begin: float = 0.0
    end: float = 0.75
    every: int = 100

    remembers: ClassVar[tuple[str, ...]] = ("drawn",)

    def __post_init__(self):
        require_between("ADMM.rho", self.rho, 0, open_low=True)
        require_between("ADMM.begin", self.begin, 0, 1)
        require_between("ADMM.end", self.end, 0, 1)
        require_between("ADMM.every", self.every, 1)
        ordered = self.begin < self.end
        require(ordered, f"ADMM.end is {self.end:g}: it must be above begin, {self.begin:g}.")

    def _events(self, steps: int, final: float, start: float) -> list[Event]:
        first, last = step_at(self.begin, steps), step_at(self.end, steps)
        require(
            first < last,
            f"ADMM.end is {self.end:g}: in {steps} steps that is no later than begin: raise it, or "
            "train longer.",
        )
        times = range(first, last, self.every)
        return [*(Event(t, final, "project") for t in times), Event(last, final)]


@dataclasses.dataclass(frozen=True)
class DNS(Schedule):
    """Dynamic network surgery: |w| below 0.9 θ is masked, above 1.1 θ shown again, and all weights
    go on learning. θ = max(mean |w| + c·σ, 0), of the layer's |w| that are not zero, is found once,
    before the first step; c is the stage's threshold, with its allocation std. With allocation
    threshold, that is θ itself.

    Guo, Yao, Chen, "Dynamic Network Surgery for Efficient DNNs", 2016,
    https://arxiv.org/abs/1608.04493. Masks change before step t with probability (1 + γ t)^−p,
    which at first is nearly each step: so they change within it. The reference code takes mean and
    σ of a layer's weights and biases together, and masks biases too; here a bias has a mask only
    where the stage includes it, and then mean and σ of its own. As there, weight decay acts on
    masked weights too, and makes them come back less often. The paper's c of each layer are the
    stage's thresholds; its phases, one of convolutions and one of dense layers, are two stages,
    with include and exclude.

    Attributes:
      low, high: the factors of θ.
      gamma, power: γ and p.
      end: fraction of training after which masks stay (14,000 of 16,000 steps).
    """

    low: float = 0.9
    high: float = 1.1
    gamma: float = 1e-4
    power: float = 1.0
    end: float = 0.875

    straight_through: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ("thresholds",)

    def __post_init__(self):
        for name in ("low", "gamma", "power"):
            require_between(f"DNS.{name}", getattr(self, name), 0)
        require_between("DNS.end", self.end, 0, 1)
        require(self.low <= self.high, f"DNS.high is {self.high:g}: it must not be below low.")

    def _events(self, steps: int, final: float, start: float) -> list[Event]:
        return [Event(0, final, "measure")]

    def due(self, key: Array, step: Array | int, steps: int) -> Array:
        """Whether masks change before a step of so many. Jit-able."""
        often = (1 + self.gamma * jnp.asarray(step, jnp.float32)) ** -self.power
        return (step < max(1, round(self.end * steps))) & (jax.random.uniform(key) < often)
