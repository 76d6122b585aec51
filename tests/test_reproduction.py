"""What papers report beside what came out."""

import dataclasses
import json

import numpy as np
import pytest
from calls import refused
from tiny_experiment import run_of, tiny

from kd_jax import UsageError, cli, files, reproduction, summary
from kd_jax.config import Prune
from kd_jax.loop import Silent
from kd_jax.published import Figure, values, verdict
from kd_jax.results import Row

SOURCE = "A, B, 2015, table 1"


def row(**changes):
    given = {
        "stage": "train",
        "label": "student",
        "model": "M",
        "accuracy": [0.9, 0.8],
        "cross_entropy": [0.1, 0.2],
        "class_accuracy": [[1.0, 0.8], [0.7, 0.9]],
        "parameters": 1000,
        "nonzero": [100, 50],
        "macs": 7,
        "bytes_dense": 4000,
        "bytes": [500, 300],
    }
    return Row(**{**given, **changes})


def figure(measure, **changes):
    return Figure(what="it", stage="train", measure=measure, **changes)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("errors", [10, 20]),  # of 100 examples
        ("error", [10.0, 20.0]),
        ("accuracy", [90.0, 80.0]),
        ("kept", [10.0, 5.0]),
        ("fewer", [10.0, 20.0]),
        ("smaller", [40.0, 20.0]),  # 4,000 bytes over those of the files
    ],
)
def test_measures_by_hand(measure, expected):
    found = values(figure(measure), row(), counts=[50, 50], sizes=[100, 200])
    np.testing.assert_allclose(found, expected)


def test_errors_on_classes_are_counted_by_their_examples():
    """Of the second class, which has 60 examples: 12 and 6 wrong; of both 12 and 18."""
    counted = lambda *classes: values(  # noqa: E731
        figure("class_errors", classes=classes), row(), counts=[40, 60], sizes=()
    )
    assert counted(1) == [12, 6]
    assert counted(0, 1) == [12, 18]


@pytest.mark.parametrize(
    ("measure", "published", "bar", "ours", "expected"),
    [
        ("errors", 74.0, (None, 85), [80, 88], "reproduced"),  # 84
        ("errors", 74.0, (None, 85), [80, 92], "not reproduced"),  # 86
        ("errors", 146.0, (120, 170), [119, 120], "not reproduced"),
        ("errors", 74.0, (None, None), [74], "reproduced"),
        ("errors", 74.0, (None, None), [75], "short"),
        ("smaller", 40.0, (None, None), [39, 40], "short"),
        ("smaller", 40.0, (None, None), [40, 41], "reproduced"),
        ("error", 0.8, (None, None), [0.77, 0.8, 0.83], "reproduced"),
        ("error", 0.74, (None, None), [0.744], "reproduced"),  # as exact as it is printed
        ("error", 0.74, (None, None), [0.746], "short"),
        ("accuracy", 70.66, (None, None), [70.656], "reproduced"),
        ("accuracy", 70.66, (None, None), [70.654], "short"),
        ("smaller", None, (None, None), [1], "ours alone"),
        ("errors", 206.0, (None, None), [130, 140], "better"),  # 71 away, of a noise of 14
        ("errors", 142.0, (None, None), [130, 140], "reproduced"),  # 7
        ("errors", 206.0, (None, None), [130], "reproduced"),  # of one seed no noise is known
        ("errors", 206.0, (None, 210), [130, 140], "reproduced"),  # that is what was asked for
        ("accuracy", 70.0, (None, None), [71.0, 71.1], "better"),
        ("accuracy", 72.0, (None, None), [71.0, 71.1], "short"),
    ],
)
def test_verdicts(measure, published, bar, ours, expected):
    source = SOURCE if published else ""
    it = figure(measure, published=published, source=source, bar=bar)
    assert verdict(it, ours) == expected


def test_figures_that_can_not_be_are_refused():
    with pytest.raises(UsageError, match="source of 'it' is empty"):
        figure("errors", published=1.0)
    with pytest.raises(UsageError, match="take one of errors, "):
        figure("hits")
    with pytest.raises(UsageError, match="class_errors, which needs some"):
        figure("class_errors")


# A run ---------------------------------------------------------------------------------------

