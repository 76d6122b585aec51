"""Puts finished runs into the docs: `python docs/publish.py RUN ...`; without RUN, makes anew what
is made of what the docs have.

Copies its results, table and plots to docs/EXPERIMENT/, and writes the table into the README
between the marks of that experiment, if it has them. Of several runs, the last one's folder gets
the plot of all their networks' accuracy against what they cost. What `reproduce` found of published
figures goes, for all experiments in the docs, into docs/results.md and the README. So no number in
the docs is typed by hand.
"""

import dataclasses
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from kd_jax import cli, notes, plots, plots_pareto, published, report, reproduction, tables
from kd_jax.data import ANEW
from kd_jax.errors import UsageError
from kd_jax.results import Results

ROOT = Path(__file__).resolve().parent.parent
FILES = ("results.json", "table.md", "sizes.png", "training.png", "layers.png")
FILES = (*FILES, "similarity.png", "sparsities.png", "ranking.png", reproduction.FILE)
PAPERS = "papers"  # the README's marks
HEAD = """# Papers: theirs and ours

What `run.py reproduce` found, put here by `docs/publish.py`; no number is typed by hand.
"""


def readme_table(results: Results) -> str:
    """The table without its notes, what the one file is worth, and where it was measured."""
    table, _, _ = tables.markdown([results]).partition("\n\n")
    machine = results.environment
    where = f"{machine.cpu}, {machine.threads} of {machine.cores} cores"
    where = f"{where}; Python {machine.python}, jax {machine.jax}"
    several = len(results.seeds) > 1
    seeds = f"mean ± standard deviation of {len(results.seeds)} seeds" if several else "one seed"
    trained = "".join(f"; trained on {place}" for place in results.elsewhere)
    made = f"{seeds}; {where}{trained}; `{results.command}` in {results.seconds:.0f} s"
    return "\n\n".join((table, *notes.delivered([results]), made))


def with_table(readme: str, experiment: str, text: str) -> str:
    """The README with what stands between <!-- NAME --> and <!-- /NAME --> replaced."""
    marks = rf"(<!-- {experiment} -->\n).*?(<!-- /{experiment} -->)"
    return re.sub(marks, lambda m: f"{m.group(1)}{text}\n{m.group(2)}", readme, flags=re.DOTALL)


def reproductions(docs: Path) -> list[reproduction.Reproduction]:
    """What was found of published figures, of all experiments in the docs."""
    found = [reproduction.read(path) for path in sorted(docs.glob(f"*/{reproduction.FILE}"))]
    return [_judged(one) for one in found]


def _judged(one: reproduction.Reproduction) -> reproduction.Reproduction:
    """By what its experiment says now: of a recipe more may be known than when it was run."""
    figures, remark = cli.published(one.experiment)
    by_name = {(f.what, f.stage, f.measure): f for f in figures}
    of = lambda f: published.verdict(by_name[f.what, f.stage, f.measure], f.ours)  # noqa: E731
    judged = [dataclasses.replace(figure, verdict=of(figure)) for figure in one.figures]
    return dataclasses.replace(one, figures=judged, remark=" ".join(remark.split()))


def results_page(found: Sequence[reproduction.Reproduction]) -> str:
    """docs/results.md: what was run, and then what papers report of what was not."""
    there = {one.experiment for one in found}
    parts = [f"## {one.experiment}\n\n{reproduction.markdown(one)}" for one in found]
    for name in cli.names():
        figures, remark = cli.published(name)
        if name not in there and figures:
            parts.append(f"## {name}: not run here\n\n{reproduction.not_run(figures, remark)}")
    return "\n".join([HEAD, *parts])


def papers_table(found: Sequence[reproduction.Reproduction]) -> str:
    """The README's, without sources and costs."""
    names = [n for n in reproduction.HEAD if n not in ("source", "cost")]
    places = [reproduction.HEAD.index(name) for name in names]
    rows = [["experiment", *names], ["---", "---", *["---:"] * 3, "---"]]
    for one in found:
        altered = f" ({ANEW.partition(',')[0]})" if ANEW in one.data.note else ""
        name = f"`{one.experiment}`{altered}"
        for figure in one.figures:
            cells = reproduction.cells(figure)
            rows.append([name, *(cells[i] for i in places)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(runs: Sequence[Path]) -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for run in runs:
        text = with_run(text, run)
    if len(runs) > 1:
        of = report.read(runs)
        plots_pareto.save_pareto(ROOT / "docs" / of[-1].experiment, of, plots.names(of))
    found = reproductions(ROOT / "docs")
    (ROOT / "docs" / "results.md").write_text(results_page(found), encoding="utf-8")
    path.write_text(with_table(text, PAPERS, papers_table(found)), encoding="utf-8")


def with_run(readme: str, run: Path) -> str:
    """Copies what the docs show of a run. The README with its table."""
    (results,) = report.read([run])
    folder = ROOT / "docs" / results.experiment
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:  # a plot of an earlier run, which this one lacks, would show other numbers
        (folder / name).unlink(missing_ok=True)
    for path in (*(run / name for name in FILES), *run.glob("encoded/*.md")):
        if path.exists():
            shutil.copy(path, folder / path.name)
    return with_table(readme, results.experiment, readme_table(results))


if __name__ == "__main__":
    try:
        main([Path(run) for run in sys.argv[1:]])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
