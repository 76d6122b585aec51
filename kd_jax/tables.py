"""Results for people: tables and notes on the screen and in Markdown."""

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd_jax import savings, sparse, sparsities
from kd_jax.columns import WIDEST, Column, by_class, columns, zeros
from kd_jax.columns import compared as compared_columns
from kd_jax.columns import learnt as learnt_columns
from kd_jax.columns_gates import gates
from kd_jax.notes import (
    VERSUS,
    changes,
    classes,
    conventions,
    delivered,
    findings,
    learnt,
    origins,
)
from kd_jax.results import Results, with_rows


def table(results: Sequence[Results], head: Sequence[Column] = ()) -> Table:
    """The table for the screen, of these columns or the usual ones: for one run or several it fits
    into 80 columns."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, leading=1)
    head = head or columns(results)
    rows = [
        [column.cell(run, row).lines() for column in head] for run in results for row in run.rows
    ]
    for column, texts in zip(head, zip(*rows, strict=True), strict=True):
        _add_column(shown, column, texts)
    rest = iter(rows)
    for run in results:
        if len(results) > 1:
            shown.add_row(Text(f"{run.experiment}\n{run.fingerprint}", style="bold"))
        for _, cells in zip(run.rows, rest, strict=False):
            name, *numbers = cells
            shown.add_row(_narrow(name), *(Text(cell, justify="right") for cell in numbers))
    return shown


def _add_column(shown: Table, column: Column, texts: Sequence[str]) -> None:
    """Nothing is cut, and lines break where we say: rich would squeeze a column to nothing."""
    words = column.header.split()
    width = max(len(line) for text in (*texts, *words) for line in text.split("\n"))
    header = column.header if not column.numeric else textwrap.fill(column.header, width)
    justify = "right" if column.numeric else "left"
    shown.add_column(Text(header, justify=justify, style="bold"), no_wrap=True, justify=justify)


def _narrow(name: str) -> Text:
    return Text(textwrap.fill(name, 12, break_long_words=False))


def show(results: Sequence[Results], console: Console | None = None) -> None:
    """Prints the tables, and what can be said of them; the conventions are in table.md."""
    console = console or Console()
    few = all(len(run.rows) <= WIDEST for run in results)
    if few:
        console.print(table(results))
    for run in results:
        _show_sparsities(run, console)
    for said, some, head in _further(results):
        if few or not any(map(sparsities.curves, results)):
            console.print(Text(f"\n{said}\n"), table(some, head))
    found = (*changes(results), *findings(results), *classes(results), *learnt(results))
    for note in (*found, *delivered(results), *origins(results)):
        console.print(Text(f"• {note}"))


def _show_sparsities(run: Results, console: Console) -> None:
    """Accuracy of each stage that was swept over sparsity, at each."""
    lines = sparsities.table(run)
    if lines:
        shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
        for i, text in enumerate(lines[0]):
            shown.add_column(text, justify="right" if i else "left")
        for line in lines[1:]:
            shown.add_row(*line)
        console.print(shown)


def markdown(results: Sequence[Results]) -> str:
    """All tables and notes in GitHub's Markdown; several runs are named in the first columns."""
    notes = (*changes(results), *findings(results), *classes(results), *delivered(results))
    notes = (*notes, *origins(results))
    parts = [_markdown_table(results, columns(results))]
    for run in results:
        lines = sparsities.table(run)
        parts += [_piped(lines, [False] + [True] * (len(lines[0]) - 1))] if lines else []
    for said, some, head in _further(results):
        parts += [said, _markdown_table(some, head)]
    parts.append("\n".join(f"- {note}" for note in (*notes, *conventions(results))))
    more = learnt_columns(results)
    if more:
        parts += ["What the networks learnt, beyond accuracy:", _markdown_table(results, more)]
    for run in results:
        of = f" of {run.experiment} {run.fingerprint}" if len(results) > 1 else ""
        lines = by_class(run)
        if lines:
            parts.append(
                f"Accuracy by class{of}, %, mean over seeds (and its gain over the network that a "
                "network is compared with, points):"
            )
            parts.append(_piped(lines, [False] + [True] * (len(lines[0]) - 1)))
    return "\n\n".join(parts) + "\n"


def _further(
    results: Sequence[Results],
) -> list[tuple[str, Sequence[Results], Sequence[Column]]]:
    """(what it is, of which networks, its columns) of the tables beside the main one."""
    pruned = [with_rows(run, lambda row: bool(row.macs_nonzero)) for run in results]
    gated = [with_rows(run, lambda row: row.gating is not None) for run in results]
    found = [
        (VERSUS, results, compared_columns(results)),
        (sparse.CONVENTION, [run for run in pruned if run is not None], zeros(results)),
        (savings.CONVENTION, [run for run in gated if run is not None], gates(results)),
    ]
    return [one for one in found if one[2]]


def _markdown_table(results: Sequence[Results], head: Sequence[Column]) -> str:
    several = len(results) > 1
    lines = [["experiment", "fingerprint"] * several + [column.header for column in head]]
    for run in results:
        names = [run.experiment, run.fingerprint] * several
        lines += [names + [column.cell(run, row).line() for column in head] for row in run.rows]
    return _piped(lines, [False] * 2 * several + [column.numeric for column in head])


def _piped(lines: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A Markdown table of a head and rows."""
    ruler = ["---:" if right else "---" for right in numeric]
    escaped = (
        " | ".join(cell.replace("|", "\\|") for cell in line)
        for line in (lines[0], ruler, *lines[1:])
    )
    return "\n".join(f"| {line} |" for line in escaped)
