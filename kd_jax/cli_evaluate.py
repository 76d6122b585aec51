"""The verb `evaluate` of run.py: of a run's folder, or of a file that `encode` wrote."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from kd_jax import delivery, encode, files, locks, pipeline, report, summary, tables
from kd_jax.data import load
from kd_jax.errors import require
from kd_jax.progress import Screen
from kd_jax.values import is_whole
from kd_jax.writing import write_json

HELP = """usage: python run.py evaluate RUN [--data.dir DIR]
       python run.py evaluate FILE.kdz [--json OUT] [--most N] [--data.dir DIR]

Reads the networks of a finished run from its folder RUN, evaluates them anew on the test split,
measures latency, and writes the table and plots again; or evaluates the one network in a file that
encode wrote, which needs nothing of the run.

  --data.dir DIR  where tensorflow-datasets keeps its sets, if no longer where the run found them
  --json OUT      of a file: writes what it finds there
  --most N        of a file: how many numbers it may hold; without it as many as can be expected
                  of its bytes, so that no small file fills the memory
"""
OWN = ("--data.dir", "--json", "--most")


def main(words: Sequence[str], options: Mapping[str, str], command: str, console: Console) -> None:
    """Evaluates the networks of a run's folder, or the one in a file.

    Raises:
      UsageError: no such run or file, or one that is damaged.
    """
    require(len(words) == 1, "evaluate takes one run; use report for several")
    place, data_dir = Path(words[0]), options.get("--data.dir", "")
    if place.is_file() or place.suffix == ".kdz":
        _file(place, data_dir, options, console)
        return
    require("--json" not in options, "--json is for a file: of a run, RUN/results.json says all")
    require("--most" not in options, "--most is for a file: leave it out")
    with closing(Screen(console)) as screen, locks.around(place, out=False):
        run = pipeline.open_run(place, screen, data_dir)
        results = summary.summarise(run, command, screen)
        results = delivery.delivered(run, results, screen)
        report.write(run.folder, results, summary.histories(run, screen))
        tables.show([results], console)


def _file(path: Path, data_dir: str, options: Mapping[str, str], console: Console) -> None:
    out, most = options.get("--json"), options.get("--most")
    require(
        most is None or is_whole(most),
        f"--most {most}: give a whole number, as of numbers that the file may hold",
    )
    with closing(Screen(console)) as screen:
        screen.note(f"decoding {path}")
        loaded = encode.load(path, None if most is None else int(most))
        data = load(dataclasses.replace(loaded.about.data, dir=data_dir))
        loaded.check(data)
        reading = files.read(loaded.model, data, loaded.snapshot)
        origin = ", ".join(f"{name} {value}" for name, value in loaded.about.origin.items())
        screen.line(f"{path}: {path.stat().st_size:,} bytes ({origin})")
        screen.line(
            f"accuracy {100 * reading.accuracy:.2f} %, cross-entropy {reading.cross_entropy:.4f} "
            f"nats, on {reading.examples:,} test examples"
        )
        if out is not None:
            write_json(Path(out), dataclasses.asdict(reading))
