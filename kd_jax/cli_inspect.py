"""The verb `inspect` of run.py."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from kd_jax import pipeline
from kd_jax.checks import example_shape
from kd_jax.cli_experiment import Preset, read
from kd_jax.errors import require, shortened
from kd_jax.progress import Screen
from kd_jax.prune import Group, Structure, trace

HELP = """usage: python run.py inspect NAME [--model student] [--draw FILE] [--FLAG VALUE ...]

What of a network can be cut as a whole: groups of units (channels of a residual stream, heads of
an attention, hidden units), found by tracing its forward pass, each with the parameters that would
go with it; and what is kept, and why. No data are read and nothing is computed.
NAME is one of: {names}.

  --model ROLE  teacher, student or assistant (default: student)
  --draw FILE   writes a plot of the groups there, a PNG file
  --smoke       the experiment in small, as with run

Every field of the experiment is a flag, as with run: --student vit_tiny, --student.width 0.5, ...
"""
OWN = ("--model", "--draw")


def main(arguments: list[str], console: Console, names: Sequence[str], preset: Preset) -> None:
    """Shows the groups of a network of one of the experiments named.

    Raises:
      UsageError: a flag or a role that can't be.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(HELP.format(names=", ".join(names)), end="")
        return
    name, experiment, own = read("inspect", arguments, OWN, names, preset)
    run = pipeline.planned(experiment)
    role = own.get("--model", "student")
    there = ", ".join(run.models)
    shown = shortened(role)
    require(role in run.models, f"--model {shown}: {name} has no such network, but {there}")
    _, *shape = example_shape(run.data).shape
    structure = trace(run.models[role], (2, *shape))
    show(structure, console)
    if "--draw" in own:
        Screen(console).line(f"plot: {draw(structure, Path(own['--draw']), f'{name}: {role}')}")


def show(structure: Structure, console: Console) -> None:
    """Prints a line a group, and a line for each reason to keep something."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("group", overflow="fold")
    for head in ("units", "parameters each", "layers"):
        table.add_column(head, justify="right")
    for group in structure.groups:
        cells = (f"{group.size:,}", f"{each(structure, group):,}", f"{len(layers(group))}")
        table.add_row(short(group.name), *cells)
    console.print(table)
    for reason in dict.fromkeys(note.reason for note in structure.notes):
        notes = [note for note in structure.notes if note.reason == reason]
        first = " in ".join(part for part in (notes[0].primitive, notes[0].where) if part)
        leaves = [short(leaf) for note in notes for leaf in note.leaves]
        more = f" and {len(leaves) - 1} more" if len(leaves) > 1 else ""
        place = f" ({first})" if first else ""
        console.print(f"kept: {leaves[0]}{more} {reason}{place}", markup=False, highlight=False)


def short(name: str) -> str:
    return name.removeprefix("params/")


def layers(group: Group) -> list[str]:
    """The modules that lose something with a unit."""
    # Without the name of the collection: a norm has parameters and statistics.
    return [*dict.fromkeys(leaf.partition("/")[2].rpartition("/")[0] for leaf, _ in group.entries)]


def each(structure: Structure, group: Group) -> int:
    """Parameters that one unit takes with it, if it alone is cut."""
    sizes = {leaf: math.prod(structure.shapes[leaf]) for leaf, _ in group.entries}
    own = [(key, places) for key, places in group.entries.items() if key[0].startswith("params/")]
    rows = ((sizes[leaf] // structure.shapes[leaf][a], places) for (leaf, a), places in own)
    return sum(row * places.shape[1] for row, places in rows)


def draw(structure: Structure, path: Path, title: str) -> Path:
    """A bar a group, as long as it has units, with the parameters that each takes with it."""
    import matplotlib  # here: it takes a while to import, and the table needs none

    from kd_jax import figures

    groups = structure.groups
    with matplotlib.rc_context(figures.STYLE):
        figure, axes = figures.figure(1, 1, 1.2 + 0.22 * len(groups))
        ax = axes[0, 0]
        ax.barh(range(len(groups)), [g.size for g in groups], color=figures.colour(0))
        for row, group in enumerate(groups):
            text = f" {group.size:,} × {each(structure, group):,}"
            ax.text(group.size, row, text, va="center", fontsize=7)
        ax.set_yticks(range(len(groups)), [short(g.name) for g in groups], fontsize=7)
        ax.set_ylim(len(groups) - 0.4, -0.6)
        ax.margins(x=0.2)
        ax.set_xlabel("units × parameters that one takes with it")
        ax.set_title(f"What can be cut of {title}")
        return figures.save(figure, path)
