"""Ours beside theirs: what a run has of the numbers that a paper reports."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd_jax import files
from kd_jax.data import Split
from kd_jax.errors import UsageError, require
from kd_jax.jsons import parsed
from kd_jax.loop import Reporter
from kd_jax.noise import spread, summary
from kd_jax.published import KINDS, Figure, values, verdict
from kd_jax.results import DataFacts, Environment, Results
from kd_jax.runs import Run
from kd_jax.typed import Typed, typed
from kd_jax.units import duration
from kd_jax.writing import write_json, write_text

FILE = "reproduction.json"
FORMAT = 1
RULE = ("---", "---:", "---", "---:", "---:", "---", "---:")
HEAD = ("what", "published", "source", "ours", "difference", "verdict", "cost")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found(Typed):
    """One figure: what is known of it, ours of each seed, and what its stage's training took, of
    all seeds together."""

    what: str
    stage: str
    measure: str
    published: float | None = None
    source: str
    ours: Sequence[float]
    verdict: str
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction(Typed):
    """Of one run; of the whole of it are command, seeds and seconds."""

    experiment: str
    command: str
    seeds: Sequence[int]
    seconds: float
    environment: Environment
    data: DataFacts
    remark: str = ""
    trained_on: str = ""
    """Devices, where they are others than those of the environment."""
    figures: Sequence[Found]


def compare(
    run: Run, results: Results, figures: Sequence[Figure], report: Reporter, remark: str = ""
) -> Reproduction:
    """Each figure beside ours; those of stages that were not run are left out.

    Raises:
      UsageError: a figure names a stage that the experiment does not have.
    """
    for figure in figures:
        for stage in filter(None, (figure.stage, figure.against)):
            known = stage in run.experiment.stages
            require(known, f"PUBLISHED: {figure.what!r} is of a stage {stage!r}, and there is none")
    there = {row.stage for row in results.rows}
    wanted = [f for f in figures if {f.stage, f.against or f.stage} <= there]
    counts = _counts(run) if any(f.measure in ("errors", "class_errors") for f in wanted) else []
    stages = dict.fromkeys(
        s for f in wanted if f.measure == "smaller" for s in (f.stage, f.against) if s
    )
    sizes = {stage: _sizes(run, stage, report) for stage in stages}

    def ours(figure: Figure, stage: str) -> np.ndarray:
        found = values(figure, results.row(stage), counts, sizes.get(stage, ()))
        return np.asarray(found, float)

    found = []
    for figure in wanted:
        own = ours(figure, figure.stage)
        own = own - ours(figure, figure.against) if figure.against else own
        found.append(
            Found(
                what=figure.what,
                stage=figure.stage,
                measure=figure.measure,
                published=figure.published,
                source=figure.source,
                ours=own.tolist(),
                verdict=verdict(figure, own.tolist()),
                seconds=results.row(figure.stage).seconds,
            )
        )
    return Reproduction(
        experiment=results.experiment,
        command=results.command,
        seeds=results.seeds,
        seconds=results.seconds,
        environment=results.environment,
        data=results.data,
        remark=" ".join(remark.split()),
        trained_on=", ".join(results.elsewhere),
        figures=found,
    )


def _counts(run: Run) -> list[int]:
    """Test examples of each class."""
    test = run.data.test
    labels = test.labels if isinstance(test, Split) else [test[i][1] for i in range(len(test))]
    return np.bincount(np.asarray(labels, int), minlength=run.data.spec.classes).tolist()


def _sizes(run: Run, stage: str, report: Reporter) -> list[int]:
    """Bytes of the file of each seed's network."""
    report.note(f"{stage}: encoding its networks")
    seeds = [seed for group in run.groups for seed in group]
    return [len(files.encoded(run, stage, seed).data) for seed in seeds]


# As a file ------------------------------------------------------------------------------------


def write(folder: Path, found: Reproduction) -> None:
    """Writes reproduction.json and reproduction.md."""
    write_json(folder / FILE, {"format": FORMAT, **dataclasses.asdict(found)})
    write_text(folder / "reproduction.md", f"# {found.experiment}\n\n{markdown(found)}")


def read(path: Path) -> Reproduction:
    """Raises UsageError where the file is damaged or of another format."""
    try:
        data = parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read ({error}): run it again") from error
    format_ = data.pop("format", None) if isinstance(data, dict) else None
    require(format_ == FORMAT, f"{path} has format {format_}, not {FORMAT}: run it again")
    return typed(Reproduction, data, str(path))


# For people -----------------------------------------------------------------------------------


def cells(found: Found) -> tuple[str, ...]:
    """A row of the table, as HEAD has it."""
    known = apart = "–"
    if found.published is not None:
        known = _number(found.published, found.measure)
        apart = _apart(summary(found.ours).mean - found.published, found.measure)
    ours = f"{spread(found.ours)}{KINDS[found.measure].unit}"
    what, source = _named(found.what, found.measure), found.source or "–"
    return what, known, source, ours, apart, found.verdict, duration(found.seconds)


def _named(what: str, measure: str) -> str:
    """Of what it is, and what is measured: one network has several figures."""
    return f"{what}: {KINDS[measure].words}"


def _number(x: float, measure: str) -> str:
    return f"{x:,.{KINDS[measure].decimals}f}{KINDS[measure].unit}"


def _apart(x: float, measure: str) -> str:
    """A difference, in which no zero has a sign."""
    kind = KINDS[measure]
    x = round(x, kind.decimals)
    unit = " points" if kind.unit == " %" else kind.unit
    return f"{x or 0:{'+' if x else ''},.{kind.decimals}f}{unit}"


def not_run(figures: Sequence[Figure], remark: str = "") -> str:
    """The same table of an experiment that was not run: what is published alone."""
    rows = [HEAD, RULE]
    for figure in figures:
        known = "–" if figure.published is None else _number(figure.published, figure.measure)
        what, source = _named(figure.what, figure.measure), figure.source or "–"
        rows.append((what, known, source, "not run", "–", "–", "–"))
    said = " ".join(remark.split())
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + (f"\n\n{said}\n" if said else "\n")


def notes(found: Reproduction) -> list[str]:
    """What is to be known beside the table."""
    here, data = found.environment, found.data
    seeds = ", ".join(map(str, found.seeds))
    several = len(found.seeds) > 1
    of = f"mean ± standard deviation of seeds {seeds}" if several else f"seed {seeds} alone"
    return [
        *([found.remark] if found.remark else []),
        f"Ours: {of}, on {data.test:,} test examples of "
        f"{data.name}{f' ({data.note})' if data.note else ''}, read once, after training. Cost: of "
        "training that stage alone, all seeds, without those that it starts or learns from.",
        f"Made in {duration(found.seconds)} by `{found.command}`; jax {here.jax}, Python "
        f"{here.python}; {here.cpu}, {here.threads} of {here.cores} cores"
        f"{'' if here.platform == 'cpu' else f', {here.device}'}"
        f"{f'; trained on {found.trained_on}' if found.trained_on else ''}.",
    ]


def markdown(found: Reproduction) -> str:
    rows = [HEAD, RULE, *map(cells, found.figures)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n" + "".join(f"\n{text}\n" for text in notes(found))
