"""Results for people and for other programs: a table on the screen, Markdown, CSV, JSON."""

import csv
import dataclasses
import io
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd_jax import results as results_lib
from kd_jax.checkpoint import write_json, write_text
from kd_jax.columns import Column, by_class, columns
from kd_jax.columns import compared as compared_columns
from kd_jax.columns import learnt as learnt_columns
from kd_jax.errors import UsageError
from kd_jax.noise import class_gains, summary
from kd_jax.notes import changes, classes, conventions, findings, learnt, origins
from kd_jax.results import Results, Row

HISTORIES = "histories.json"
VERSUS = (
    "Accuracy compared seed by seed (mean ± standard deviation of the differences; two-sided p of "
    "Student's t, for each comparison by itself), and what a step of training takes:"
)

Histories = dict[str, list[dict[str, Any]]]


# For people -------------------------------------------------------------------------------------


def table(results: Sequence[Results]) -> Table:
    """The table for the screen: for one run or several it fits into 80 columns."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, leading=1)
    head = columns(results)
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
    """Prints the table, and what can be said of it; the conventions are in table.md."""
    console = console or Console()
    console.print(table(results))
    found = (*changes(results), *findings(results), *classes(results), *learnt(results))
    for note in (*found, *origins(results)):
        console.print(Text(f"• {note}"))


def markdown(results: Sequence[Results]) -> str:
    """All tables and notes in GitHub's Markdown; several runs are named in the first columns."""
    versus = compared_columns(results)
    notes = (*changes(results), *findings(results), *classes(results), *origins(results))
    parts = [_markdown_table(results, columns(results))]
    if versus:
        parts += [VERSUS, _markdown_table(results, versus)]
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


# For programs -----------------------------------------------------------------------------------


def csv_text(results: Sequence[Results]) -> str:
    """All numbers in full, a row a network, a column a seed."""
    records = [_record(run, row) | more for run in results for row, more in _by_class(run)]
    fields = dict.fromkeys(name for record in records for name in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _record(run: Results, row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"experiment": run.experiment, "fingerprint": run.fingerprint}
    names = ("stage", "label", "model", "parameters", "prunable", "macs", "bytes_dense", "seconds")
    names = (*names, "step_ms")
    record |= {name: getattr(row, name) for name in names}
    for name, values in results_lib.per_seed(row):
        if "." in name or name == "class_accuracy":
            continue  # a seed's numbers of each layer and class are in results.json
        of = summary(values)
        record |= {f"{name}_mean": of.mean, f"{name}_std": "" if of.std is None else of.std}
        record |= {f"{name}_seed_{s}": x for s, x in zip(run.seeds, values, strict=True)}
    record["agrees_with"] = row.agrees_with
    for name, values in (row.similarity.namesakes if row.similarity else {}).items():
        record[f"cka_{name}_mean"] = summary(values).mean
    for batch, measured in sorted(row.latency.items(), key=lambda item: int(item[0])):
        fields = dataclasses.asdict(measured).items()
        record |= {f"latency_batch_{batch}_{name}": value for name, value in fields}
    return record


def _by_class(run: Results) -> list[tuple[Row, dict[str, float]]]:
    """(row, its accuracy on each class, and its gain over the network that it is compared with)."""
    gains = {row.stage: [of.mean for of in each] for row, _, each in class_gains(run)}
    found: list[tuple[Row, dict[str, float]]] = []
    for row in run.rows:
        means = np.mean(row.class_accuracy, axis=0).tolist() if row.class_accuracy else []
        named: dict[str, float] = {}
        for what, values in (("accuracy", means), ("gain", gains.get(row.stage, []))):
            names = [f"class_{what}_{name}_mean" for name in run.data.classes]
            named |= dict(zip(names, values, strict=False))  # no values where it is not known
        found.append((row, named))
    return found


def json_text(results: Sequence[Results]) -> str:
    """A list of the runs' results.json."""
    return json.dumps([json.loads(results_lib.to_json(run)) for run in results], indent=1) + "\n"


# On disk ----------------------------------------------------------------------------------------


def write(folder: Path | str, results: Results, histories: Histories | None = None) -> list[Path]:
    """Writes results.json, table.md, table.csv and the plots into a run's folder.

    Args:
      histories: {stage: the records of its epochs}, kept too; None: no training curves.

    Returns:
      The files.
    """
    from kd_jax import plots  # here: a table alone needs no matplotlib

    folder = Path(folder)
    results_lib.write(folder, results)
    if histories:
        write_json(folder / HISTORIES, histories)
    return [folder / results_lib.FILE, *_tables(folder, [results])] + plots.save_all(
        folder, results, histories or {}
    )


def write_report(
    folder: Path | str, results: Sequence[Results], runs: Sequence[Path | str]
) -> list[Path]:
    """Writes table.md, table.csv, table.json and plots of one or several runs into a folder.

    Args:
      runs: the runs' folders, in the order of `results`.
    """
    from kd_jax import plots

    folder = Path(folder)
    histories = _histories(Path(runs[0])) if len(results) == 1 else {}
    write_text(folder / "table.json", json_text(results))
    files = [folder / "table.json", *_tables(folder, results)]
    if len(results) > 1:
        return [*files, plots.save_sizes(folder, results)]
    return files + plots.save_all(folder, results[0], histories)


def _histories(run: Path) -> Histories:
    """What `write` kept. Raises UsageError, naming the file, where it holds anything else."""
    path = run / HISTORIES
    try:
        found = json.loads(path.read_bytes()) if path.exists() else {}
        return {stage: [*map(_checked, records)] for stage, records in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        fix = f"write it anew by python run.py evaluate {run}"
        raise UsageError(f"{path}: damaged ({error!r}): {fix}") from error


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """What the plots need, of the types that they need."""
    numbers = lambda values: [float(x) for x in values]  # noqa: E731
    found = {
        name: numbers(record[name])
        for name in ("validation_accuracy", "sparsity")
        if name in record
    }
    train = {name: numbers(values) for name, values in record["train"].items()}
    return {"epoch": int(record["epoch"]), "train": train, **found}


def _tables(folder: Path, results: Sequence[Results]) -> list[Path]:
    write_text(folder / "table.md", markdown(results))
    write_text(folder / "table.csv", csv_text(results))
    return [folder / "table.md", folder / "table.csv"]


def read(folders: Sequence[Path | str]) -> list[Results]:
    """The results of runs' folders. Raises UsageError for one that has none."""
    return [results_lib.read(Path(folder)) for folder in folders]
