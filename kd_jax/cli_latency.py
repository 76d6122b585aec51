"""The verb `latency` of run.py."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from kd_jax import latencies, latencies_table, locks, pipeline
from kd_jax.cli_experiment import options
from kd_jax.errors import require, shortened
from kd_jax.latencies import Latencies, Timing
from kd_jax.progress import Screen
from kd_jax.units import amount, ratio
from kd_jax.values import is_whole

HELP = """usage: python run.py latency RUN [--stages NAME ...] [--batches 1 8 64] [--seconds 0.5]
                             [--data.dir DIR]

Times the networks of a run (one seed's), from raw images to logits, in float32: by XLA and by
onnxruntime (where the extra export is installed), with all threads and with one, each in a process
of its own, in which the networks take turns. Pruned networks are timed as they are, which is no
faster than dense, and with their zeros left out where that is faster. Writes latency.md,
latency.csv and latency.json into RUN.

  --stages ...   whose networks (default: all that are finished)
  --batches ...  how many images at once (default: 1 8 64)
  --seconds S    how long each network is timed at each batch, in each process (default: 0.5)
"""


def main(arguments: Sequence[str], console: Console) -> None:
    """Times the networks of a run's folder, and shows the table.

    Raises:
      UsageError: no such run or stage, or a number that can't be.
    """
    several = ("--stages", "--batches")
    words, said = options("latency", arguments, HELP, ("--seconds", "--data.dir"), several)
    require(len(words) == 1, "latency takes one run's folder first")
    batches = [_whole(word) for word in said.get("--batches", [])] or latencies.BATCHES
    seconds = _seconds(said["--seconds"][0]) if "--seconds" in said else latencies.SECONDS
    with closing(Screen(console)) as screen, locks.around(Path(words[0]), out=False):
        run = pipeline.open_run(Path(words[0]), screen, said.get("--data.dir", [""])[0])
        stages = said.get("--stages", ())
        found = latencies.measure(run, stages, batches, seconds, screen.note)
        latencies_table.write(run.folder, found)
        for table in tables(found):
            console.print(table)
        console.print("Below the median: 10th to 90th percentile, and XLA's temporary memory.")
        for text in latencies_table.notes(found):
            console.print(text, highlight=False)
        screen.line(f"table: {run.folder / 'latency.md'}, latency.csv, latency.json")


def _whole(word: str) -> int:
    require(is_whole(word), f"--batches {shortened(word)}: give whole numbers above 0")
    return int(word)


def _seconds(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        require(False, f"--seconds {shortened(word)}: give a number of seconds")
        raise


def tables(found: Latencies) -> list[Table]:
    """One for each runtime and number of threads: a row a network, a column a batch."""
    shown = []
    for where in dict.fromkeys(timing.where for timing in found.timings):
        here = [timing for timing in found.timings if timing.where == where]
        batches = list(dict.fromkeys(timing.batch for timing in here))
        table = Table(box=box.SIMPLE_HEAD, title=where, title_justify="left", show_edge=False)
        table.add_column("network", overflow="fold")
        for batch in batches:
            table.add_column(f"batch {batch}, ms", justify="right", no_wrap=True)
        for name in dict.fromkeys(timing.name for timing in here):
            of = {timing.batch: timing for timing in here if timing.name == name}
            cells = [_cell(of[batch]) if batch in of else "–" for batch in batches]
            table.add_row(name, *cells)
        shown.append(table)
    return shown


def _cell(timing: Timing) -> str:
    times = "" if timing.times is None else f" ({ratio(timing.times)})"
    memory = timing.temporary_bytes
    bytes_ = "" if memory is None else f"\n{amount(memory, 'B')}"
    return f"{timing.ms}{times}\n{timing.spread}{bytes_}"
