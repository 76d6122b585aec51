"""A benchmark for people and for other programs: tables on the screen, Markdown, JSON."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd_jax.bench.timings import Compared, Measured, Result
from kd_jax.environment import environment
from kd_jax.results import Environment
from kd_jax.units import amount, duration, significant
from kd_jax.writing import write_json, write_text

FORMAT = 1  # of bench.json; goes up when an old file can no longer be read
QUIET = 0.1  # of the cores: less than this disturbs nobody

SPREAD = "10–90 %"
ROWS = ("what", "batch", "examples/s", "step", SPREAD, "compile", "first step", "peak memory")
RATIOS = ("ratio", "median", SPREAD, "best")

CONVENTIONS = (
    "Each row is a process of its own; the rows of a case take turns, a block of steps each. Step: "
    "median over the blocks of the mean time in a block; 10–90 %: percentiles of the blocks. "
    "Examples/s: of the median step, those of all seeds counted.",
    "Ratio: of the two blocks of each round, in examples a second, or in time a step where it is "
    "one of costs or seeds; best: of the fastest blocks of both.",
    "Compile: what the first step took longer than the median one (PyTorch's warm-up). First "
    "step: from the start of the process to the end of that step.",
    "Peak memory: the most that the row's process had resident, with interpreter, libraries and "
    "data (VmHWM; where the system has none, ru_maxrss of getrusage).",
    "Batches are drawn from random uint8 images that lie in memory, and normalised in the step; "
    "without augmentation, except in digits. Collected: the teacher's logits are there already.",
)


def row_cells(row: Measured) -> tuple[str, ...]:
    """What stands under ROWS."""
    low, median, high = np.percentile(row.seconds, (10, 50, 90))
    return (
        row.label,
        str(row.batch),
        significant(row.batch * row.seeds / median),
        duration(median),
        _span(duration(low), duration(high)),
        duration(row.compile) if row.compile else "–",
        duration(row.first_step),
        amount(row.peak_bytes, "B"),
    )


def _span(low: str, high: str) -> str:
    """182 – 261 ms: the unit once where it is the same."""
    number, _, unit = low.rpartition(" ")
    return f"{number if high.endswith(f' {unit}') else low} – {high}"


def ratio_cells(compared: Compared) -> tuple[str, ...]:
    """What stands under RATIOS."""
    low, median, high = (significant(x) for x in np.percentile(compared.ratios, (10, 50, 90)))
    return compared.label, median, _span(low, high), significant(compared.best)


def warning(result: Result) -> str:
    """That the machine was not free, if so."""
    if result.busy is None or result.busy < QUIET:
        return ""
    return (
        f"warning: {result.case}: other processes kept {100 * result.busy:.0f} % of the cores busy "
        "when it began; timings, and ratios more so, are only to be trusted on a free machine"
    )


# For people -------------------------------------------------------------------------------------


def show(result: Result, console: Console) -> None:
    """Prints one case."""
    console.print(Text(f"{result.case}: {result.about}", style="bold"))
    console.print(_table(ROWS, [row_cells(row) for row in result.rows]))
    if result.compared:
        console.print(_table(RATIOS, [ratio_cells(compared) for compared in result.compared]))
    if warning(result):
        console.print(Text(warning(result), style="yellow"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """For 80 columns: the spread stands below its median; only the first column is broken."""
    spread = head.index(SPREAD)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), leading=1)
    for i, name in enumerate(head):
        if i != spread:
            below = f"\n{SPREAD}" if i == spread - 1 else ""
            table.add_column(name + below, justify="right" if i else "left", no_wrap=i > 0)
    for row in rows:
        cells = [*row[: spread - 1], f"{row[spread - 1]}\n{row[spread]}", *row[spread + 1 :]]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def markdown(results: Sequence[Result], command: str, machine: Environment) -> str:
    """Both tables, where they come from and what they mean, in GitHub's Markdown."""
    rows = [(r.case, *row_cells(row)) for r in results for row in r.rows]
    ratios = [(r.case, *ratio_cells(compared)) for r in results for compared in r.compared]
    warnings = [warning(result) for result in results if warning(result)]
    parts = [_lines(("case", *ROWS), rows), _lines(("case", *RATIOS), ratios) if ratios else ""]
    notes = (origin(results, command, machine), *warnings, *CONVENTIONS)
    parts += ["\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * 2 + ["---:"] * (len(head) - 2)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def origin(results: Sequence[Result], command: str, machine: Environment) -> str:
    """By which command, with which versions, where."""
    versions = {f"jax {machine.jax}": 0, f"flax {machine.flax}": 0}
    rows = (row for result in results for row in result.rows)
    for row in rows:
        versions |= {f"{name} {value}": 0 for name, value in row.versions.items()}
    return (
        f"Made by `{command}`; {', '.join(versions)}, Python {machine.python}; {machine.cpu}, "
        f"{machine.threads} of {machine.cores} cores; {machine.platform}."
    )


# For programs -----------------------------------------------------------------------------------


def data(results: Sequence[Result], command: str, machine: Environment) -> dict[str, Any]:
    """All numbers in full, block by block; times in seconds."""
    return {
        "format": FORMAT,
        "command": command,
        "environment": dataclasses.asdict(machine),
        "results": [dataclasses.asdict(result) for result in results],
        "convention": list(CONVENTIONS),
    }


def write(folder: Path, results: Sequence[Result], command: str) -> list[Path]:
    """Writes bench.md and bench.json; gives the files."""
    machine = environment()
    files = [folder / "bench.md", folder / "bench.json"]
    write_text(files[0], markdown(results, command, machine))
    write_json(files[1], data(results, command, machine))
    return files
