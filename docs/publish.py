"""Puts a finished run into the docs: `python docs/publish.py RUN`.

Copies its results, table and plots to docs/EXPERIMENT/, and writes the table into the README
between the marks of that experiment, if it has them. So no number in the docs is typed by hand.
"""

import re
import shutil
import sys
from pathlib import Path

from kd_jax import notes, report, tables
from kd_jax.results import Results

ROOT = Path(__file__).resolve().parent.parent
FILES = ("results.json", "table.md", "sizes.png", "training.png", "layers.png")
FILES = (*FILES, "similarity.png", "sparsities.png", "ranking.png")


def readme_table(results: Results) -> str:
    """The table without its notes, what the one file is worth, and where it was measured."""
    table, _, _ = tables.markdown([results]).partition("\n\n")
    machine = results.environment
    where = f"{machine.cpu}, {machine.threads} cores; Python {machine.python}, jax {machine.jax}"
    seeds = f"mean ± standard deviation of {len(results.seeds)} seeds"
    made = f"{seeds}; {where}; `{results.command}` in {results.seconds:.0f} s"
    return "\n\n".join((table, *notes.delivered([results]), made))


def with_table(readme: str, experiment: str, text: str) -> str:
    """The README with what stands between <!-- NAME --> and <!-- /NAME --> replaced."""
    marks = rf"(<!-- {experiment} -->\n).*?(<!-- /{experiment} -->)"
    return re.sub(marks, lambda m: f"{m.group(1)}{text}\n{m.group(2)}", readme, flags=re.DOTALL)


def main(run: Path) -> None:
    (results,) = report.read([run])
    folder = ROOT / "docs" / results.experiment
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (run / name).exists():
            shutil.copy(run / name, folder / name)
    path = ROOT / "README.md"
    text = with_table(path.read_text(encoding="utf-8"), results.experiment, readme_table(results))
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
