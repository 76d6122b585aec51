"""How long networks take to answer, as a table: on the screen, and in files."""

import csv
import dataclasses
import io
from pathlib import Path

from kd_jax.latencies import Latencies, Timing
from kd_jax.latency import Latency
from kd_jax.units import amount, ratio
from kd_jax.writing import write_json, write_text

HEAD = ("network", "runtime", "batch", "ms", "10 % to 90 %", "times as fast", "temporary memory")


def cells(timing: Timing) -> tuple[str, ...]:
    """A row of the table, as HEAD has it."""
    times = "–" if timing.times is None else ratio(timing.times)
    memory = "–" if timing.temporary_bytes is None else amount(timing.temporary_bytes, "B")
    batch = str(timing.batch)
    return timing.name, timing.where, batch, timing.ms, timing.spread, times, memory


def notes(found: Latencies) -> list[str]:
    """What is to be known beside the table."""
    said = [f"{found.environment.cpu}, {found.environment.threads} threads.", found.convention]
    if found.unsteady:
        said.insert(
            0,
            f"* {found.unsteady} of {len(found.timings)} timings are unsteady (their 90th "
            "percentile is over twice the 10th): the machine had other work. Measure again when it "
            "is free.",
        )
    return said


def markdown(found: Latencies) -> str:
    rule = ["---", "---", *["---:"] * (len(HEAD) - 2)]
    rows = [HEAD, rule, *map(cells, found.timings)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"# Latency of {found.run}, seed {found.seed}", "", *lines, ""]) + "".join(
        f"\n{text}\n" for text in notes(found)
    )


def write(folder: Path, found: Latencies) -> None:
    """Writes latency.json, latency.csv and latency.md."""
    write_json(folder / "latency.json", dataclasses.asdict(found))
    write_text(folder / "latency.md", markdown(found))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    plain = [f.name for f in dataclasses.fields(Timing) if f.name != "latency"]
    own = [f.name for f in dataclasses.fields(Latency)]
    table.writerow([*plain, *own, "unsteady"])
    for timing in found.timings:
        values = [getattr(timing, name) for name in plain]
        latency = [getattr(timing.latency, name) for name in own]
        table.writerow([*values, *latency, timing.latency.unsteady])
    write_text(folder / "latency.csv", text.getvalue())
