"""The stage that makes one network of several, as data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

from kd_jax.config_stages import Train
from kd_jax.errors import require, shortened
from kd_jax.optim import Optim

How = Literal["logits", "probabilities", "vote", "soup", "greedy_soup"]
SOUPS: tuple[How, ...] = ("soup", "greedy_soup")
HOW: tuple[How, ...] = get_args(How)
CALLED: dict[How, str] = {
    "logits": "mean logits",
    "probabilities": "mean probabilities",
    "vote": "vote",
    "soup": "soup",
    "greedy_soup": "greedy soup",
}

LOADED = ("weights", "freeze", "freeze_statistics")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fuse(Train):
    """Make one network of those of several stages; nothing is trained. An ensemble holds them all
    and asks each of them, so they may be of any architectures: it may teach, and nothing starts
    from it. A soup is one network of their size, whose weights are the mean of theirs: it may teach
    or be gone on from."""

    least_epochs: ClassVar[int] = 0
    trains: ClassVar[bool] = False

    of: tuple[str, ...] = ()
    """Stages whose networks are fused."""
    how: How = "probabilities"
    """Ensembles: the mean of logits or of probabilities, or a vote, whose ties the mean of
    probabilities breaks. Soups: the mean of all weights; greedy_soup: of those that, taken in by
    falling validation accuracy, don't lower it (Wortsman et al. 2022)."""
    shares: tuple[float, ...] = ()
    """Shares of the stages; none: equal ones."""
    fit_shares: bool = False
    """Find the shares by the cross-entropy on the validation split; of logits and probabilities."""
    across: Literal["stages", "seeds"] = "stages"
    """stages: of each seed its own networks; seeds: the networks of all seeds as well, which makes
    the same one network for every seed."""
    epochs: int = 0
    """None: what is to be trained further starts from the soup in a stage of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.start,
            f"start {shortened(repr(self.start))}: what is fused is named by of: leave start empty",
        )
        for name in ("epochs", "optim", "label_smoothing", "ema", "swa", "evaluate_every", *LOADED):
            usual = Optim() if name == "optim" else getattr(type(self), name)
            require(
                getattr(self, name) == usual,
                f"{name.replace('_', '-')}: nothing is trained in fusing: leave it as it is",
            )
        listed = shortened(" ".join(self.of))
        require(len(set(self.of)) == len(self.of), f"of {listed}: one is named twice")
        fewest = 2 if self.across == "stages" else 1
        require(
            len(self.of) >= fewest,
            f"of {listed or 'nothing'}: one network alone can't be fused: name two "
            "stages or more, or set across to seeds",
        )
        self._check_shares()

    def _check_shares(self) -> None:
        shares = " ".join(f"{share:g}" for share in self.shares)
        require(
            not self.shares or len(self.shares) == len(self.of),
            f"shares {shares}: {len(self.shares)} for {len(self.of)} stages: give one a stage, "
            "or none",
        )
        require(
            all(share >= 0 for share in self.shares) and (not shares or sum(self.shares) > 0),
            f"shares {shares} must not be negative, nor all of them 0",
        )
        require(
            not (self.shares and self.how == "greedy_soup"),
            f"shares {shares}: a greedy soup finds out itself what it takes: leave them out, or "
            "set how to soup",
        )
        require(
            not self.fit_shares or self.how in ("logits", "probabilities"),
            f"fit-shares True: they are found for logits and probabilities, not for {self.how}: "
            "set it to False, or change how",
        )
        require(
            not (self.shares and self.fit_shares),
            f"shares {shares}: with fit-shares they are found: leave one of the two out",
        )

    @property
    def sources(self) -> tuple[str, ...]:
        return self.of

    @property
    def before(self) -> str:
        """Of a soup the first of its networks."""
        return "" if self.ensemble else self.of[0]

    @property
    def ensemble(self) -> bool:
        """Whether the result holds all networks, rather than one of their size."""
        return self.how not in SOUPS

    @property
    def compared(self) -> tuple[str, ...]:
        return self.of

    @property
    def at_once(self) -> bool:
        return True

    @property
    def chooses(self) -> bool:
        """Whether the validation split decides anything."""
        return self.fit_shares or self.how == "greedy_soup"

    def called(self, before: str, seeds: int) -> str:
        """By the stages' names: what their networks are called would make it too long."""
        parts = " + ".join(name.partition("/")[0] for name in self.of)
        how = "fitted " * self.fit_shares + "weighted " * bool(self.shares) + CALLED[self.how]
        every = f"{seeds} seeds of " if self.across == "seeds" else ""
        return f"{how} of {every}{parts}"

    def flag_of(self, name: str) -> str:
        return "of"

    def renaming(self, named: Callable[[str], str]) -> dict[str, Any]:
        return super().renaming(named) | {"of": tuple(map(named, self.of))}

    def check_among(self, name: str, models: Mapping[str, str], seeds: int) -> None:
        for member in self.of:
            require(
                self.ensemble or models[member] == self.model,
                f"{name}.of {member!r} is of the {models[member]}, and a {self.how} of "
                f"{self.model} networks alone: take others, set {name}.model, or set how to "
                "probabilities",
            )
        require(
            len(self.of) > 1 or seeds > 1,
            f"{name}.across seeds: of one stage, {' '.join(self.of)}, with one seed there is one "
            "network, which alone can't be fused: raise --seeds",
        )
