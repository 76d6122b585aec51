"""The verb `run` of run.py."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import jax
from rich.console import Console

from kd_jax import (
    delivery,
    flags,
    hosts,
    locks,
    pipeline,
    report,
    serialize,
    summary,
    tables,
    transfer,
)
from kd_jax.config import Experiment, smoke
from kd_jax.errors import UsageError
from kd_jax.progress import Screen
from kd_jax.results import Results
from kd_jax.runs import Run

HELP = """usage: python run.py run NAME [--smoke] [--FLAG VALUE ...]

Runs an experiment, or goes on with it where it was interrupted; what is done is not done again.
NAME is one of: {names}; or a file of your own, FILE.py, that has a CONFIG.

  --smoke          a quick check that it works: smallest models, few examples, two epochs
  --only STAGE ... just these stages and what they need
  --seeds N        how many runs with different seeds
  --out FOLDER     where the run's folder goes (default: runs)
  --hosts auto     train with other hosts that run the same command and share the folder; TPU
                   slices, SLURM and Open MPI tell each its place, elsewhere:
                   --hosts ADDRESS:PORT,COUNT,INDEX
  --use FILE.py    add what a file of yours has in its tables TERMS, CRITERIA, STRUCTURES,
                   SCHEDULES, PENALTIES, CALIBRATIONS, MODELS; flags then know it by name

Every field of the experiment is a flag: python run.py run NAME --help lists them.
"""


def main(
    arguments: list[str],
    command: str,
    console: Console,
    names: Sequence[str],
    preset: Callable[[str], Experiment],
) -> None:
    """Runs an experiment, or goes on with it, and shows its results."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(HELP.format(names=", ".join(names)), end="")
        return
    with (
        closing(Screen(console)) as screen,
        made("run", arguments, command, screen, names, preset) as (run, results),
    ):
        tables.show([results], console)
        screen.line(f"table, plots and networks: {run.folder}")


@contextmanager
def made(
    verb: str,
    arguments: list[str],
    command: str,
    screen: Screen,
    names: Sequence[str],
    preset: Callable[[str], Experiment],
) -> Iterator[tuple[Run, Results]]:
    """A run, once all of its stages are done, and what it has found, written into its folder; and
    within it no other process may write there.

    Raises:
      UsageError: no such experiment, or flags that it can't have; or another process is at work in
        the run's folder.
    """
    quick = "--smoke" in arguments
    arguments = [word for word in arguments if word != "--smoke"]
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"{verb} takes an experiment's name first: {', '.join(names)}")
    name, *rest = arguments
    base = smoke(preset(name)) if quick else preset(name)
    experiment = transfer.pinned(flags.parse(base, rest, f"python run.py {verb} {name}"))
    folder = pipeline.folder_of(experiment)
    with _compiling(quick):
        screen.line(f"{name} -> {folder}")
        for line in serialize.describe(base, experiment):
            screen.note(line)
        run = pipeline.prepare(experiment, folder, screen)
    with pipeline.claimed(experiment, folder) as alone:
        if not alone:
            screen.note(locks.unsure(folder))
        with _compiling(quick):
            pipeline.train(run, screen, alone)
            changes = ["--smoke"] * quick
            changes += serialize.describe(serialize.what(base), serialize.what(experiment))
            results = summary.summarise(run, command, screen, changes)
            if hosts.first():
                results = delivery.delivered(run, results, screen)
                report.write(folder, results, summary.histories(run, screen))
        yield run, results


@contextmanager
def _compiling(quick: bool) -> Iterator[None]:
    """With `quick`, XLA optimises little: compiling is most of what a check takes."""
    option = "jax_disable_most_optimizations"
    before = jax.config.read(option)
    jax.config.update(option, quick or before)
    try:
        yield
    finally:
        jax.config.update(option, before)
