"""The cells of the report's table of gated networks."""

from collections.abc import Callable, Sequence

from kd_jax import savings
from kd_jax.columns import Cell, Column
from kd_jax.noise import summary
from kd_jax.results import Results, Row
from kd_jax.savings import Savings
from kd_jax.units import amount, ratio, significant


def gates(results: Sequence[Results]) -> list[Column]:
    """What gates save, counted and measured, and how far they depend on the input: for a table of
    its own. None where no network has any."""
    if not any(row.gating for run in results for row in run.rows):
        return []
    return [
        Column("network", lambda run, row: Cell(row.label), numeric=False),
        Column("units open", _of(lambda it: Cell(f"{it.kept:,} of {it.units:,}"))),
        Column("for all, none, some %", _of(_shares)),
        Column("MACs", _of(_macs)),
        Column("no gates, ms", _of(lambda it: Cell(_milliseconds(it, "dense")))),
        Column("masked, ms", _of(lambda it: Cell(_milliseconds(it, "masked")))),
        Column("gathered, ms", _of(_gathered)),
    ]


def _of(cell: Callable[[Savings], Cell]) -> Callable[[Results, Row], Cell]:
    return lambda run, row: cell(row.gating) if row.gating else Cell()


def _shares(gating: Savings) -> Cell:
    parts = (gating.always, gating.never, gating.sometimes)
    return Cell(" / ".join(f"{100 * summary(part).mean:.0f}" for part in parts))


def _macs(gating: Savings) -> Cell:
    times = ratio(gating.macs_dense / gating.macs)
    return Cell(amount(gating.macs), extras=(f"of {amount(gating.macs_dense)}", times))


def _milliseconds(gating: Savings, which: str) -> str:
    timed = getattr(gating, which)
    return "~" * timed.unsteady + significant(timed.median_ms)


def _gathered(gating: Savings) -> Cell:
    """A network is called faster only where that is more than the clock's noise."""
    faster = gating.dense.median_ms / gating.gathered.median_ms
    steady = not (gating.dense.unsteady or gating.gathered.unsteady)
    said = ratio(faster) if steady and faster > 1 / savings.GAIN else "no faster"
    return Cell(_milliseconds(gating, "gathered"), extras=(said,))
