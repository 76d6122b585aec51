"""Which of a run's networks somebody means: by a stage, and by a seed."""

from kd_jax.errors import did_you_mean, require, shortened
from kd_jax.runs import Run
from kd_jax.values import is_whole


def stage_of(run: Run, named: str | None, flag: str = "--stage") -> str:
    """A finished stage: the one named, or else the last. Raises UsageError, naming the flag, where
    it is none."""
    require(bool(run.done), f"{run.folder}: no stage of this run is finished: run it first")
    if named is None:
        return run.done[-1]
    hint = did_you_mean(named, run.done)
    require(named in run.done, f"{flag} {shortened(repr(named))} is no finished stage.{hint}")
    return named


def seed_of(run: Run, said: str | None) -> int:
    """One of the run's seeds: the one named, or else the first. Raises UsageError where it is
    none."""
    seeds = [seed for group in run.groups for seed in group]
    if said is None:
        return seeds[0]
    listed = ", ".join(map(str, seeds))
    require(
        is_whole(said) and int(said) in seeds, f"--seed {shortened(said)}: the run has {listed}"
    )
    return int(said)
