"""An experiment from its config to trained networks in a folder: stage after stage, skipping what
is done and resuming what was interrupted."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp

from kd_jax import (
    checks,
    compiled,
    earlier,
    hosts,
    jsons,
    leaks,
    locks,
    run_checks,
    run_fusion,
    stages,
    transfer,
    versions,
)
from kd_jax.config import ROLES, Experiment
from kd_jax.data import Dataset, load, outline
from kd_jax.errors import UsageError, require
from kd_jax.forward import Model, from_linen
from kd_jax.loop import Reporter, Silent
from kd_jax.runs import Run, Seeds, experiment_of, folder_of
from kd_jax.serialize import sources, to_data
from kd_jax.state import Snapshot
from kd_jax.sweep import expand
from kd_jax.writing import tidy, write_json

KEPT = 12  # stages of which compiled programs are kept


def prepare(experiment: Experiment, folder: Path, report: Reporter) -> Run:
    """Reads data, builds models, and checks everything that can be checked before training.

    Raises:
      UsageError: something in the experiment can't work.
    """
    if not experiment.stages:
        raise UsageError(f"experiment {experiment.name!r} has no stages")
    experiment = transfer.pinned(experiment)
    run = _assemble(experiment, folder, _load(experiment, report))
    for note in leaks.notes(run.data):
        report.note(note)
    run_checks.check(run)
    for stage in run.experiment.order():
        with run_checks.flags_of(run.flag(stage)):
            transfer.check(run, stage)
    return run


def planned(experiment: Experiment) -> Run:
    """As `prepare`, but with the form of the data alone: nothing is read or can be run."""
    require(
        not experiment.sweep,
        f"--sweep {' '.join(experiment.sweep)}: plan takes one setting at a time: leave it out",
    )
    run = _assemble(experiment, folder_of(experiment), outline(experiment.data))
    run_checks.check(run)
    return run


def _load(experiment: Experiment, report: Reporter) -> Dataset:
    return load(experiment.data, lambda done, total: _reading(report, done, total))


def _assemble(experiment: Experiment, folder: Path, data: Dataset) -> Run:
    models = models_of(experiment, data.spec.classes)
    expanded, variants = expand(experiment)
    return Run(expanded, folder, data, models, variants)


def models_of(experiment: Experiment, classes: int) -> dict[str, Model]:
    """The network of each role."""
    dtype = jnp.dtype(experiment.compute)
    configs = {role: getattr(experiment, role) for role in ROLES}
    return {
        role: from_linen(config.build(classes, dtype))
        for role, config in configs.items()
        if config is not None
    }


def _reading(report: Reporter, done: int, total: int) -> None:
    if done == total or done % 10_000 == 0:
        report.note(f"reading images: {done:,} of {total:,}")


def open_run(folder: Path, report: Reporter, data_dir: str = "") -> Run:
    """The run in a folder. `data_dir` replaces where its data were when it ran."""
    by = versions.others(versions.read(folder))
    try:
        experiment = experiment_of(folder)
    except UsageError as error:
        raise UsageError(f"{error}{f' (written with {by})' if by else ''}") from error
    if data_dir:
        data = dataclasses.replace(experiment.data, dir=data_dir)
        experiment = dataclasses.replace(experiment, data=data)
    # Not prepare: it may have been trained on other devices.
    run = _assemble(experiment, folder, _load(experiment, report))
    for role in {run.experiment.stages[stage].model for stage in run.done}:
        checks.check_model(role, run.models[role], run.data)
        checks.check_fits(str(folder / "config.json"), role, run.models[role], run.data.spec)
    rest = [stage for stage in run.experiment.stages if stage not in run.done]
    if rest:
        report.note(f"not finished, and left out: {', '.join(rest)}")
    return run


@contextmanager
def claimed(experiment: Experiment, folder: Path) -> Iterator[bool]:
    """As `claim`, and within it no other process may hold the folder: it is held before anything
    in it is changed. Gives whether that is sure, see `locks.held`.

    Raises:
      UsageError: also where another process holds it.
    """
    versions.read(folder)  # a folder that isn't for this version gets no lock either
    with ExitStack() as stack:
        with _written(experiment, folder):
            folder.mkdir(parents=True, exist_ok=True)
            alone = stack.enter_context(locks.held(folder))
            if alone:
                tidy(folder)
        claim(experiment, folder)
        yield alone


def claim(experiment: Experiment, folder: Path) -> None:
    """Makes the run's folder and writes the full config into it, and by which versions.

    Raises:
      UsageError: it can't be written to, or is of a format that this version doesn't read.
    """
    versions.read(folder)
    with _written(experiment, folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", jsons.summed(to_data(experiment)))
        note = versions.note() | {"sources": sources(experiment)}
        write_json(folder / versions.FILE, jsons.summed(note))


@contextmanager
def _written(experiment: Experiment, folder: Path) -> Iterator[None]:
    """Tells by which flag a folder was chosen that can't be written to."""
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the name holds a null character
        reason = getattr(error, "strerror", error)
        raise UsageError(
            f"--out {experiment.out}: can't write to {folder} ({reason}): choose another folder"
        ) from error


