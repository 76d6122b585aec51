"""Plots of why a network was cut as it was. PNG files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from kd_jax import figures
from kd_jax.data import Split
from kd_jax.explain import Curves, Units

FEW = 8  # curves that are told apart by colour and name; more are coloured by depth
PANELS = 12
LINES = 12  # of examples


def save_curves(path: Path, curves: Curves) -> Path:
    """The loss against the fraction that is cut of one layer alone, a line a layer, with a mark at
    what the stage cut of it."""
    with matplotlib.rc_context(figures.STYLE):
        count = len(curves.names)
        named = count <= FEW
        names = [short(name) for name in curves.names]
        figure, axes = figures.figure(1, 1, 4.6 + named * figures.legend_height(names))
        ax, depth = axes[0, 0], matplotlib.colormaps["viridis"]
        for i, name in enumerate(names):
            colour = figures.colour(i) if named else depth(i / (count - 1))
            x, y = 100 * curves.gone[i], curves.losses[i]
            ax.plot(x, y, color=colour, label=name, linewidth=1.8 if named else 1.0)
            cut = 100 * curves.chosen[i]
            ax.plot(cut, np.interp(cut, x, y), "o", color=colour, markersize=5)
        if curves.losses.max() > 20 * max(curves.losses.min(), 1e-6):
            ax.set_yscale("log")
        ax.set_xlabel("of one layer alone, % cut (the mark: what the stage cut in the end)")
        ax.set_ylabel("loss, nats")
        ax.set_title(f"Sensitivity of each layer: {curves.stage}")
        if named:
            columns = figures.legend_columns(names)
            figure.legend(loc="outside lower left", ncols=columns)
        else:
            scale = ScalarMappable(Normalize(1, count), depth)
            figure.colorbar(scale, ax=ax, label="layer, by name")
        return figures.save(figure, path)


def save_units(path: Path, stage: str, units: Sequence[Units]) -> Path:
    """Score against activation of each unit, a panel a group: filled where it was kept."""
    units = units[:PANELS]
    columns = min(3, len(units))
    lines = -(-len(units) // columns)
    with matplotlib.rc_context(figures.STYLE):
        figure, axes = figures.figure(lines, columns, 0.8 + 2.2 * lines)
        for ax in axes.flat[len(units) :]:
            ax.set_axis_off()
        for ax, group in zip(axes.flat, units, strict=False):
            _panel(ax, group)
        figure.suptitle(f"Units kept (●) and cut (○) by {stage}", x=0.01, ha="left", fontsize=11)
        return figures.save(figure, path)


def _panel(ax: Axes, group: Units) -> None:
    y = group.activations
    if y is None:
        y = np.argsort(np.argsort(-group.scores))
    finite = np.where(np.isfinite(group.scores), group.scores, np.nan)
    blue, orange = figures.colour(0), figures.colour(1)
    ax.scatter(finite[group.kept], y[group.kept], s=14, color=blue)
    ax.scatter(finite[~group.kept], y[~group.kept], s=14, facecolors="none", edgecolors=orange)
    ax.set_title(short(group.group), fontsize=8)
    ax.set_xlabel("score", fontsize=8)
    ax.set_ylabel("rank" if group.activations is None else "mean activation", fontsize=8)
    ax.tick_params(labelsize=7)


def save_examples(path: Path, stage: str, units: Sequence[Units], shown: Split) -> Path | None:
    """The examples that excite units most, a line a unit: of several groups the units of the
    highest and the lowest score. None where examples are no images, or no activation is known."""
    known = [group for group in units if group.examples is not None]
    if not known or shown.inputs.ndim != 4 or shown.inputs.shape[-1] not in (1, 3):
        return None
    # From the input to the output, as evenly as there is room for.
    places = np.unique(np.linspace(0, len(known) - 1, min(len(known), LINES // 2)).round())
    rows = [(known[int(p)], unit) for p in places for unit in _ends(known[int(p)])]
    most = max(group.examples.shape[1] for group, _ in rows if group.examples is not None)
    with matplotlib.rc_context(figures.STYLE):
        figure, axes = figures.figure(len(rows), most, 0.6 + 0.75 * len(rows))
        for line, (group, unit) in zip(axes, rows, strict=True):
            assert group.examples is not None
            for ax, place in zip(line, group.examples[unit], strict=False):
                _image(ax, shown.inputs[place])
            said = "kept" if group.kept[unit] else "cut"
            line[0].set_ylabel(
                f"{short(group.group)} {unit}\n{said}, score {group.scores[unit]:.3g}",
                rotation=0, ha="right", va="center", fontsize=7,
            )  # fmt: skip
        figure.suptitle(f"What excites units most: {stage}", x=0.01, ha="left", fontsize=11)
        return figures.save(figure, path)


def _ends(group: Units) -> list[int]:
    """The unit of the highest score, and that of the lowest."""
    order = np.argsort(-group.scores, kind="stable")
    return [int(order[0]), int(order[-1])]


def _image(ax: Axes, image: np.ndarray) -> None:
    low, high = image.min(), image.max()
    pixels = (image - low) / max(high - low, 1e-9)
    ax.imshow(pixels[..., 0] if image.shape[-1] == 1 else pixels, cmap="gray", aspect="equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)


def short(name: str) -> str:
    """A layer's or group's name as it fits in a plot."""
    return name.removeprefix("params/").replace("/kernel", "").partition(":")[0]