FIGURES = (
    Figure(what="dense", stage="train", measure="errors", published=3, source=SOURCE),
    Figure(what="pruned", stage="prune", measure="smaller", published=2.0, source=SOURCE),
    Figure(what="what it costs", stage="prune", measure="error", against="train"),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(a run of a network and the same pruned, its results, what is compared)."""
    common = {"model": "teacher", "epochs": 1, "batch": 32}
    stages = {
        "train": tiny().stages["train"],
        "prune": Prune(start="train", sparsity=0.5, **common),
    }
    run = run_of(tiny(stages=stages), tmp_path_factory.mktemp("runs") / "run")
    results = summary.summarise(run, "python run.py reproduce it", Silent())
    return run, results, reproduction.compare(run, results, FIGURES, Silent(), "Of  a\ntest.")


def test_ours_are_read_off_the_run_and_its_files(done):
    run, results, found = done
    dense, pruned, cost = found.figures
    train, prune = (results.row(stage) for stage in ("train", "prune"))
    np.testing.assert_allclose(dense.ours, 40 * (1 - np.array(train.accuracy)))
    for seed, times in enumerate(pruned.ours):
        assert times == 4 * prune.parameters / len(files.encoded(run, "prune", seed).data)
    lost = np.array(train.accuracy) - np.array(prune.accuracy)
    np.testing.assert_allclose(cost.ours, 100 * lost, atol=1e-9)
    assert cost.verdict == "ours alone"
    assert dense.seconds == train.seconds > 0
    assert found.remark == "Of a test."


def test_the_table_has_theirs_ours_and_where_it_is_written(done, tmp_path):
    found = done[2]
    reproduction.write(tmp_path, found)
    assert reproduction.read(tmp_path / reproduction.FILE) == found
    text = (tmp_path / "reproduction.md").read_text(encoding="utf-8")
    assert f"| dense: test errors | 3 | {SOURCE} |" in text
    assert "python run.py reproduce it" in text
    assert "40 test examples of digits" in text
    assert "Of a test." in text


@pytest.mark.parametrize(
    ("measure", "published", "ours", "expected"),
    [
        ("errors", 74.0, 73.6, "0"),  # and not -0
        ("errors", 74.0, 73.4, "-1"),
        ("error", 1.64, 1.567, "-0.07 points"),
        ("accuracy", 70.0, 70.125, "+0.12 points"),
        ("smaller", 40.0, 40.04, "0.0×"),
    ],
)
def test_differences(done, measure, published, ours, expected):
    one = dataclasses.replace(done[2].figures[0], measure=measure, published=published, ours=[ours])
    assert reproduction.cells(one)[reproduction.HEAD.index("difference")] == expected


def test_stages_that_were_not_run_are_left_out(done):
    run, results, _ = done
    less = reproduction.compare(
        run, dataclasses.replace(results, rows=results.rows[:1]), FIGURES, Silent()
    )
    assert [figure.what for figure in less.figures] == ["dense"]


def test_a_figure_of_no_stage_is_a_mistake(done):
    run, results, _ = done
    wrong = (Figure(what="x", stage="tain", measure="errors"),)
    with pytest.raises(UsageError, match="of a stage 'tain'"):
        reproduction.compare(run, results, wrong, Silent())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format=9), "format 9"),
        (lambda d: d.pop("figures"), "'figures' is missing"),
        (lambda d: d["figures"][0].update(ours=["x"]), "ours"),
    ],
    ids=["format", "missing", "type"],
)
def test_a_damaged_file_is_refused(done, tmp_path, change, words):
    reproduction.write(tmp_path, done[2])
    path = tmp_path / reproduction.FILE
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        reproduction.read(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="can't be read"):
        reproduction.read(path)


# The verb ------------------------------------------------------------------------------------


def test_without_a_name_it_says_what_reproduces_something(call):
    status, out, _ = call("reproduce")
    assert status == 0
    assert "mnist_papers_300_100" in out


def test_what_reproduces_nothing_is_refused(call):
    assert "it has no PUBLISHED: take" in refused(call, "reproduce", "digits")
    assert "unknown experiment 'diggits'" in refused(call, "reproduce", "diggits")
    assert "takes an experiment's name first" in refused(call, "reproduce", "--smoke")


def test_the_verb_runs_and_shows_both(tmp_path, capsys, monkeypatch):
    """An experiment of one's own, with figures of its own."""
    monkeypatch.setenv("COLUMNS", "200")
    text = """
from kd_jax.config import Experiment, Train
from kd_jax.data import Data
from kd_jax.models.mlp import MLP
from kd_jax.published import Figure

CONFIG = Experiment(
    name="own",
    data=Data(train_limit=96, test_limit=40),
    student=MLP(widths=(8,)),
    stages={"train": Train(epochs=1, batch=32)},
    seeds=2,
    latency_batch=4,
    devices=1,
)
THEIRS = {"published": 99.0, "source": "S", "bar": (0, 99)}
PUBLISHED = (Figure(what="dense", stage="train", measure="error", **THEIRS),)
REMARK = "Not what the paper did."
"""
    file = tmp_path / "own.py"
    file.write_text(text, encoding="utf-8")
    status = cli.main(["reproduce", str(file), "--out", str(tmp_path / "runs")])
    out, error = capsys.readouterr()
    assert (status, error) == (0, "")
    assert "reproduced" in out
    assert "99.00 %" in out
    assert "Not what the paper did." in out
    (folder,) = (tmp_path / "runs").iterdir()
    found = reproduction.read(folder / reproduction.FILE)
    assert found.figures[0].what == "dense"
    assert found.command.startswith("python run.py reproduce ")