def train(run: Run, report: Reporter, alone: bool = False) -> None:
    """Runs all stages that are not done.

    Args:
      alone: whether no other process can be writing in the run's folder: what processes that were
        killed have left there is taken away then.

    Raises:
      UsageError: something in the folder is damaged, or of a format that this version doesn't
        read, or `take_from` is no run of any use: before anything is trained.
    """
    order = run.experiment.order()
    for said in earlier.take(run) if run.experiment.take_from else ():
        report.note(said)
    for store in [run.store(stage, seeds) for stage in order for seeds in run.groups]:
        store.check()
        if alone:
            store.tidy()
    for count, stage in enumerate(order, 1):
        if run.members(stage)[0] != stage:
            continue  # it trains with the first of its siblings
        _decide(run, stage, report)
        for seeds in run.groups:
            _train_stage(run, stage, seeds, report)
        if count % KEPT == 0:
            compiled.forget()


def _decide(run: Run, stage: str, report: Reporter) -> None:
    """Tells of a stage that is to begin, and decides what is decided by the networks of all seeds,
    unless that is known."""
    kind, given = run.kind(stage), run.given(stage)
    said = kind.tell(given)
    if said:
        report.note(f"{stage}: {said}")
    if kind.decide is None or given.cut.known:
        return
    parts = [run.network(given.stage.start, seeds) for seeds in run.groups]
    together = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    with run_checks.flags_of(run.flag(stage)):
        kept = kind.decide(given, together, run.experiment.seed)
    given.cut.write(*given.start, together, kept)


def _start(run: Run, stages: Sequence[str], seeds: Seeds, report: Reporter) -> Snapshot | None:
    """The network that stages which train together start from."""
    descriptions = [run.experiment.stages[stage] for stage in stages]
    if descriptions[0].weights:  # which are the same for all of them
        found, said = transfer.network(run, stages[0], seeds)
        report.note(f"{run.flag(stages[0])} begins with {said}")
        return found
    starts = [description.start for description in descriptions]
    if not starts[0]:
        return None
    found, first = run.networks(starts, seeds), run.groups.index(seeds) * len(seeds)
    rows = slice(first, first + len(seeds))
    note = lambda said: report.note(f"{stages[0]}: {said}")  # noqa: E731
    return run.kind(stages[0]).begin(run.given(stages[0]), found, seeds, rows, note)


def _train_stage(run: Run, stage: str, seeds: Seeds, report: Reporter) -> None:
    """Trains a stage, and those that train together with it; or fuses what others trained."""
    store, members = run.store(stage, seeds), run.members(stage)
    several = f", {len(members)} variants" if len(members) > 1 else ""
    base = run.flag(stage) if several else stage
    which = f"{base} (seed {seeds[0]}{f' to {seeds[-1]}' if len(seeds) > 1 else ''}{several})"
    if run.facts(stage, seeds) is not None:
        report.note(f"{which}: done before")
        return
    descriptions = [run.experiment.stages[name] for name in members]
    if not descriptions[0].trains:
        with run_checks.flags_of(run.flag(stage)):
            run_fusion.make(run, stage, seeds, report, which)
        return
    model = run.teacher_model(stage)
    settings = [name.partition("/")[2] for name in members] if several else [""]
    curves = [f"seed-{seed}/{setting}".rstrip("/") for seed in seeds for setting in settings]
    # Here: what writes TensorBoard's format is imported for that alone.
    from kd_jax.logs import Several, Stopwatch, TensorBoard

    logs = [TensorBoard(store.folder / "tensorboard", curves, report), Stopwatch(store)]
    with run_checks.flags_of(run.flag(stage)):
        stages.run(
            descriptions,
            run.trained(stage),
            run.data,
            start=_start(run, members, seeds, report),
            teacher=(model, run.teachers(members, seeds)) if model is not None else None,
            seeds=seeds,
            devices=run.experiment.layout,
            store=store,
            replay=Path(run.experiment.out) / "teachers",
            report=Several(report, *logs) if hosts.first() else Silent(),
            save_seconds=run.experiment.checkpoint_seconds,
            name=which,
            nans=run.experiment.debug.nans,
            origin=transfer.origin(run, stage),
        )
