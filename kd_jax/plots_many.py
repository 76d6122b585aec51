"""Plots of many networks: which is best, and how accuracy falls with sparsity. PNG files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from kd_jax import figures
from kd_jax.noise import summary
from kd_jax.results import Results
from kd_jax.sparsities import curves

MOST = 60  # networks of a ranking; of more, the best


def save_ranking(folder: Path, results: Results) -> Path:
    """ranking.png: test accuracy (mean ± std), a line a network, the best at the top; upright lines
    stand at the networks that others are compared with."""
    of = {row.stage: summary([100 * x for x in row.accuracy]) for row in results.rows}
    rows = sorted(results.rows, key=lambda row: of[row.stage].mean)[-MOST:]
    named = dict.fromkeys(name for row in rows for name in row.compared_with or ())
    with matplotlib.rc_context(figures.STYLE):
        figure, axes = figures.figure(1, 1, 1.2 + 0.2 * len(rows))
        ax = axes[0, 0]
        for place, row in enumerate(rows):
            accuracy = of[row.stage]
            index = [*named].index(row.stage) + 1 if row.stage in named else 0
            colour = figures.colour(index)
            ax.errorbar(
                accuracy.mean, place, xerr=accuracy.std or None, fmt="o", color=colour, capsize=2
            )
        for index, name in enumerate(named, 1):
            ax.axvline(of[name].mean, color=figures.colour(index), linewidth=0.8, zorder=0)
        ax.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
        ax.set_ylim(-1, len(rows))
        ax.set_xlim(_limits([of[row.stage].mean for row in rows], 10))
        ax.set_xlabel("test accuracy, % (what lies further left is cut off)")
        ax.set_title(f"Accuracy (mean ± standard deviation of {len(results.seeds)} seeds)")
        return figures.save(figure, Path(folder) / "ranking.png")


def _limits(accuracies: Sequence[float], percentile: float) -> tuple[float, float]:
    """Of an axis of accuracies in per cent. What learned nothing would leave no room for the
    differences of all others: what lies far below the percentile is left out."""
    low, high = float(np.percentile(accuracies, percentile)), max(accuracies)
    return max(0.0, low - 2 * max(high - low, 1.0)), min(100.0, high + 1.0)


def save_sparsities(folder: Path, results: Results) -> Path:
    """sparsities.png: test accuracy against sparsity, a line a stage that was swept over it."""
    lines = curves(results)
    with matplotlib.rc_context(figures.STYLE):
        names = list(lines)
        figure, axes = figures.figure(1, 1, 4.8 + figures.legend_height(names))
        ax = axes[0, 0]
        for index, line in enumerate(lines.values()):
            x, y, spread = np.transpose(line)
            again = index // len(figures.COLOURS)  # how often its colour was there before
            marker = figures.MARKERS[(index + again) % len(figures.MARKERS)]
            # What is kept, on a logarithmic axis: from 98 to 99 % a half of it goes.
            ax.errorbar(
                1 - x,
                100 * y,
                yerr=100 * spread,
                color=figures.colour(index),
                linestyle=figures.LINES[again % len(figures.LINES)],
                marker=marker,
                markersize=5,
                capsize=2,
            )
        ax.set_xscale("log")
        ax.invert_xaxis()
        kept = sorted({round(1 - s, 6) for line in lines.values() for s, _, _ in line})
        ax.set_xticks(kept, [f"{100 * (1 - k):g}" for k in kept])
        ax.minorticks_off()
        ax.set_xlabel("pruned, % (logarithmic in what is kept)")
        ax.set_ylim(_limits([100 * y for line in lines.values() for _, y, _ in line], 25))
        ax.set_ylabel("test accuracy, % (what lies further down is cut off)")
        ax.set_title(f"Accuracy against sparsity (mean ± std of {len(results.seeds)} seeds)")
        columns = figures.legend_columns(names)
        figure.legend(ax.containers, names, loc="outside lower center", ncols=columns)
        return figures.save(figure, Path(folder) / "sparsities.png")
