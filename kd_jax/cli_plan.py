"""The verb `plan` of run.py."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
from rich.console import Console

from kd_jax import plan_table
from kd_jax.chips import CHIPS, parse, tpu_slice
from kd_jax.cli_experiment import Preset, read
from kd_jax.errors import require, shortened
from kd_jax.plan import plan
from kd_jax.progress import Screen
from kd_jax.values import is_whole

HELP = """usage: python run.py plan NAME --topology v5e:4x4 [--batch N] [--FLAG VALUE ...]

What an experiment would take on a TPU slice that is not attached: its training steps are compiled
for it ahead of time, and memory, work, traffic and the least time are read from the programs. No
data are read. These are figures of the compiler, not timings on a TPU.
NAME is one of: {names}. Needs libtpu: pip install "kd-jax[tpu]".

  --topology CHIP:SHAPE  the slice: {chips}, and its chips along each axis
  --batch N              examples a step, on all chips together (default: each stage's own);
                         auto: for each stage the largest that fits
  --out FILE             writes the plan there as JSON, and the table beside it as .md
  --smoke                the experiment in small, as with run

Every field of the experiment is a flag, as with run: --compute bfloat16, --teacher vgg16, ...
"""
OWN = ("--topology", "--batch", "--out")


def main(arguments: list[str], console: Console, names: Sequence[str], preset: Preset) -> None:
    """Plans one of the experiments named, whose config `preset` gives.

    Raises:
      UsageError: a flag, a slice or a batch that can't be.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(HELP.format(names=", ".join(names), chips=", ".join(CHIPS)), end="")
        return
    _, experiment, own = read("plan", arguments, OWN, names, preset)
    require(
        "--topology" in own,
        f"plan needs --topology, a slice such as v5e:4x4; chips: {', '.join(CHIPS)}",
    )
    parse(own["--topology"])
    batch = _batch(own.get("--batch"))
    if not jax.config.jax_platforms:  # type: ignore[attr-defined]
        # It computes nothing: it must not wait for an accelerator, nor take one from others.
        jax.config.update("jax_platforms", "cpu")
    target = tpu_slice(own["--topology"])
    made = plan(experiment, target, batch, Screen(console).note)
    plan_table.show(made, console)
    if "--out" in own:
        path = Path(own["--out"])
        plan_table.write(made, path, f"python run.py plan {shlex.join(arguments)}")
        Screen(console).line(f"plan: {path}, table: {path.with_suffix('.md')}")


def _batch(word: str | None) -> int | Literal["auto"] | None:
    if word is None or word == "auto":
        return word
    fits = is_whole(word) and 0 < int(word) < 2**31
    require(fits, f"--batch {shortened(repr(word))}: must be a whole number above 0, or auto")
    return int(word)
