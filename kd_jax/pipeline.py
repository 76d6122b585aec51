"""An experiment from its config to trained networks in a folder: stage after stage, skipping what
is done and resuming what was interrupted."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from kd_jax import checks, hosts, jobs, stages
from kd_jax.checkpoint import Store, write_json
from kd_jax.config import Distill, Experiment, Prune
from kd_jax.data import Dataset, load, outline
from kd_jax.errors import UsageError
from kd_jax.forward import Model, from_linen
from kd_jax.logs import Several, Stopwatch, TensorBoard
from kd_jax.loop import Reporter, Silent
from kd_jax.serialize import fingerprint, from_data, to_data
from kd_jax.state import Snapshot

Seeds = tuple[int, ...]
DAMAGED = "damaged: delete this folder, and run it again"


@dataclasses.dataclass(frozen=True)
class Run:
    """An experiment with its folder, data and models at hand."""

    experiment: Experiment
    folder: Path
    data: Dataset
    models: dict[str, Model]

    @property
    def groups(self) -> list[Seeds]:
        """Seeds that train together."""
        first, count = self.experiment.seed, self.experiment.seeds
        seeds = tuple(range(first, first + count))
        return [seeds] if self.experiment.together else [(seed,) for seed in seeds]

    def model(self, stage: str) -> Model:
        return self.models[self.experiment.stages[stage].model]

    def store(self, stage: str, seeds: Seeds) -> Store:
        # Of many only the first and the last: a folder's name can't be of any length.
        few = len(seeds) <= 10
        listed = "-".join(map(str, seeds)) if few else f"{seeds[0]}-to-{seeds[-1]}"
        return Store(self.folder / stage / f"seeds-{listed}")

    def network(self, stage: str, seeds: Seeds) -> Snapshot:
        """The result of a finished stage, [S, ...]."""
        store = self.store(stage, seeds)
        if _facts(store) is None:
            command = f"python run.py run {self.experiment.name}"
            raise UsageError(
                f"{self.folder}: stage {stage!r} is not finished: go on with it by {command} and "
                "the flags it was begun with"
            )
        try:
            return store.load()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # by Orbax
            raise UsageError(f"{store.folder}: {DAMAGED}") from error

    @property
    def done(self) -> tuple[str, ...]:
        """The stages that are finished, whichever were asked for, each after those it needs."""
        every = dataclasses.replace(self.experiment, only=()).order()
        facts = {
            stage: [_facts(self.store(stage, group)) for group in self.groups] for stage in every
        }
        return tuple(stage for stage in every if None not in facts[stage])

    def label(self, stage: str) -> str:
        """What the network is, in a reader's words."""
        description = self.experiment.stages[stage]
        if isinstance(description, Prune):
            first = self.label(description.start) if description.start else description.model
            return f"{first}, pruned" if "," in first else f"{first} and pruned"
        if isinstance(description, Distill):
            return f"{description.model} distilled"
        alone = description.model == "student" and self.experiment.teacher is not None
        return f"{description.model} alone" if alone else description.model

    def reference(self, order: Sequence[str]) -> str:
        """The stage of these whose network the others are compared with: the first teacher, or else
        the first network."""
        teachers = [s for s in order if self.experiment.stages[s].model == "teacher"]
        return (teachers or list(order))[0]


def folder_of(experiment: Experiment) -> Path:
    """Where an experiment's run lives: named by what it computes."""
    return Path(experiment.out) / f"{experiment.name}-{fingerprint(experiment)}"


def prepare(experiment: Experiment, folder: Path, report: Reporter) -> Run:
    """Reads data, builds models, and checks everything that can be checked before training.

    Raises:
      UsageError: something in the experiment can't work.
    """
    if not experiment.stages:
        raise UsageError(f"experiment {experiment.name!r} has no stages")
    run = _assemble(experiment, folder, _load(experiment, report))
    _check(run)
    return run


def planned(experiment: Experiment) -> Run:
    """As `prepare`, but with the form of the data alone: nothing is read or can be run."""
    run = _assemble(experiment, folder_of(experiment), outline(experiment.data))
    _check(run)
    return run


def _check(run: Run) -> None:
    experiment = run.experiment
    if run.data.streamed and experiment.together and experiment.seeds > 1:
        raise UsageError(
            f"--together True: {experiment.data.name} is streamed from disk, and then seeds train "
            "one after another: set it to False, or raise --data.memory-mb"
        )
    for stage in experiment.order():
        description = experiment.stages[stage]
        with flags_of(stage):
            who = f"{type(getattr(experiment, description.model)).__name__} (stage {stage})"
            seeds = len(run.groups[0])
            checks.check(description, run.model(stage), run.data, experiment.devices, who, seeds)
            _check_terms(run, stage)


