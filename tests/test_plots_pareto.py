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
