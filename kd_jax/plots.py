"""Plots of results: accuracy against size, training curves, sparsity of each layer. PNG files."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from kd_jax.labels import place_labels
from kd_jax.noise import summary
from kd_jax.results import Results, Row
from kd_jax.units import amount

Histories = dict[str, list[dict[str, Any]]]

# Okabe, Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/: told apart by
# people who don't see all colours. Its yellow is left out: it is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "p", "h")
LINES = ("-", "--", "-.", ":")
GREY = "#555555"
INCHES = 8.0  # wide; at DPI that is 1280 pixels, sharp at a README's width
DPI = 160

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


def save_all(folder: Path, results: Results, histories: Histories) -> list[Path]:
    """Draws what there is data for. Returns the files."""
    files = [save_sizes(folder, [results])]
    if any(histories.values()):
        labels = {row.stage: row.label for row in results.rows}
        files.append(save_training(folder, histories, labels))
    if any(_is_pruned(row) for row in results.rows):
        files.append(save_layers(folder, results))
    return files


def _is_pruned(row: Row) -> bool:
    return any(any(layer.pruned) for layer in row.layers.values())


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without matplotlib's version in it, the same data give the same bytes.
    figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})
    return path


def _figure(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure that pyplot doesn't know of: nothing global to close."""
    figure = Figure(figsize=(INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


# Accuracy against size --------------------------------------------------------------------------


def save_sizes(folder: Path, results: Sequence[Results]) -> Path:
    """sizes.png: test accuracy (mean ± std) against stored bytes, a point a network."""
    points = [(run, row) for run in results for row in run.rows]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(1, 1, 4.5)
        ax = axes[0, 0]
        drawn = [_point(ax, index, row) for index, (_, row) in enumerate(points)]
        _bytes_axis(ax, [x for x, _ in drawn])
        _accuracy_axis(ax)
        ax.set_title(_spread("Accuracy against size", {len(run.seeds) for run in results}))
        figure.canvas.draw()  # the layout has to be known before labels are put where there is room
        names = [_run_name(results, run) + row.label for run, row in points]
        place_labels(ax, drawn, names, [_dark(_colour(i)) for i in range(len(names))])
        return _save(figure, Path(folder) / "sizes.png")


def _run_name(results: Sequence[Results], run: Results) -> str:
    """What has to stand before a network's name, among several runs."""
    if len(results) == 1:
        return ""
    same = [other for other in results if other.experiment == run.experiment]
    return f"{run.experiment} {run.fingerprint}: " if len(same) > 1 else f"{run.experiment}: "


def _dark(colour: str) -> tuple[float, ...]:
    """Dark enough to be read as small type on white."""
    return tuple(0.65 * x for x in to_rgb(colour))


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylabel("test accuracy, %")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.margins(y=0.2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 100 + 0.03 * (high - low)))


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _point(axes: Axes, index: int, row: Row) -> tuple[float, float]:
    size, accuracy = summary(row.bytes), summary([100 * x for x in row.accuracy])
    axes.errorbar(
        size.mean,
        accuracy.mean,
        xerr=size.std or None,
        yerr=accuracy.std or None,
        fmt=MARKERS[index % len(MARKERS)],
        color=_colour(index),
        markersize=8,
        capsize=3,
        elinewidth=1.4,
    )
    return size.mean, accuracy.mean


def _bytes_axis(axes: Axes, sizes: Sequence[float]) -> None:
    """Logarithmic, with room beside the points for their labels."""
    axes.set_xscale("log")
    low, high = math.log10(min(sizes)), math.log10(max(sizes))
    room = max(0.12 * (high - low), 0.15)
    axes.set_xlim(10 ** (low - room), 10 ** (high + room))
    ticks = FuncFormatter(lambda x, _: amount(x, "B", digits=1))
    axes.xaxis.set_major_formatter(ticks)
    axes.xaxis.set_minor_formatter(NullFormatter() if high - low > 1 else ticks)
    axes.set_xlabel("stored size (logarithmic)")


def _spread(title: str, seeds: set[int]) -> str:
    """The title, and what the points and bars are; `seeds` are how many there may be."""
    if seeds == {1}:
        return f"{title} (one seed)"
    count = f"of {seeds.pop()}" if len(seeds) == 1 else "over"
    return f"{title} (mean ± standard deviation {count} seeds)"


# Training curves --------------------------------------------------------------------------------


def save_training(folder: Path, histories: Histories, labels: dict[str, str] | None = None) -> Path:
    """training.png: training loss, validation accuracy and sparsity against the epoch, a line a
    stage: its mean over seeds, in a band of ± one standard deviation.

    Args:
      histories: {stage: records}; a record has "epoch" and "train": {metric: [S]}, and may have
        "validation_accuracy": [S] and "sparsity": [S].
      labels: {stage: its name for people}.
    """
    histories = {stage: records for stage, records in histories.items() if records}
    curves = {
        "training loss": lambda record: record["train"].get("loss"),
        "validation accuracy, %": lambda record: record.get("validation_accuracy"),
        "sparsity, %": lambda record: record.get("sparsity"),
    }
    every = [record for records in histories.values() for record in records]
    curves = {name: get for name, get in curves.items() if any(get(r) is not None for r in every)}
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(len(curves), 1, 1.0 + 1.9 * len(curves), sharex=True)
        for ax, (name, get) in zip(axes[:, 0], curves.items(), strict=True):
            for index, records in enumerate(histories.values()):
                _curve(ax, index, records, get, 100 if "%" in name else 1)
            ax.set_ylabel(name)
        _loss_axis(axes[0, 0])
        axes[-1, 0].set_xlabel("epoch of the stage")
        axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        seeds = {len(values) for record in every for values in record["train"].values()}
        axes[0, 0].set_title(_spread("Training", seeds))
        names = [(labels or {}).get(stage, stage) for stage in histories]
        figure.legend(axes[0, 0].lines, names, loc="outside lower center", ncols=min(len(names), 4))
        return _save(figure, Path(folder) / "training.png")


def _curve(axes: Axes, index: int, records: list[dict[str, Any]], get: Any, scale: float) -> None:
    known = [(record["epoch"], get(record)) for record in records if get(record) is not None]
    epochs = [epoch for epoch, _ in known]
    of = [summary([scale * x for x in values]) for _, values in known]
    mean, std = np.array([s.mean for s in of]), np.array([s.std or 0.0 for s in of])
    style = {"color": _colour(index), "linestyle": LINES[index % len(LINES)]}
    marker = {"marker": MARKERS[index % len(MARKERS)], "markersize": 4} if len(of) < 3 else {}
    axes.plot(epochs, mean, **style, **marker)
    axes.fill_between(epochs, mean - std, mean + std, color=_colour(index), alpha=0.18, lw=0)


def _loss_axis(axes: Axes) -> None:
    """Logarithmic where the losses span more than a decade."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


# Sparsity ---------------------------------------------------------------------------------------


def save_layers(folder: Path, results: Results) -> Path:
    """layers.png: which share of each layer is pruned, mean over seeds, a bar a layer and
    network; networks with the same layers share a panel."""
    panels: dict[tuple[str, ...], list[tuple[int, Row]]] = {}
    for index, row in enumerate(results.rows):
        if _is_pruned(row):
            panels.setdefault(tuple(row.layers), []).append((index, row))
    heights = [0.3 + 0.22 * len(layers) * len(group) ** 0.6 for layers, group in panels.items()]
    with matplotlib.rc_context(STYLE):
        height = min(1.1 + sum(heights) + 0.4 * len(panels), 24)
        ratios = {"height_ratios": heights}
        figure, axes = _figure(len(panels), 1, height, sharex=True, gridspec_kw=ratios)
        for ax, (layers, group) in zip(axes[:, 0], panels.items(), strict=True):
            _bars(ax, layers, group)
        axes[-1, 0].set_xlabel("pruned, % of the layer's weights")
        axes[0, 0].set_xlim(0, 124)  # beyond 100, room for the numbers
        axes[0, 0].set_xticks(range(0, 101, 20))
        return _save(figure, Path(folder) / "layers.png")


def _bars(axes: Axes, layers: Sequence[str], group: list[tuple[int, Row]]) -> None:
    layers = sorted(layers, key=_natural)
    places = np.arange(len(layers), dtype=float)
    thickness = 0.8 / len(group)
    small = 8 if len(layers) * len(group) <= 60 else 6
    for turn, (index, row) in enumerate(group):
        sizes = [row.layers[name].size for name in layers]
        means = [summary(row.layers[name].pruned).mean for name in layers]
        shares = [100 * mean / size for mean, size in zip(means, sizes, strict=True)]
        at = places + (turn - (len(group) - 1) / 2) * thickness
        axes.barh(at, shares, 0.88 * thickness, color=_colour(index), label=row.label)
        for y, share, size in zip(at, shares, sizes, strict=True):
            text = f"{share:.1f} % of {f'{size:,}' if size < 10_000 else amount(size)}"
            axes.text(share + 1, y, text, va="center", fontsize=small, color=GREY)
    axes.set_yticks(places, [name.removesuffix("/kernel") for name in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)  # the first layer on top
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def _natural(name: str) -> list[tuple[str, int]]:
    """Sorts Conv_2 before Conv_10, as the network has them."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]
