"""Puts a finished run into the docs: `python docs/publish.py RUN`.

Copies its results, table and plots to docs/EXPERIMENT/, and writes the table into the README
between the marks of that experiment, if it has them. What `reproduce` found of published figures
goes, for all experiments in the docs, into docs/results.md and the README. So no number in the docs
is typed by hand.
"""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from kd_jax import cli, notes, report, reproduction, tables
from kd_jax.results import Results

ROOT = Path(__file__).resolve().parent.parent
FILES = ("results.json", "table.md", "sizes.png", "training.png", "layers.png")
FILES = (*FILES, "similarity.png", "sparsities.png", "ranking.png", reproduction.FILE)
PAPERS = "papers"  # the README's marks


def readme_table(results: Results) -> str:
    """The table without its notes, what the one file is worth, and where it was measured."""
    table, _, _ = tables.markdown([results]).partition("\n\n")
    machine = results.environment
    where = f"{machine.cpu}, {machine.threads} of {machine.cores} cores"
    where = f"{where}; Python {machine.python}, jax {machine.jax}"
    seeds = f"mean ± standard deviation of {len(results.seeds)} seeds"
    trained = "".join(f"; trained on {place}" for place in results.elsewhere)
    made = f"{seeds}; {where}{trained}; `{results.command}` in {results.seconds:.0f} s"
    return "\n\n".join((table, *notes.delivered([results]), made))


def with_table(readme: str, experiment: str, text: str) -> str:
    """The README with what stands between <!-- NAME --> and <!-- /NAME --> replaced."""
    marks = rf"(<!-- {experiment} -->\n).*?(<!-- /{experiment} -->)"
    return re.sub(marks, lambda m: f"{m.group(1)}{text}\n{m.group(2)}", readme, flags=re.DOTALL)


def reproductions(docs: Path) -> list[reproduction.Reproduction]:
    """What was found of published figures, of all experiments in the docs."""
    return [reproduction.read(path) for path in sorted(docs.glob(f"*/{reproduction.FILE}"))]


def results_page(found: Sequence[reproduction.Reproduction]) -> str:
    """docs/results.md: what was run, and then what papers report of what was not."""
    there = {one.experiment for one in found}
    parts = [f"## {one.experiment}\n\n{reproduction.markdown(one)}" for one in found]
    for name in cli.names():
        figures, _ = cli.published(name)
        if name not in there and any(figure.published is not None for figure in figures):
            parts.append(f"## {name}: not run here\n\n{reproduction.not_run(figures)}")
    head = "# Papers: theirs and ours\n\nMade by `run.py reproduce`; no number is typed by hand.\n"
    return "\n".join([head, *parts])


def papers_table(found: Sequence[reproduction.Reproduction]) -> str:
    """The README's, without sources and costs."""
    names = [n for n in reproduction.HEAD if n not in ("source", "cost")]
    places = [reproduction.HEAD.index(name) for name in names]
    rows = [["experiment", *names], ["---", "---", *["---:"] * 3, "---"]]
    for one in found:
        for figure in one.figures:
            cells = reproduction.cells(figure)
            rows.append([f"`{one.experiment}`", *(cells[i] for i in places)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(run: Path) -> None:
    (results,) = report.read([run])
    folder = ROOT / "docs" / results.experiment
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (run / name).exists():
            shutil.copy(run / name, folder / name)
    path = ROOT / "README.md"
    text = with_table(path.read_text(encoding="utf-8"), results.experiment, readme_table(results))
    found = reproductions(folder.parent)
    (folder.parent / "results.md").write_text(results_page(found), encoding="utf-8")
    text = with_table(text, PAPERS, papers_table(found))
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
