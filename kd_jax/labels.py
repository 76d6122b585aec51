"""Labels of a plot's points, put where they cover neither a point nor another label."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

Point = tuple[float, float]
Offset = tuple[float, float, Literal["left", "center", "right"]]


def place_labels(
    axes: Axes, points: Sequence[Point], names: Sequence[str], colours: Sequence[Any]
) -> None:
    """Writes each name beside its point, and draws a line to it where it had to go further off.

    The figure must have been drawn once, so that its layout is known.
    """
    scale = axes.figure.dpi / 72  # pixels a point of type
    at = axes.transData.transform(points)
    inside = axes.get_window_extent()
    taken = [Bbox.from_bounds(x - 6 * scale, y - 6 * scale, 12 * scale, 12 * scale) for x, y in at]
    taken += _error_bars(axes)
    for name, colour, point, (x, y) in zip(names, colours, points, at, strict=True):
        text = axes.annotate(
            name, point, (0, 0), textcoords="offset points", color=colour, fontsize=9, va="center"
        )
        extent = text.get_window_extent()
        places = (_place(x, y, offset, scale, extent) for offset in _offsets())
        best, box = _cheapest(places, taken, inside)
        text.set_position(best[:2])
        text.set_horizontalalignment(best[2])
        taken.append(box)
        if abs(best[1]) > 16:
            axes.annotate(
                "", point, best[:2], textcoords="offset points", arrowprops=_leader(colour)
            )


def _place(x: float, y: float, offset: Offset, scale: float, extent: Bbox) -> tuple[Offset, Bbox]:
    """An offset and the box that a text of this extent then takes."""
    dx, dy, align = offset
    before = {"left": 0.0, "center": 0.5, "right": 1.0}[align] * extent.width
    corner = (x + dx * scale - before, y + dy * scale - extent.height / 2)
    return offset, Bbox.from_bounds(*corner, extent.width, extent.height)


def _cheapest(
    places: Iterator[tuple[Offset, Bbox]], taken: Sequence[Bbox], inside: Bbox
) -> tuple[Offset, Bbox]:
    """The first that is free, or else the one that covers least."""
    costs = []
    for offset, box in places:
        costs.append((_cost(box, taken, inside), offset, box))
        if costs[-1][0] == 0:
            break
    return min(costs, key=lambda item: item[0])[1:]


def _leader(colour: Any) -> dict[str, Any]:
    return {"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 5, "shrinkB": 5}


def _offsets() -> Iterator[Offset]:
    """(right, up, alignment) in points of type: beside, then above and below, then further off."""
    for height in (0, 12, 18, 26, 36, 48, 62, 76, 92, 110):
        for sign in (1, -1):
            yield 10, sign * height, "left"
            yield -10, sign * height, "right"
            if height:
                yield 0, sign * height, "center"


def _error_bars(axes: Axes) -> list[Bbox]:
    """Where the lines of the error bars are drawn, with room around them for their caps."""
    bars = [c for container in axes.containers for c in getattr(container, "lines", [()])[-1]]
    ends = [axes.transData.transform(part) for bar in bars for part in bar.get_segments()]
    return [Bbox([np.min(end, axis=0) - 7, np.max(end, axis=0) + 7]) for end in ends]


def _cost(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """Area that is covered twice or lies outside; 0 for a free place."""
    cut = Bbox.intersection(box, inside)
    outside = box.width * box.height - (cut.width * cut.height if cut else 0.0)
    overlaps = (Bbox.intersection(box, other) for other in taken)
    return outside + sum(o.width * o.height for o in overlaps if o is not None)
