"""The verbs of run.py."""

import importlib
import pkgutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import experiments
from kd_jax import flags, pipeline, report, summary
from kd_jax.config import Experiment, smoke
from kd_jax.errors import UsageError, did_you_mean
from kd_jax.progress import Screen

HELP = """Make deep networks small, by knowledge distillation and pruning.

usage: python run.py [VERB] ...

  run NAME [--flags]   run an experiment, or go on with it; `run NAME --help` lists its flags
                       --smoke shrinks any of them to a check of less than a minute
  list                 the experiments: what, on which data, at what cost
  evaluate RUN         read the networks of a run's folder and evaluate them anew
  report RUN ...       tables and plots again, or across runs; --out FOLDER writes them there

Without a verb: run digits.
"""


def main(arguments: list[str]) -> int:
    """Runs a verb; the exit status."""
    verbs = {"run": _run, "list": _list, "evaluate": _evaluate, "report": _report}
    console = Console()
    try:
        if not arguments:
            arguments = ["run", "digits"]
        verb, *rest = arguments
        if verb in ("-h", "--help", "help"):
            print(HELP, end="")
            return 0
        if verb not in verbs:
            raise UsageError(f"unknown verb {verb!r}.{did_you_mean(verb, verbs)}")
        verbs[verb](rest, console)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def names() -> list[str]:
    """The experiments there are."""
    return sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))


def preset(name: str) -> Experiment:
    """The CONFIG of experiments/NAME.py."""
    known = names()
    if name not in known:
        raise UsageError(f"unknown experiment {name!r}.{did_you_mean(name, known)}")
    return importlib.import_module(f"experiments.{name}").CONFIG


def _run(arguments: list[str], console: Console) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        known = ", ".join(names())
        print(f"usage: python run.py run NAME [--smoke] [--flags]\n\nNAME is one of: {known}")
        return
    name, *rest = arguments
    base = preset(name)
    command = " ".join(["python run.py run", *arguments])
    if "--smoke" in rest:
        rest = [word for word in rest if word != "--smoke"]
        base = smoke(base)
    experiment = flags.parse(base, rest, f"python run.py run {name}")
    folder = pipeline.folder_of(experiment)
    console.print(f"[bold]{name}[/bold] -> {folder}")
    for line in pipeline.describe_difference(base, experiment):
        console.print(f"  {line}", highlight=False)
    screen = Screen(console)
    run = pipeline.prepare(experiment, folder, screen)
    pipeline.claim(experiment, folder)
    pipeline.train(run, screen)
    results = summary.summarise(run, command, screen)
    report.write(folder, results, summary.histories(run))
    report.show([results], console)
    console.print(f"table, plots and networks: {folder}")


def _list(arguments: list[str], console: Console) -> None:
    if arguments:
        raise UsageError(f"list takes no arguments, but got {' '.join(arguments)}")
    table = Table("experiment", "what", "data", "cost")
    for name in names():
        text = importlib.import_module(f"experiments.{name}").__doc__ or ""
        lines = text.strip().splitlines()
        facts = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        table.add_row(name, lines[0], facts.get("Data", ""), facts.get("Cost", ""))
    console.print(table)


def _options(arguments: list[str], usage: str, known: tuple[str, ...]) -> tuple[list[str], dict]:
    """(positional words, {flag: value}) of a verb with few flags."""
    words, options = [], {}
    rest = iter(flags._split(arguments))
    for word in rest:
        if word in ("-h", "--help"):
            print(usage)
            raise SystemExit(0)
        if not word.startswith("--"):
            words.append(word)
            continue
        if word not in known:
            raise UsageError(f"unknown flag {word}.{did_you_mean(word, known)}")
        options[word] = next(rest, None)
        if options[word] is None:
            raise UsageError(f"{word} takes a value")
    if not words:
        raise UsageError(f"name a run's folder. {usage.splitlines()[0]}")
    return words, options


def _evaluate(arguments: list[str], console: Console) -> None:
    usage = (
        "usage: python run.py evaluate RUN [--data.dir DIR]\n\n"
        "Reads the networks of a finished run from its folder RUN, evaluates them anew on the test "
        "split,\nmeasures latency, and writes the table and plots again. --data.dir: where "
        "tensorflow-datasets\nkeeps its sets, if no longer where the run found them."
    )
    words, options = _options(arguments, usage, ("--data.dir",))
    if len(words) > 1:
        raise UsageError("evaluate takes one run; use report for several")
    screen = Screen(console)
    run = pipeline.open_run(Path(words[0]), screen, options.get("--data.dir", ""))
    results = summary.summarise(run, f"python run.py evaluate {words[0]}", screen)
    report.write(run.folder, results, summary.histories(run))
    report.show([results], console)


def _report(arguments: list[str], console: Console) -> None:
    usage = (
        "usage: python run.py report RUN [RUN ...] [--out FOLDER]\n\n"
        "Shows the results of one or several runs in one table. Writes table.md, table.csv, "
        "table.json and\nplots: into the run's own folder, or for several runs into --out "
        "(default: report)."
    )
    words, options = _options(arguments, usage, ("--out",))
    folders = [Path(word) for word in words]
    results = report.read(folders)
    report.show(results, console)
    default = folders[0] if len(folders) == 1 else Path("report")
    out = Path(options.get("--out", default))
    report.write_report(out, results, folders)
    console.print(f"table and plots: {out}")


