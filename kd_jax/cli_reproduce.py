"""The verb `reproduce` of run.py."""

from collections.abc import Callable, Sequence
from contextlib import closing

from rich import box
from rich.console import Console
from rich.table import Table

from kd_jax import cli_run, hosts, reproduction
from kd_jax.config import Experiment
from kd_jax.errors import UsageError, require
from kd_jax.progress import Screen
from kd_jax.published import Figure

HELP = """usage: python run.py reproduce NAME [--smoke] [--FLAG VALUE ...]

Runs an experiment as `run` does, or goes on with it, and then shows each number that papers report
of it beside ours: mean and standard deviation of the seeds, the difference, whether that counts as
the same, and what it cost. Compression is measured on files that `encode` writes. The table goes
into the run's folder (reproduction.md, reproduction.json).

{names}
All flags are those of run NAME.
"""
Published = Callable[[str], tuple[tuple[Figure, ...], str]]


def main(
    arguments: list[str],
    command: str,
    console: Console,
    names: Sequence[str],
    preset: Callable[[str], Experiment],
    published: Published,
) -> None:
    """Raises UsageError where an experiment reproduces nothing."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(names=_known(names, published)), end="")
        return
    name = next((word for word in arguments if not word.startswith("-")), "")
    figures, remark = published(name) if name else ((), "")
    if name and not figures:
        known = ", ".join(n for n in names if published(n)[0])
        raise UsageError(f"reproduce {name}: it has no PUBLISHED: take {known}")
    with (
        closing(Screen(console)) as screen,
        cli_run.made("reproduce", arguments, command, screen, names, preset) as (run, results),
    ):
        if not hosts.first():
            return
        found = reproduction.compare(run, results, figures, screen, remark)
        require(bool(found.figures), f"reproduce {name}: no stage that has a published figure ran")
        reproduction.write(run.folder, found)
        console.print(table(found))
        for text in reproduction.notes(found):
            console.print(text)
        screen.line(f"table: {run.folder}/reproduction.md")


def _known(names: Sequence[str], published: Published) -> str:
    """A line for each experiment that reproduces something."""
    counts = {name: len(published(name)[0]) for name in names}
    width = max(map(len, names))
    return "".join(f"  {n:<{width}}  {c} figures\n" for n, c in counts.items() if c)


def table(found: reproduction.Reproduction) -> Table:
    """For the screen: without sources, which are in the file."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    place = reproduction.HEAD.index("source")
    for head in reproduction.HEAD:
        if head != "source":
            shown.add_column(head, justify="left" if head in ("what", "verdict") else "right")
    for figure in found.figures:
        row = [*reproduction.cells(figure)]
        del row[place]
        shown.add_row(*row)
    return shown
