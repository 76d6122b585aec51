"""Accuracy against all that a network costs, and which networks nothing beats. A PNG file."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kd_jax import figures
from kd_jax.noise import summary
from kd_jax.results import Results, Row
from kd_jax.units import amount, duration

Points = list[tuple[float, float]]  # cost, accuracy


def _few(x: float) -> str:
    return amount(x, digits=1)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Something that a network costs: its name on an axis, a row's, and how it is written."""

    words: str
    of: Callable[[Row], float]
    write: Callable[[float], str] = _few


def costs(rows: Sequence[Row]) -> list[Cost]:
    """Parameters, work, and latency at the least and the largest batch that all were timed at."""
    found = [
        Cost("parameters that are not zero", lambda row: summary(row.nonzero).mean),
        Cost("multiply-adds, zeros counted", lambda row: row.macs),
    ]
    timed = sorted(set.intersection(*(set(map(int, row.latency)) for row in rows)))
    for batch in dict.fromkeys((*timed[:1], *timed[-1:])):
        each = " for an example" if batch > 1 else ""
        seconds = lambda row, batch=batch: row.latency[str(batch)].median_ms / 1000 / batch  # noqa: E731
        found.append(Cost(f"latency at batch {batch}{each}", seconds, duration))
    return found


def frontier(points: Points) -> list[int]:
    """Which points nothing beats: of what costs no more, none is more accurate. By cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    best, found = -np.inf, []
    for i in order:
        if points[i][1] > best:
            best = points[i][1]
            found.append(i)
    return found


def save_pareto(folder: Path, results: Sequence[Results], names: Sequence[str]) -> Path:
    """pareto.png: test accuracy (mean ± std) against each cost; a line joins what nothing beats.

    Args:
      names: of all rows, in the order of the results.
    """
    rows = [row for run in results for row in run.rows]
    against = costs(rows)
    with matplotlib.rc_context(figures.STYLE):
        down = -(-len(against) // 2)
        height = 0.5 + 2.8 * down + figures.legend_height(names)
        figure, axes = figures.figure(down, 2, height, sharey=True)
        for ax, cost in zip(axes.flat, against, strict=False):
            _panel(ax, rows, cost)
        for ax in axes[:, 0]:
            ax.set_ylabel("test accuracy, %")
        seeds = {len(run.seeds) for run in results}
        title = figures.title("Accuracy against cost", seeds, "mean ± std")
        figure.suptitle(f"{title}; the line joins what nothing beats")
        handles = axes[0, 0].containers
        columns = figures.legend_columns(names)
        figure.legend(handles, names, loc="outside lower center", ncols=columns)
        return figures.save(figure, Path(folder) / "pareto.png")


def _panel(ax: Axes, rows: Sequence[Row], cost: Cost) -> None:
    points: Points = []
    for index, row in enumerate(rows):
        accuracy = summary([100 * x for x in row.accuracy])
        points.append((cost.of(row), accuracy.mean))
        again = index // len(figures.COLOURS)  # how often its colour was there before
        ax.errorbar(
            *points[-1],
            yerr=accuracy.std or None,
            fmt=figures.MARKERS[(index + again) % len(figures.MARKERS)],
            color=figures.colour(index),
            markersize=6,
            capsize=2,
        )
    best = [points[i] for i in frontier(points)]
    ax.plot(*np.transpose(best), color=figures.GREY, linewidth=1, zorder=0)
    ax.set_xscale("log")
    figures.log_ticks(ax, cost.write)
    ax.set_xlabel(f"{cost.words} (logarithmic)")
