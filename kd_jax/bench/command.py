"""The flags of `run.py bench`."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_type_hints

from rich.console import Console

from kd_jax import values
from kd_jax.bench import report
from kd_jax.bench.cases import CASES
from kd_jax.bench.measure import Options, results
from kd_jax.errors import UsageError

HELP = """usage: python run.py bench [CASE ...] [--FLAG VALUE ...]

Measures training steps as `run` computes them, on synthetic data: examples per second, time a step,
compile time, time to the first step, peak memory. Without a CASE: all of them.

{cases}

  --against torch      runs the same nets, batches and loss in PyTorch too (eager, channels_last),
                       in turns with kd_jax, and prints the ratio; needs the extra torch
  --torch-python PATH  the Python interpreter that has PyTorch, if it is another than this one
  --batch N            another batch size than the case's own
  --rounds N           blocks of steps of each row (default: {rounds})
  --steps N            steps a block (default: as many as take 1.5 seconds)
  --out FOLDER         writes bench.md and bench.json there"""

FIELDS = {
    "--against": "against",
    "--torch-python": "torch_python",
    "--batch": "batch",
    "--rounds": "rounds",
    "--steps": "steps",
}
FLAGS = (*FIELDS, "--out")


def usage() -> str:
    width = max(map(len, CASES))
    cases = "\n".join(f"  {name:{width}}  {case.about}" for name, case in CASES.items())
    return HELP.format(cases=cases, rounds=Options().rounds)


def read(given: Mapping[str, str]) -> Options:
    """The options that flags spell. Raises UsageError, naming the flag."""
    kinds = get_type_hints(Options)
    spelled = {FIELDS[flag]: (flag, word) for flag, word in given.items() if flag in FIELDS}
    read = {name: values.read(kinds[name], [word], flag) for name, (flag, word) in spelled.items()}
    return Options(**read)


def run(
    names: Sequence[str], given: Mapping[str, str], console: Console, say: Callable[[str], None]
) -> None:
    """Measures, shows each case when it is done, and writes what there is into --out."""
    options, out = read(given), given.get("--out")
    if out:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--out {out}: can't write there ({error.strerror}): choose another folder"
            ) from error
    flags = [word for flag, value in given.items() for word in (flag, value)]
    command = f"python run.py bench {shlex.join([*names, *flags])}".rstrip()
    found = []
    for result in results(names, options, say):
        found.append(result)
        report.show(result, console)
        if out:
            files = report.write(Path(out), found, command)
    if out:
        say(f"written: {', '.join(map(str, files))}")
