"""Plots of results: accuracy against size, training curves, sparsity of each layer. PNG files."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from kd_jax import figures, plots_many
from kd_jax.columns import WIDEST
from kd_jax.heatmaps import save_similarity
from kd_jax.labels import place_labels
from kd_jax.noise import summary
from kd_jax.results import Results, Row
from kd_jax.sparsities import curves
from kd_jax.units import amount

Histories = dict[str, list[dict[str, Any]]]


def save_all(folder: Path, results: Results, histories: Histories) -> list[Path]:
    """Draws what there is data for. Returns the files."""
    files = [plots_many.save_sparsities(folder, results)] if curves(results) else []
    if len(results.rows) > WIDEST:  # a curve or a map for each would show nothing any more
        return [*files, plots_many.save_ranking(folder, results)]
    files += [save_sizes(folder, [results])]
    if any(histories.values()):
        labels = {row.stage: row.label for row in results.rows}
        files.append(save_training(folder, histories, labels))
    if any(_is_pruned(row) for row in results.rows):
        files.append(save_layers(folder, results))
    if any(row.similarity for row in results.rows):
        files.append(save_similarity(folder, results))
    return files


def _is_pruned(row: Row) -> bool:
    return any(any(layer.pruned) for layer in row.layers.values())


# Accuracy against size --------------------------------------------------------------------------


def save_sizes(folder: Path, results: Sequence[Results]) -> Path:
    """sizes.png: test accuracy (mean ± std) against stored bytes, a point a network."""
    points = [(run, row) for run in results for row in run.rows]
    with matplotlib.rc_context(figures.STYLE):
        figure, axes = figures.figure(1, 1, 4.5)
        ax = axes[0, 0]
        drawn = [_point(ax, index, row) for index, (_, row) in enumerate(points)]
        _bytes_axis(ax, [x for x, _ in drawn])
        _accuracy_axis(ax)
        seeds = {len(run.seeds) for run in results}
        title = figures.title("Accuracy against size", seeds, "mean ± standard deviation")
        ax.set_title(title)
        figure.canvas.draw()  # the layout has to be known before labels are put where there is room
        colours = [figures.dark(figures.colour(i)) for i in range(len(points))]
        place_labels(ax, drawn, names(results), colours)
        return figures.save(figure, Path(folder) / "sizes.png")


def names(results: Sequence[Results]) -> list[str]:
    """Of all networks, told apart also among several runs."""
    return [_run_name(results, run) + row.label for run in results for row in run.rows]


def _run_name(results: Sequence[Results], run: Results) -> str:
    """What has to stand before a network's name, among several runs."""
    if len(results) == 1:
        return ""
    same = [other for other in results if other.experiment == run.experiment]
    return f"{run.experiment} {run.fingerprint}: " if len(same) > 1 else f"{run.experiment}: "


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylabel("test accuracy, %")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(y=0.2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 100 + 0.03 * (high - low)))


