"""What an earlier run has left: stages that are the same in another."""

import shutil
from pathlib import Path
from typing import Any

from kd_jax import hosts, regular, versions
from kd_jax.config import ROLES, Experiment
from kd_jax.config_order import ordered
from kd_jax.errors import UsageError, require
from kd_jax.runs import Run, Seeds, experiment_of
from kd_jax.serialize import sources, what
from kd_jax.sweep import expand
from kd_jax.writing import whole

HALF = ".taking"  # ends the name of a folder that is not copied whole


def take(run: Run) -> list[str]:
    """Copies the finished stages of the run in `experiment.take_from` that are the same here: in
    their fields, in those of all stages that they need, in networks, data and seeds. What is done
    here already stays.

    Returns:
      A line for each stage that was copied.

    Raises:
      UsageError: there is no run there, or none of its stages is the same; or there are links
        among what would be copied.
    """
    folder = Path(run.experiment.take_from)
    flag = f"--take-from {folder}"
    try:
        expanded, variants = expand(experiment_of(folder))
        wrote = versions.read(folder)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error
    require(
        folder.resolve() != run.folder.resolve(), f"{flag}: this is the run itself: leave it out"
    )
    there = Run(expanded, folder, run.data, run.models, variants)
    theirs = wrote.get("sources", {})
    same = [stage for stage in run.experiment.order() if _same(run, there, stage, theirs)]
    require(bool(same), f"{flag}: none of its stages is the same in this experiment: leave it out")
    said = []
    for stage in same:
        taken = [seeds for seeds in run.groups if _lacks(run, there, stage, seeds)]
        if taken:
            # First: once its networks are here, a stage is not looked at again after a kill.
            _copy_files(folder, *(x.folder / run.flag(stage) for x in (there, run)))
            for seeds in taken:
                _copy(run, there, stage, seeds)
            by = versions.others(wrote)
            which = ", ".join(str(seed) for seeds in taken for seed in seeds)
            said.append(f"{stage} (seed {which}): taken from {folder}{f' ({by})' if by else ''}")
    return said


def _same(run: Run, there: Run, stage: str, theirs: Any) -> bool:
    """Whether both would train a stage alike."""
    if stage not in there.experiment.stages or run.members(stage) != there.members(stage):
        return False
    if run.members(stage)[0] != stage:
        return False  # it comes with the first of its siblings
    for member in run.members(stage):
        ours, other = (_made_of(x.experiment, member) for x in (run, there))
        if ours != other:
            return False
    seeds = {*run.groups} & {*there.groups}
    if run.groups != there.groups and _looks_at_all_seeds(run, stage):
        return False
    return bool(seeds) and _own(run, stage).items() <= dict(theirs).items()


def _made_of(experiment: Experiment, stage: str) -> dict[str, Any]:
    """All that a stage's network comes from, as plain data."""
    stages = {name: experiment.stages[name] for name in ordered(experiment.stages, (stage,))}
    roles = {stages[name].model for name in stages}
    roles |= {peer for name in stages for peer in getattr(stages[name], "peer_models", ())}
    models = {role: what(getattr(experiment, role)) for role in ROLES if role in roles}
    return {
        "stages": what(stages),
        "models": models,
        "data": what(experiment.data),
        "compute": experiment.compute,
    }


def _own(run: Run, stage: str) -> dict[str, str]:
    """The classes of files of one's own that take part, with what stands for their text."""
    of = ordered(run.experiment.stages, run.members(stage))
    models = tuple(getattr(run.experiment, role) for role in ROLES)
    return sources((models, {name: run.experiment.stages[name] for name in of}))


def _looks_at_all_seeds(run: Run, stage: str) -> bool:
    """Whether what one seed's network becomes hangs on the others': where they are cut alike, or
    fused."""
    of = ordered(run.experiment.stages, (stage,))
    return any(run.kind(name).decide or not run.experiment.stages[name].trains for name in of)


def _lacks(run: Run, there: Run, stage: str, seeds: Seeds) -> bool:
    """Whether a group of seeds has finished a stage there, and not here."""
    if run.store(stage, seeds).facts() is not None or seeds not in there.groups:
        return False
    return there.store(stage, seeds).facts() is not None


def _copy(run: Run, there: Run, stage: str, seeds: Seeds) -> None:
    """What a group of seeds has trained."""
    source, target = (x.store(stage, seeds).folder for x in (there, run))
    _check(there.folder, source)
    if hosts.first():
        half = target.with_name(target.name + HALF)
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(source, half, symlinks=True)
        shutil.rmtree(target, ignore_errors=True)  # a beginning, at most
        half.rename(target)
    hosts.wait(f"{target}: taken")


def _copy_files(folder: Path, source: Path, target: Path) -> None:
    """What lies beside the folders of seeds: what was decided for all of them."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_dir() or (target / path.name).exists():
            continue
        _check(folder, path)
        if hosts.first():
            with whole(target / path.name) as partial:
                shutil.copy2(path, partial, follow_symlinks=False)
    hosts.wait(f"{target}: files taken")


def _check(folder: Path, path: Path) -> None:
    """Raises UsageError where a link might lead out of a run that is copied from."""
    try:
        regular.check(path.absolute(), folder.absolute())
    except UsageError as error:
        raise UsageError(f"--take-from {folder}: {error}") from error
