"""The verb `list`: what there is."""

import importlib
import re
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kd_jax.distill.methods import methods
from kd_jax.errors import UsageError
from kd_jax.prune import CRITERIA, PENALTIES, SCHEDULES, STRUCTURES

HELP = """usage: python run.py list [terms|pruning]

The experiments: what, on which data, at what cost; or the distillation terms: what the student
learns, and who published it; or what a pruning stage can choose from.
"""
CHOICES = {
    "criterion": CRITERIA,
    "structure": STRUCTURES,
    "schedule": SCHEDULES,
    "penalty": PENALTIES,
}


def main(arguments: list[str], console: Console, experiments: Sequence[str]) -> None:
    """Prints what there is of a kind."""
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
    elif arguments == ["terms"]:
        for method in methods():
            paper = f"{method.authors}, {method.title}, {method.year}, {method.link}"
            _show(console, method.name, [method.about, paper if method.title else "–"])
    elif arguments == ["pruning"]:
        for field, table in CHOICES.items():
            for name, entry in table.items():
                about = (type(entry).__doc__ or "").split("\n\n")[0]
                _show(console, name, [f"--prune.{field} {name}", " ".join(about.split())])
    elif arguments:
        raise UsageError(f"list takes nothing, terms or pruning, but got {' '.join(arguments)}")
    else:
        for name in experiments:
            _show(console, name, _facts(name))


def _facts(experiment: str) -> list[str]:
    text = importlib.import_module(f"experiments.{experiment}").__doc__ or ""
    about = text.strip().partition("\n")[0]
    return [about, f"data: {_fact(text, 'Data')}", f"cost: {_fact(text, 'Cost')}"]


def _fact(text: str, name: str) -> str:
    """What stands behind `name: `, on one line or on several, up to the next such name."""
    found = re.search(rf"^{name}: (.*?)(?=^[A-Z]\w*: |^$|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found.group(1).split()) if found else "?"


def _show(console: Console, name: str, lines: Sequence[str]) -> None:
    # No table: it would cut the names, which are what one has to type.
    console.print(Text(name, style="bold"))
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 4)))
