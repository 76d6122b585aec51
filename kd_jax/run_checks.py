"""Whether the stages of a run can work, each with its networks and the data, before training."""

from collections.abc import Iterator
from contextlib import contextmanager

from kd_jax import checks, jobs
from kd_jax.config import Distill
from kd_jax.errors import UsageError
from kd_jax.runs import Run


def check(run: Run) -> None:
    """Raises UsageError, which names the flag, for what can't work in any of the stages to run."""
    experiment = run.experiment
    if run.data.streamed and experiment.together and experiment.seeds > 1:
        raise UsageError(
            f"--together True: {experiment.data.name} is streamed from disk, and then seeds train "
            "one after another: set it to False, or raise --data.memory-mb"
        )
    for stage in experiment.order():
        description = experiment.stages[stage]
        with flags_of(run.flag(stage)):
            who = f"{type(getattr(experiment, description.model)).__name__} (stage {stage})"
            if description.trains:
                _check_training(run, stage, who)
            run.kind(stage).check(run.given(stage), experiment.layout, who)
        if description.trains and run.members(stage)[0] == stage:
            _check_members(run, stage)


def _check_training(run: Run, stage: str, who: str) -> None:
    """Whether a stage's networks can be trained as it says, and the features that distillation
    terms read suit each other."""
    description, layout = run.experiment.stages[stage], run.experiment.layout
    runs = len(run.groups[0]) * len(run.members(stage))
    for peer in getattr(description, "peer_models", ()):
        checks.check_model(peer, run.models[peer], run.data)
    checks.check(description, run.trained(stage), run.data, layout, who, runs)
    teacher = run.teacher_model(stage)
    if isinstance(description, Distill) and description.terms:
        jobs.program_of(description, run.trained(stage), run.data, teacher, layout)


def _check_members(run: Run, stage: str) -> None:
    """Whether one program can train all variants of a stage."""
    variants = [run.experiment.stages[name] for name in run.members(stage)]
    given = (run.trained(stage), run.data, run.teacher_model(stage), run.experiment.layout)
    try:
        jobs.check_variants(variants, *given)
    except UsageError as error:
        raise UsageError(f"--sweep of {run.flag(stage)}: {error}") from None


@contextmanager
def flags_of(stage: str) -> Iterator[None]:
    """A stage knows its fields; the experiment knows by which flags they are set."""
    try:
        yield
    except UsageError as error:
        word = str(error).partition(" ")[0]
        flag = "" if word.startswith("--") or "/" in word else f"--{stage}."  # a file has no flag
        raise UsageError(f"{flag}{error}") from error