def _check_terms(run: Run, stage: str) -> None:
    """Whether the features that distillation terms read suit each other."""
    description = run.experiment.stages[stage]
    if isinstance(description, Distill) and description.terms:
        teacher = run.model(description.teacher) if description.teacher else None
        jobs.program_of(description, run.model(stage), run.data, teacher, run.experiment.devices)


@contextmanager
def flags_of(stage: str) -> Iterator[None]:
    """A stage knows its fields; the experiment knows by which flags they are set."""
    try:
        yield
    except UsageError as error:
        flag = "" if str(error).startswith("--") else f"--{stage}."
        raise UsageError(f"{flag}{error}") from error


def _load(experiment: Experiment, report: Reporter) -> Dataset:
    return load(experiment.data, lambda done, total: _reading(report, done, total))


def _assemble(experiment: Experiment, folder: Path, data: Dataset) -> Run:
    dtype = jnp.dtype(experiment.compute)
    configs = {"teacher": experiment.teacher, "student": experiment.student}
    models = {
        role: from_linen(config.build(data.spec.classes, dtype))
        for role, config in configs.items()
        if config is not None
    }
    return Run(experiment, folder, data, models)


def _reading(report: Reporter, done: int, total: int) -> None:
    if done == total or done % 10_000 == 0:
        report.note(f"reading images: {done:,} of {total:,}")


def open_run(folder: Path, report: Reporter, data_dir: str = "") -> Run:
    """The run in a folder. `data_dir` replaces where its data were when it ran."""
    experiment = _saved(folder / "config.json")
    if data_dir:
        data = dataclasses.replace(experiment.data, dir=data_dir)
        experiment = dataclasses.replace(experiment, data=data)
    # Not prepare: it may have been trained on other devices.
    run = _assemble(experiment, folder, _load(experiment, report))
    for role in {experiment.stages[stage].model for stage in run.done}:
        checks.check_model(role, run.models[role], run.data)
    rest = [stage for stage in experiment.stages if stage not in run.done]
    if rest:
        report.note(f"not finished, and left out: {', '.join(rest)}")
    return run


def _saved(path: Path) -> Experiment:
    """The experiment that a run's config.json tells of."""
    if not path.exists():
        raise UsageError(f"{path.parent}: no config.json here, so no run of kd_jax")
    try:
        experiment = from_data(json.loads(path.read_text(encoding="utf-8")))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"{path}: damaged ({error})") from error
    if not isinstance(experiment, Experiment):
        raise UsageError(f"{path}: damaged (it holds no Experiment)")
    return experiment


def claim(experiment: Experiment, folder: Path) -> None:
    """Makes the run's folder and writes the full config into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", to_data(experiment))
    except (OSError, ValueError) as error:  # ValueError: the name holds a null character
        reason = getattr(error, "strerror", error)
        raise UsageError(
            f"--out {experiment.out}: can't write to {folder} ({reason}): choose another folder"
        ) from error


def train(run: Run, report: Reporter) -> None:
    """Runs all stages that are not done."""
    for stage in run.experiment.order():
        for seeds in run.groups:
            _train_stage(run, stage, seeds, report)


def _train_stage(run: Run, stage: str, seeds: Seeds, report: Reporter) -> None:
    store = run.store(stage, seeds)
    which = f"{stage} (seed {seeds[0]}" + (f" to {seeds[-1]})" if len(seeds) > 1 else ")")
    if _facts(store) is not None:
        report.note(f"{which}: done before")
        return
    description = run.experiment.stages[stage]
    start = run.network(description.start, seeds) if description.start else None
    teacher = None
    if isinstance(description, Distill) and description.teacher:
        name = description.teacher
        teacher = (run.model(name), run.network(name, seeds))
    logs = [TensorBoard(store.folder / "tensorboard", list(seeds)), Stopwatch(store)]
    with flags_of(stage):
        stages.run(
            description,
            run.model(stage),
            run.data,
            start=start,
            teacher=teacher,
            seeds=seeds,
            devices=run.experiment.devices,
            store=store,
            replay=Path(run.experiment.out) / "teachers",
            report=Several(report, *logs) if hosts.first() else Silent(),
            save_seconds=run.experiment.checkpoint_seconds,
            name=which,
        )


def _facts(store: Store) -> dict[str, Any] | None:
    try:
        return store.facts()
    except ValueError as error:
        raise UsageError(f"{store.folder}: {DAMAGED}") from error
