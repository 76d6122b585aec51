"""The verb `list`: what there is."""

import importlib
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kd_jax.distill.methods import methods
from kd_jax.errors import UsageError

HELP = """usage: python run.py list [terms]

The experiments: what, on which data, at what cost; or the distillation terms: what the student
learns, and who published it.
"""


def main(arguments: list[str], console: Console, experiments: Sequence[str]) -> None:
    """Prints what there is of a kind."""
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
    elif arguments == ["terms"]:
        for method in methods():
            paper = f"{method.authors}, {method.title}, {method.year}, {method.link}"
            _show(console, method.name, [method.about, paper if method.title else "–"])
    elif arguments:
        raise UsageError(f"list takes nothing, or terms, but got {' '.join(arguments)}")
    else:
        for name in experiments:
            _show(console, name, _facts(name))


def _facts(experiment: str) -> list[str]:
    text = importlib.import_module(f"experiments.{experiment}").__doc__ or ""
    lines = text.strip().splitlines()
    facts = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    return [lines[0], f"data: {facts.get('Data', '?')}", f"cost: {facts.get('Cost', '?')}"]


def _show(console: Console, name: str, lines: Sequence[str]) -> None:
    # No table: it would cut the names, which are what one has to type.
    console.print(Text(name, style="bold"))
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 4)))
