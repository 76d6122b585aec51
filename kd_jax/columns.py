"""The cells of the report's table: what each column shows of a network."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from kd_jax.latency import Latency
from kd_jax.noise import summary
from kd_jax.results import Results, Row
from kd_jax.units import amount, duration, ratio, significant


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value, its spread over seeds, and what stands below it or in brackets after it."""

    value: str = "–"
    spread: str = ""
    extras: tuple[str, ...] = ()

    def lines(self) -> str:
        """For the screen."""
        return "\n".join(part for part in (self.value, self.spread, *self.extras) if part)

    def line(self) -> str:
        """For Markdown."""
        text = f"{self.value} {self.spread}".rstrip()
        return f"{text} ({', '.join(self.extras)})" if self.extras else text


@dataclasses.dataclass(frozen=True)
class Column:
    """A header, what it shows of a row, and whether that is a number."""

    header: str
    cell: Callable[[Results, Row], Cell]
    numeric: bool = True


def columns(results: Sequence[Results]) -> list[Column]:
    """Those that some run has anything for."""
    rows = [row for run in results for row in run.rows]
    batches = sorted({int(batch) for row in rows for batch in row.latency})
    pruned = any(sum(row.sparsity or ()) > 0 for row in rows)
    found = [
        Column("network", lambda run, row: Cell(row.label), numeric=False),
        Column("accuracy %", lambda run, row: _percent(row.accuracy)),
    ]
    if any(_has_agreement(row) for row in rows):
        found.append(Column("agrees with teacher %", _agreement))
    found += [
        Column("parameters", lambda run, row: Cell(f"{row.parameters:,}")),
        Column("non-zero (pruned)" if pruned else "non-zero", _nonzero),
        Column("MACs", lambda run, row: Cell(amount(row.macs))),
        Column("size", _size),
    ]
    each = lambda batch: "" if batch == 1 else " (each)"  # noqa: E731
    return found + [Column(f"batch {b}, ms{each(b)}", _latency(str(b))) for b in batches]


def _percent(values: Sequence[float]) -> Cell:
    of = summary(values)
    return Cell(f"{100 * of.mean:.2f}", "" if of.std is None else f"± {100 * of.std:.2f}")


def _has_agreement(row: Row) -> bool:
    """Every network agrees with itself: that is no news."""
    return row.agreement is not None and row.agrees_with != row.stage


def _agreement(run: Results, row: Row) -> Cell:
    return _percent(row.agreement) if row.agreement and _has_agreement(row) else Cell()


def _nonzero(run: Results, row: Row) -> Cell:
    zeros = summary(row.sparsity).mean if row.sparsity else 0.0
    extras = (f"{100 * zeros:.1f} %",) if zeros > 0 else ()
    return Cell(f"{summary(row.nonzero).mean:,.0f}", extras=extras)


def _size(run: Results, row: Row) -> Cell:
    stored, first = summary(row.bytes).mean, summary(run.rows[0].bytes).mean
    smaller = () if row is run.rows[0] or stored == 0 else (ratio(first / stored),)
    return Cell(amount(stored, "B"), extras=smaller)


def _latency(batch: str) -> Callable[[Results, Row], Cell]:
    def cell(run: Results, row: Row) -> Cell:
        measured, first = row.latency.get(batch), run.rows[0]
        if measured is None:
            return Cell()
        value = "~" * measured.unsteady + significant(measured.median_ms)
        each = () if batch == "1" else (duration(measured.median_ms / 1e3 / int(batch)),)
        if row.model == first.model or batch not in first.latency:
            return Cell(value, extras=each)
        one, other = _timings(run, first.model, batch), _timings(run, row.model, batch)
        if any(timing.unsteady for timing in (*one, *other)):
            return Cell(value, extras=each)
        return Cell(value, extras=(*each, ratio(_median(one) / _median(other))))

    return cell


def _timings(run: Results, model: str, batch: str) -> list[Latency]:
    """Of all the networks of a model: they run one program, whatever their zeros, so a difference
    between them is the clock's noise and no reason to call one of them faster."""
    of_batch = [row.latency.get(batch) for row in run.rows if row.model == model]
    return [timing for timing in of_batch if timing is not None]


def _median(timings: Sequence[Latency]) -> float:
    return float(np.median([timing.median_ms for timing in timings]))
