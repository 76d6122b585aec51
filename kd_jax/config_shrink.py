"""The stage that makes a network smaller for good, as data."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import tyro

from kd_jax.config_distill import Retrain
from kd_jax.errors import UsageError, did_you_mean, require, require_patterns, shortened
from kd_jax.prune import CHANNEL_CRITERIA


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shrink(Retrain):
    """Cut channels, heads and hidden units out of a network, and retrain what is left of it, on
    labels alone or with a teacher. What comes out is a smaller network, not a masked one."""

    reshapes: ClassVar[bool] = True
    done: ClassVar[str] = "shrunk"

    amount: float = 0.5
    """Fraction of the units that are cut; see `run.py inspect` for what they are."""
    macs: float | None = None
    """Share of the multiply-accumulates to come down to, which then decides the amount."""
    size: float | None = None
    """Share of the bytes to come down to, instead."""
    latency: float | None = None
    """Share of the time of a forward pass to come down to, instead, measured on this machine when
    it is decided what is cut."""
    latency_batch: int = 1
    """Examples in such a forward pass."""
    criterion: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(CHANNEL_CRITERIA)}}}")] = "l2"
    """How units are scored."""
    batches: int = 5
    """How many batches of the stage's examples a criterion is shown that looks at data, and a
    scan."""
    scope: Literal["group", "global", "sensitivity"] = "group"
    """group: the same fraction of each group of units; global: groups compete by their scores;
    sensitivity: what each loses is found by a scan, each cut alone by more and more."""
    multiple_of: int = 1
    """Kept units of a group are rounded up to a multiple of it, such as 8 or 128 for hardware."""
    keep: tuple[str, ...] = ()
    """Regular expressions of the groups that stay whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.start), "start is empty: name the stage whose network is to be cut")
        require_patterns("keep", self.keep)
        require(0 < self.amount < 1, f"amount {self.amount} must be above 0 and below 1")
        shares = {name: getattr(self, name) for name in ("macs", "size", "latency")}
        set_ = {name: share for name, share in shares.items() if share is not None}
        for name, share in set_.items():
            require(0 < share < 1, f"{name} {share} must be above 0 and below 1")
        both = " and ".join(set_)
        require(len(set_) < 2, f"{both} are both set: one of them decides what is cut: leave one")
        require(self.latency_batch >= 1, f"latency-batch {self.latency_batch} must be at least 1")
        require(self.multiple_of >= 1, f"multiple-of {self.multiple_of} must be at least 1")
        if self.criterion not in CHANNEL_CRITERIA:
            hint = did_you_mean(self.criterion, CHANNEL_CRITERIA)
            raise UsageError(f"criterion {shortened(repr(self.criterion))} is unknown.{hint}")
        require(self.batches >= 1, f"batches {self.batches} must be at least 1")

    def small(self) -> dict[str, Any]:
        """With any number of units: the smallest of networks have as few as one such multiple."""
        return super().small() | {"multiple_of": 1}

    @property
    def compared(self) -> tuple[str, ...]:
        return (self.start,)

    @property
    def told(self) -> str:
        return "channels cut for good"