def _point(axes: Axes, index: int, row: Row) -> tuple[float, float]:
    size, accuracy = summary(row.bytes), summary([100 * x for x in row.accuracy])
    axes.errorbar(
        size.mean,
        accuracy.mean,
        xerr=size.std or None,
        yerr=accuracy.std or None,
        fmt=figures.MARKERS[index % len(figures.MARKERS)],
        color=figures.colour(index),
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
    figures.log_ticks(axes, lambda x: amount(x, "B", digits=1))
    axes.set_xlabel("stored size (logarithmic)")


# Training curves --------------------------------------------------------------------------------


def save_training(folder: Path, histories: Histories, labels: dict[str, str] | None = None) -> Path:
    """training.png: training loss, validation accuracy and sparsity against the epoch, a line a
    stage: its mean over seeds, in a band from the lowest to the highest.

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
    with matplotlib.rc_context(figures.STYLE):
        names = [(labels or {}).get(stage, stage) for stage in histories]
        height = 1.0 + 1.9 * len(curves) + figures.legend_height(names)
        figure, axes = figures.figure(len(curves), 1, height, sharex=True)
        for ax, (name, get) in zip(axes[:, 0], curves.items(), strict=True):
            for index, records in enumerate(histories.values()):
                _curve(ax, index, records, get, 100 if "%" in name else 1)
            ax.set_ylabel(name)
            if name.startswith("sparsity"):
                ax.set_ylim(0, 100)
        _loss_axis(axes[0, 0])
        axes[-1, 0].set_xlabel("epoch of the stage")
        axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        seeds = {len(values) for record in every for values in record["train"].values()}
        axes[0, 0].set_title(figures.title("Training", seeds, "mean and range"))
        columns = figures.legend_columns(names)
        figure.legend(axes[0, 0].lines, names, loc="outside lower center", ncols=columns)
        return figures.save(figure, Path(folder) / "training.png")


def _curve(axes: Axes, index: int, records: list[dict[str, Any]], get: Any, scale: float) -> None:
    known = [(record["epoch"], get(record)) for record in records if get(record) is not None]
    epochs = [epoch for epoch, _ in known]
    seeds = len(known[0][1]) if known else 0
    values = scale * np.array([x for _, x in known], float).reshape(len(known), seeds)
    mean, low, high = (f(values, axis=-1) for f in (np.mean, np.min, np.max)) if known else [()] * 3
    style: dict[str, Any] = {
        "color": figures.colour(index),
        "linestyle": figures.LINES[index % len(figures.LINES)],
    }
    if len(known) < 3:  # hardly a line
        style |= {"marker": figures.MARKERS[index % len(figures.MARKERS)], "markersize": 4}
    axes.plot(epochs, mean, **style)
    axes.fill_between(epochs, low, high, color=figures.colour(index), alpha=0.18, lw=0)


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
    with matplotlib.rc_context(figures.STYLE):
        legends = [figures.legend_height([row.label for _, row in g]) for g in panels.values()]
        height = min(1.1 + sum(heights) + sum(legends) + 0.4 * len(panels), 24)
        ratios = {"height_ratios": heights}
        figure, axes = figures.figure(len(panels), 1, height, sharex=True, gridspec_kw=ratios)
        for ax, (layers, group) in zip(axes[:, 0], panels.items(), strict=True):
            _bars(ax, layers, group)
        axes[-1, 0].set_xlabel("pruned, % of the layer's weights")
        axes[0, 0].set_xlim(0, 124)  # beyond 100, room for the numbers
        axes[0, 0].set_xticks(range(0, 101, 20))
        return figures.save(figure, Path(folder) / "layers.png")


def _bars(axes: Axes, layers: Sequence[str], group: list[tuple[int, Row]]) -> None:
    layers = sorted(layers, key=_order)
    places = np.arange(len(layers), dtype=float)
    thickness = 0.8 / len(group)
    small = 8 if len(layers) * len(group) <= 60 else 6
    for turn, (index, row) in enumerate(group):
        sizes = [row.layers[name].size for name in layers]
        means = [summary(row.layers[name].pruned).mean for name in layers]
        shares = [100 * mean / size for mean, size in zip(means, sizes, strict=True)]
        at = places + (turn - (len(group) - 1) / 2) * thickness
        axes.barh(at, shares, 0.88 * thickness, color=figures.colour(index), label=row.label)
        for y, share, size in zip(at, shares, sizes, strict=True):
            text = f"{share:.1f} % of {f'{size:,}' if size < 10_000 else amount(size)}"
            axes.text(share + 1, y, text, va="center", fontsize=small, color=figures.GREY)
    axes.set_yticks(places, [name.removesuffix("/kernel") for name in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)  # the first layer on top
    axes.grid(axis="y", visible=False)
    columns = min(figures.legend_columns([row.label for _, row in group]), 3)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def _order(name: str) -> tuple[bool, list[tuple[str, int]]]:
    """Roughly the network's own order, which JAX's sorted names have lost: Conv_2 before Conv_10,
    and the classifier last."""
    parts = [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]
    return name.startswith("classifier"), parts
