"""Plots: files that open, show something, and come out the same each time."""

import dataclasses

import numpy as np
import pytest
from made_results import histories, history, learnt, make, rows
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from kd_jax import plots
from kd_jax.labels import place_labels
from kd_jax.results import Layer


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def has_colour(image, colour):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int(np.sum(np.all(image == wanted, axis=-1))) > 20


def test_save_all(tmp_path):
    files = plots.save_all(tmp_path, make(), histories())
    assert [file.name for file in files] == ["sizes.png", "training.png", "layers.png"]
    for file in files:
        image = pixels(file)
        assert image.shape[1] == 1280
        assert np.mean(image == 255) > 0.5  # mostly white
        assert np.mean(image.min(axis=-1) < 200) > 0.003  # and not blank
    blue, orange, green, pink = plots.figures.COLOURS[:4]
    assert all(has_colour(pixels(files[0]), colour) for colour in (blue, orange, green, pink))
    assert all(has_colour(pixels(files[1]), colour) for colour in (blue, orange, green, pink))
    # The pruned network is the fourth, here as there.
    assert has_colour(pixels(files[2]), pink)
    assert not has_colour(pixels(files[2]), blue)


def test_similarity_is_the_darker_the_more_alike(tmp_path):
    """Of one network: 0.9, 0.5, 0.1 and 0.4, 0.6, 0.81 in two rows."""
    results = learnt()
    one = dataclasses.replace(results, rows=results.rows[:2])
    files = plots.save_all(tmp_path, one, {})
    assert [file.name for file in files] == ["sizes.png", "similarity.png"]
    image = pixels(files[1]).astype(int)
    blue = image[..., 2] > image[..., 0]
    left, right = np.flatnonzero(blue.sum(axis=0) > 40)[[0, -1]]
    top, bottom = np.flatnonzero(blue.sum(axis=1) > 40)[[0, -1]]

    def shade(row, column):  # in the upper left of a cell, where there is no number
        y = top + (bottom - top) * (row + 0.15) / 2
        x = left + (right - left) * (column + 0.15) / 3
        return int(image[int(y), int(x), 0])

    cells = {(0, 0): 0.9, (1, 2): 0.81, (1, 1): 0.6, (0, 1): 0.5, (1, 0): 0.4, (0, 2): 0.1}
    shades = [shade(*cell) for cell in sorted(cells, key=lambda cell: -cells[cell])]
    assert shades == sorted(set(shades))


def test_similarity_of_many_networks_and_of_what_is_not_a_number(tmp_path):
    teacher, student, *_ = learnt().rows
    nan = dataclasses.replace(student.similarity, cka=[[[float("nan")] * 3] * 2] * 3)
    broken = dataclasses.replace(student, similarity=nan)
    many = [teacher, *(dataclasses.replace(broken, stage=f"s{i}") for i in range(20))]
    small, large = (
        pixels(plots.save_similarity(tmp_path, dataclasses.replace(learnt(), rows=many[:n])))
        for n in (13, 21)
    )
    assert small.shape == large.shape  # no more than twelve are drawn


def test_what_there_is_no_data_for_is_left_out(tmp_path):
    files = plots.save_all(tmp_path, make(rows=rows()[:2]), {"train": []})
    assert [file.name for file in files] == ["sizes.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sizes.png"]


def test_same_data_same_bytes(tmp_path):
    first = plots.save_all(tmp_path / "a", make(), histories())
    second = plots.save_all(tmp_path / "b", make(), histories())
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_bars_are_as_long_as_the_sparsity(tmp_path):
    """Two layers of 40 % and 80 %: twice as many pixels."""

    def bar(pruned):
        layers = {"kernel": Layer(size=100, pruned=[pruned] * 3)}
        row = dataclasses.replace(rows()[0], layers=layers)
        image = pixels(plots.save_layers(tmp_path, make(rows=[row])))
        blue = np.all(image == np.array([0x00, 0x72, 0xB2]), axis=-1)
        return blue[image.shape[0] // 4 :].sum(axis=1).max()  # below the legend

    assert bar(80) == pytest.approx(2 * bar(40), abs=3)


def test_one_seed_one_epoch_and_a_diverged_loss(tmp_path):
    short = [{"step": 1, "epoch": 1, "train": {"loss": [2.0]}}]
    diverged = [{"step": i, "epoch": i, "train": {"loss": [float("nan")]}} for i in (1, 2, 3)]
    path = plots.save_training(tmp_path, {"train": short, "alone": diverged})
    assert has_colour(pixels(path), plots.figures.COLOURS[0])


def test_training_without_validation_has_one_panel(tmp_path):
    records = [{k: r[k] for k in ("step", "epoch", "train")} for r in history(5, 2.0, 0.9)]
    low = pixels(plots.save_training(tmp_path / "a", {"train": records}))
    high = pixels(plots.save_training(tmp_path / "b", histories()))
    assert low.shape[0] < high.shape[0]


def test_layers_come_in_the_networks_order():
    names = ["Conv_10/kernel", "Conv_2/kernel", "classifier/kernel", "dense1/kernel"]
    in_order = ["Conv_2/kernel", "Conv_10/kernel", "dense1/kernel", "classifier/kernel"]
    assert sorted(names, key=plots._order) == in_order


def test_labels_cover_no_point_and_no_other_label():
    """Six points in a heap."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [(0.5 + 0.02 * i, 0.5 + 0.01 * (i % 3)) for i in range(6)]
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    canvas.draw()
    place_labels(axes, points, [f"network number {i}" for i in range(6)], ["black"] * 6)
    canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 6
    overlaps = [Bbox.intersection(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(overlap and overlap.width * overlap.height > 1 for overlap in overlaps)
    centres = axes.transData.transform(points)
    assert not any(box.contains(*centre) for box in boxes for centre in centres)
