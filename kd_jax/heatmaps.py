"""The plot of how alike students' features are to their teachers', layer by layer. A PNG file."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kd_jax import figures
from kd_jax.results import Results, Row

MOST = 12  # panels; of more networks, results.json has the numbers


def save_similarity(folder: Path, results: Results) -> Path:
    """similarity.png: CKA of each of a network's features with each of its teacher's, mean over
    seeds, a panel a network."""
    rows = [row for row in results.rows if row.similarity][:MOST]
    columns = min(2, len(rows))
    lines = -(-len(rows) // columns)
    most = max(len(row.similarity.layers) for row in rows if row.similarity)
    with matplotlib.rc_context(figures.STYLE):
        figure, axes = figures.figure(lines, columns, 0.6 + lines * (1.4 + 0.24 * most))
        for ax in axes.flat[len(rows) :]:
            ax.set_axis_off()
        for ax, row in zip(axes.flat, rows, strict=False):
            _panel(ax, row, results.row(row.agrees_with).label, small=columns > 1)
        seeds = len(results.seeds)
        of = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
        figure.suptitle(f"CKA with the teacher's features ({of})", x=0.01, ha="left", fontsize=11)
        return figures.save(figure, Path(folder) / "similarity.png")


def _panel(axes: Axes, row: Row, teacher: str, small: bool) -> None:
    assert row.similarity is not None
    layers, others = row.similarity.layers, row.similarity.others
    alike = np.mean(row.similarity.cka, axis=0)
    # Light to dark, so that it can be read in grey too; what is not a number stays white.
    axes.imshow(alike, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    size = 6 if small and len(others) > 8 else 8
    for (y, x), value in np.ndenumerate(alike):
        colour = "white" if value > 0.6 else "black"
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=size, color=colour)
    _names(axes, layers, others)
    axes.set_title(row.label, fontsize=10)
    axes.set_xlabel(f"of {teacher}", fontsize=9)


def _names(axes: Axes, layers: Sequence[str], others: Sequence[str]) -> None:
    axes.set_xticks(range(len(others)), others, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
