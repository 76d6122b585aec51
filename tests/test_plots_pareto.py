"""Accuracy against cost: what nothing beats, by hand; and a file that shows it."""

import dataclasses

import numpy as np
import pytest
from made_results import make
from PIL import Image

from kd_jax import figures, plots, plots_pareto


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 5.0)], [0]),
        ([(3.0, 9.0), (1.0, 5.0), (2.0, 4.0), (2.5, 7.0)], [1, 3, 0]),
        ([(1.0, 5.0), (1.0, 6.0), (2.0, 6.0)], [1]),  # as dear and worse; dearer and no better
    ],
)
def test_the_frontier_by_hand(points, expected):
    assert plots_pareto.frontier(points) == expected


def test_costs_are_those_that_all_networks_have():
    results = make()
    words = [cost.words for cost in plots_pareto.costs(results.rows)]
    assert words[2:] == ["latency at batch 1", "latency at batch 256 for an example"]
    parameters, macs, one, many = (
        cost.of(results.rows[0]) for cost in plots_pareto.costs(results.rows)
    )
    assert (parameters, macs) == (85_002, 84_480)
    np.testing.assert_allclose([one, many], [80e-6, 10e-6])
    untimed = dataclasses.replace(results.rows[0], latency={})
    assert len(plots_pareto.costs([untimed, *results.rows[1:]])) == 2


def test_all_networks_are_drawn_in_every_panel(tmp_path):
    results = make()
    path = plots_pareto.save_pareto(tmp_path, [results], plots.names([results]))
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("RGB"))
    assert image.shape[1] == 1280
    for colour in figures.COLOURS[: len(results.rows)]:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        found = np.all(image == wanted, axis=-1)
        half = found.shape[1] // 2
        upper, lower = found[: found.shape[0] * 2 // 5], found[found.shape[0] * 2 // 5 :]
        assert all(part.any() for part in (upper[:, :half], upper[:, half:], lower))
    again = plots_pareto.save_pareto(tmp_path / "again", [results], plots.names([results]))
    assert path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.75, 5.3, [1, 2, 3, 5]),  # 0.8, 0.9 and 1 would lie over each other
        (0.15, 0.95, [0.2, 0.3, 0.5]),
        (1.2, 5.2, [2, 3, 4, 5]),
        (1e4, 1e6, [1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6]),
        (1e3, 1e6, [1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6]),
        (1e3, 1e8, [1e3, 1e4, 1e5, 1e6, 1e7, 1e8]),
        (1.2, 1.7, [1.2, 1.4, 1.6]),
    ],
)
def test_numbers_on_a_logarithmic_axis_have_room(low, high, labels):
    _, axes = figures.figure(1, 1, 2.0)
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_xlim(low, high)
    figures.log_ticks(axes[0, 0], str)
    ticks = np.asarray(axes[0, 0].get_xticks())
    np.testing.assert_allclose(ticks[(ticks > 0.999 * low) & (ticks < 1.001 * high)], labels)


def test_a_figure_tells_of_how_many_seeds_it_is():
    assert figures.title("A", {1}, "mean") == "A (one seed)"
    assert figures.title("A", {3}, "mean") == "A (mean of 3 seeds)"
    assert figures.title("A", {1, 3}, "mean") == "A (mean of all seeds)"
