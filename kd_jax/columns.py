"""The cells of the report's table: what each column shows of a network."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from kd_jax import sparse
from kd_jax.latency import Latency
from kd_jax.noise import class_gains, gain, spread, summary
from kd_jax.results import Results, Row
from kd_jax.units import amount, duration, ratio, significant

WIDEST = 12  # networks that a table can show side by side


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
    if any(row.agreement and row.has_teacher for row in rows):
        found.append(Column("agrees with teacher %", _agreement))
    found += [
        Column("parameters", lambda run, row: Cell(f"{row.parameters:,}")),
        Column("non-zero (pruned)" if pruned else "non-zero", _nonzero),
        Column("MACs", lambda run, row: Cell(amount(row.macs))),
        Column("size", _size),
    ]
    each = lambda batch: "" if batch == 1 else " (each)"  # noqa: E731
    return found + [Column(f"batch {b}, ms{each(b)}", _latency(str(b))) for b in batches]


def learnt(results: Sequence[Results]) -> list[Column]:
    """How sure of what the networks are, and what they have of their teachers, beyond accuracy: for
    a table of its own. None where no run knows."""
    rows = [row for run in results for row in run.rows]
    if not any(row.calibration_error for row in rows):
        return []
    found = [
        Column("network", lambda run, row: Cell(row.label), numeric=False),
        Column("NLL, nats", lambda run, row: Cell(spread(row.cross_entropy))),
        Column("ECE %", lambda run, row: _spread(row.calibration_error, 100)),
    ]
    if any(row.has_teacher for row in rows):
        found += [
            Column("teacher", _teacher, numeric=False),
            Column("KL from teacher, nats", _divergence),
        ]
    if any(row.pooled_cka for row in rows):
        found.append(Column("CKA of `pooled`", lambda run, row: _spread(row.pooled_cka)))
    return found


def compared(results: Sequence[Results]) -> list[Column]:
    """How each network compares with others, seed by seed, and what a step of its training takes:
    for a table of its own. None where no run names what to compare with."""
    named = [name for run in results for row in run.rows for name in row.compared_with or ()]
    if not named:
        return []
    others = [*dict.fromkeys(named)]
    found = [
        Column("network", lambda run, row: Cell(row.label), numeric=False),
        Column("accuracy %", lambda run, row: _percent(row.accuracy)),
    ]
    label = lambda name: next(row.label for run in results for row in run.rows if row.stage == name)  # noqa: E731
    found += [Column(f"against {label(name)}, points", _gain(name)) for name in others]
    if any(row.step_ms for run in results for row in run.rows):
        found.append(Column("training step, ms", _step(others[-1])))
    return found


def zeros(results: Sequence[Results]) -> list[Column]:
    """What a network's zeros are worth, in theory and measured: for a table of its own. None where
    no run has any."""
    rows = [row for run in results for row in run.rows if row.macs_nonzero]
    if not rows:
        return []
    batches = sorted({int(batch) for row in rows for batch in row.sparse})
    found = [
        Column("network", lambda run, row: Cell(row.label), numeric=False),
        Column("pruned %", lambda run, row: _percent(row.sparsity) if row.sparsity else Cell()),
        Column("MACs without zeros", _macs_nonzero),
    ]
    return found + [Column(f"batch {b}, ms: zeros left out", _left_out(str(b))) for b in batches]


def _macs_nonzero(run: Results, row: Row) -> Cell:
    if not row.macs_nonzero:
        return Cell(amount(row.macs))
    kept = summary(row.macs_nonzero).mean
    return Cell(amount(kept), extras=(ratio(row.macs / kept),) if kept else ())


def _left_out(batch: str) -> Callable[[Results, Row], Cell]:
    def cell(run: Results, row: Row) -> Cell:
        timed = row.sparse.get(batch)
        if timed is None:
            return Cell()
        if timed.sparse.median_ms >= sparse.GAIN * timed.dense.median_ms:
            return Cell(significant(timed.dense.median_ms), extras=("no faster than dense",))
        value = "~" * timed.sparse.unsteady + significant(timed.sparse.median_ms)
        times = ratio(timed.dense.median_ms / timed.sparse.median_ms)
        return Cell(value, extras=(times, f"{len(timed.layers)} of its matrices"))

    return cell


def _gain(other: str) -> Callable[[Results, Row], Cell]:
    def cell(run: Results, row: Row) -> Cell:
        if other not in (row.compared_with or ()):
            return Cell()
        found = gain(row.accuracy, run.row(other).accuracy)
        of = found.difference
        if of.std is None or found.p is None:
            return Cell(f"{100 * of.mean:+.2f}")
        p = "p < 0.001" if found.p < 1e-3 else f"p = {found.p:.3f}"
        return Cell(f"{100 * of.mean:+.2f}", f"± {100 * of.std:.2f}", (p,))

    return cell


def _step(other: str) -> Callable[[Results, Row], Cell]:
    """In brackets, how many times that of another network's training on the same kind of device."""

    def cell(run: Results, row: Row) -> Cell:
        if row.step_ms is None:
            return Cell()
        times = ()
        if other in (row.compared_with or ()):
            base = run.row(other)
            if base.step_ms and base.trained_on == row.trained_on:
                times = (ratio(row.step_ms / base.step_ms),)
        return Cell(significant(row.step_ms), extras=times)

    return cell


def _spread(values: Sequence[float] | None, scale: float = 1.0) -> Cell:
    return Cell(spread(values, scale)) if values else Cell()


def _teacher(run: Results, row: Row) -> Cell:
    return Cell(run.row(row.agrees_with).label) if row.has_teacher else Cell()


def _divergence(run: Results, row: Row) -> Cell:
    return _spread(row.kl_divergence) if row.has_teacher else Cell()


def by_class(run: Results) -> list[list[str]]:
    """A table of the accuracy on each class, its head first; empty where it is not known, or where
    a column a network would be too many. In brackets the gain over the network that a network is
    compared with."""
    rows = [row for row in run.rows if row.class_accuracy] if len(run.rows) <= WIDEST else []
    gains = {row.stage: [of.mean for of in each] for row, _, each in class_gains(run)}

    def cell(row: Row, place: int) -> str:
        value = summary([one[place] for one in row.class_accuracy or ()]).mean
        more = f" ({100 * gains[row.stage][place]:+.2f})" if row.stage in gains else ""
        return f"{100 * value:.2f}{more}"

    lines = [[name, *(cell(row, i) for row in rows)] for i, name in enumerate(run.data.classes)]
    return [["class", *(row.label for row in rows)], *lines] if rows and lines else []


def _percent(values: Sequence[float]) -> Cell:
    of = summary(values)
    return Cell(f"{100 * of.mean:.2f}", "" if of.std is None else f"± {100 * of.std:.2f}")


def _agreement(run: Results, row: Row) -> Cell:
    return _percent(row.agreement) if row.agreement and row.has_teacher else Cell()


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
        masked = row.gating is not None  # all is computed: what is not masked has a table
        if masked or row.model == first.model or batch not in first.latency:
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
