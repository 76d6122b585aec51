"""The cells of the report's table of gated networks."""

import dataclasses
from collections.abc import Sequence

from kd_jax import savings
from kd_jax.columns import Cell, Column, percent
from kd_jax.results import Results, Row
from kd_jax.units import amount, ratio, significant


def gates(results: Sequence[Results]) -> list[Column]:
    """What gates save, counted and measured, and how far they depend on the input: for a table of
    its own. None where no network has any."""
    if not any(row.gating for run in results for row in run.rows):
        return []
    share = lambda of: lambda run, row: percent(of(row.gating)) if row.gating else Cell()  # noqa: E731
    one = lambda which: lambda run, row: _one(row, which)  # noqa: E731
    return [
        Column("network", lambda run, row: Cell(row.label), numeric=False),
        Column("units an example", _open_units),
        Column("always open %", share(lambda gating: gating.always)),
        Column("never %", share(lambda gating: gating.never)),
        Column("sometimes %", share(lambda gating: gating.sometimes)),
        Column("MACs an example", _macs_gathered),
        Column("batch 1, ms: without gates", one("dense")),
        Column("masked", one("masked")),
        Column("gathered", _gathered),
    ]


def _open_units(run: Results, row: Row) -> Cell:
    return Cell(f"{row.gating.kept:,} of {row.gating.units:,}") if row.gating else Cell()


def _macs_gathered(run: Results, row: Row) -> Cell:
    if row.gating is None:
        return Cell()
    times = ratio(row.gating.macs_dense / row.gating.macs)
    return Cell(amount(row.gating.macs), extras=(f"{times} of {amount(row.gating.macs_dense)}",))


def _one(row: Row, which: str) -> Cell:
    timed = getattr(row.gating, which, None)
    return Cell("~" * timed.unsteady + significant(timed.median_ms)) if timed else Cell()


def _gathered(run: Results, row: Row) -> Cell:
    cell = _one(row, "gathered")
    if row.gating is None:
        return cell
    faster = row.gating.dense.median_ms / row.gating.gathered.median_ms
    sure = faster > 1 / savings.GAIN and not (row.gating.dense.unsteady or cell.value[0] == "~")
    return dataclasses.replace(cell, extras=(ratio(faster) if sure else "no faster than dense",))
