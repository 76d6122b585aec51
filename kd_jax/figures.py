"""Figures in one style: clean on white, told apart without colour, the same bytes each time."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

# Okabe, Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/: told apart by
# people who don't see all colours. Its yellow is left out: it is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "p", "h")
LINES = ("-", "--", "-.", ":")
GREY = "#555555"
INCHES = 8.0  # wide; at DPI that is 1280 pixels, sharp at a README's width
DPI = 160
# Which numbers of a decade have a label on a logarithmic axis, the most of them first; and how wide
# a label is, of the axis.
DECADES = (tuple(range(1, 10)), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))
LABEL = 0.15

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": "#222222",
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.color": "#222222",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without matplotlib's version in it, the same data give the same bytes.
    figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})
    return path


def figure(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure that pyplot doesn't know of: nothing global to close."""
    figure = Figure(figsize=(INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def colour(index: int) -> str:
    """Of the network with this number, in every plot."""
    return COLOURS[index % len(COLOURS)]


def dark(name: str) -> tuple[float, ...]:
    """Dark enough to be read as small type on white."""
    return tuple(0.65 * x for x in to_rgb(name))


def legend_columns(names: Sequence[str]) -> int:
    """How many of these names stand side by side below a figure, four at most."""
    return max(1, min(len(names), 4, 100 // (max(map(len, names)) + 6)))


def legend_height(names: Sequence[str]) -> float:
    """Inches that the rows of a legend take beyond the first two."""
    return 0.2 * max(0, -(-len(names) // legend_columns(names)) - 2)


def title(title: str, seeds: set[int], shown: str) -> str:
    """With what is shown of the seeds, whose number is one of `seeds`."""
    if seeds == {1}:
        return f"{title} (one seed)"
    return f"{title} ({shown} of {seeds.pop() if len(seeds) == 1 else 'all'} seeds)"


def log_ticks(ax: Axes, write: Callable[[float], str]) -> None:
    """Labels a logarithmic x axis, whose limits are set: as many numbers of one digit in each
    decade as have room for their labels; a few round numbers where no two of them are in sight."""
    low, high = np.log10(ax.get_xlim())
    all_of = [_shown(digits, low, high) for digits in DECADES]
    fits = [digits for digits, at in zip(DECADES, all_of, strict=True) if _room(at, low, high)]
    few = len(all_of[0]) < 2
    where = MaxNLocator(3) if few else LogLocator(subs=(fits or DECADES[-1:])[0], numticks=20)
    ax.xaxis.set_major_locator(where)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: write(x)))
    ax.xaxis.set_minor_locator(LogLocator(subs=DECADES[0], numticks=20))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _shown(digits: Sequence[float], low: float, high: float) -> np.ndarray:
    """Exponents of the numbers that begin so and lie between 10^low and 10^high."""
    decades = np.arange(math.floor(low), math.ceil(high) + 1)
    exponents = np.add.outer(decades, np.log10(digits)).ravel()
    return exponents[(exponents >= low) & (exponents <= high)]


def _room(exponents: np.ndarray, low: float, high: float) -> bool:
    return bool(np.all(np.diff(exponents) >= LABEL * (high - low)))
