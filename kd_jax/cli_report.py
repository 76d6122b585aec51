"""The verb `report` of run.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from kd_jax import locks, report, tables
from kd_jax.progress import Screen

HELP = """usage: python run.py report RUN [RUN ...] [--out FOLDER]

Shows the results of one or several runs in one table. Writes table.md, table.csv, table.json and
plots: into the run's own folder, or for several runs into --out (default: report)."""
OWN = ("--out",)


def main(words: Sequence[str], options: Mapping[str, str], console: Console) -> None:
    folders = [*{Path(word).resolve(): Path(word) for word in words}.values()]  # each but once
    results = report.read(folders)
    default = folders[0] if len(folders) == 1 else Path("report")
    out = Path(options.get("--out", default))
    with locks.around(out):
        report.write_report(out, results, folders)
    tables.show(results, console)
    Screen(console).line(f"table and plots: {out}")
