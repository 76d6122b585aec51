"""The stage that makes a network choose its channels anew for each input."""

import dataclasses
from typing import ClassVar

from kd_jax.config_distill import Retrain
from kd_jax.errors import require, require_patterns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate(Retrain):
    """Let each input go through a part of the channels, heads and hidden units alone: a small
    network, the gater, looks at the input and says which. Both are trained together, on labels
    alone or with a teacher. Nothing is removed; what an example goes without is not computed."""

    reshapes: ClassVar[bool] = True
    last: ClassVar[bool] = True
    done: ClassVar[str] = "gated"

    amount: float = 0.5
    """Fraction of the units of each group that each input goes without; see `run.py inspect` for
    the groups."""
    hidden: int = 32
    """Hidden units of the gater."""
    keep: tuple[str, ...] = ()
    """Regular expressions of the groups that every input has whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.start), "start is empty: name the stage whose network is to be gated")
        require_patterns("keep", self.keep)
        require(0 < self.amount < 1, f"amount {self.amount} must be above 0 and below 1")
        require(self.hidden >= 1, f"hidden {self.hidden} must be at least 1")

    @property
    def compared(self) -> tuple[str, ...]:
        return (self.start,)

    @property
    def told(self) -> str:
        return f"gated: {self.amount:g} of its units shut for each input"
