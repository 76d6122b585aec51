"""The benchmark's arithmetic, tables, protocol and errors. Nothing here depends on how fast
anything is."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from rich.console import Console

from kd_jax import cli
from kd_jax.augment import Augment
from kd_jax.bench import CASES, Case, Options, Ratio, Work, measure, process, report, worker
from kd_jax.bench.cases import SOFT, at_batch, request
from kd_jax.bench.timings import Measured, compare
from kd_jax.config import Train
from kd_jax.errors import UsageError
from kd_jax.models.mlp import MLP
from kd_jax.serialize import from_data, to_data


def measured(label, seconds, **changes):
    fields = {
        "label": label,
        "framework": "kd_jax",
        "batch": 10,
        "seeds": 1,
        "parameters": {"student": 5},
        "versions": {},
        "steps": 3,
        "seconds": seconds,
        "first_step": 4.0,
        "compile": 2.5,
        "peak_bytes": 300_000_000,
    }
    return Measured(**{**fields, **changes})


def case(*ratios, labels=("a", "b")):
    works = [Work(label=label, stage=Train(), student=MLP(), data="digits") for label in labels]
    return Case("two", tuple(works), ratios)


# The table of cases --------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_ratios_name_rows_and_rows_are_told_in_full(name):
    case = CASES[name]
    labels = [work.label for work in case.works]
    assert len(set(labels)) == len(labels)
    for ratio in case.ratios:
        assert {ratio.of, ratio.to} <= set(labels)
    for work in case.works:
        told = json.loads(json.dumps(request(work)))  # as it goes through the pipe
        assert from_data(told["stage"]) == work.stage
        assert from_data(told["student"]) == work.student
        assert from_data(told["teacher"]) == work.teacher


@pytest.mark.parametrize("name", CASES)
def test_pytorch_is_asked_for_nothing_that_its_side_leaves_out(name):
    for work in CASES[name].works:
        if work.framework != "torch":
            continue
        stage = work.stage
        assert stage.augment == Augment()
        assert stage.label_smoothing == 0
        assert stage.ema is None
        assert set(getattr(stage, "terms", {})) <= {"kd"}
        assert (stage.optim.name, stage.optim.schedule) == ("sgd", "constant")
        assert stage.optim.decay_all
        assert not stage.optim.nesterov
        assert not work.collected
        assert work.seeds == 1
        twin = [w for w in CASES[name].works if w.framework == "kd_jax" and not w.collected]
        assert dataclasses.replace(work, label="", framework="kd_jax") in [
            dataclasses.replace(w, label="") for w in twin
        ]


def test_another_batch_size_finds_enough_examples():
    work = at_batch(next(w for w in CASES["digits"].works if w.stage.fraction < 1), 500)
    assert work.stage.batch == 500
    assert request(work)["data"]["examples"] * work.stage.fraction >= 500
    assert at_batch(work, 0) is work


# Arithmetic ----------------------------------------------------------------------------------


def test_ratios_by_hand():
    rows = [measured("a", [0.1, 0.2, 0.4]), measured("b", [0.2, 0.2, 0.2], batch=20, seeds=2)]
    both = (Ratio("speed", "a", "b"), Ratio("time", "a", "b", time=True))
    speed, time = compare(case(*both), rows)
    # a: 100, 50 and 25 examples a second; b: 200.
    assert np.allclose(speed.ratios, [0.5, 0.25, 0.125])
    assert speed.best == pytest.approx(0.5)
    assert np.allclose(time.ratios, [0.5, 1.0, 2.0])
    assert time.best == pytest.approx(0.5)


def test_a_ratio_with_a_row_that_was_not_measured_is_left_out():
    assert compare(case(Ratio("x", "a", "b")), [measured("a", [0.1])]) == []


# Protocol ------------------------------------------------------------------------------------

SIDE = """
print("a library says hello")
def prepare(request):
    print("and again")
    if request.get("fails"):
        raise ValueError("no such net")
    return lambda steps: print("step", 1 // steps), lambda: {"parameters": request["n"]}
"""


@pytest.fixture
def side(tmp_path, monkeypatch):
    (tmp_path / "side.py").write_text(SIDE)
    monkeypatch.setitem(process.SIDES, "kd_jax", str(tmp_path / "side.py"))


def test_a_worker_answers_and_what_libraries_print_is_no_answer(side):
    child = process.Worker("kd_jax")
    assert child.ask({"prepare": {"n": 7}}) == {}
    assert child.ask({"facts": None}) == {"parameters": 7}
    reply = child.ask({"run": 1})
    assert set(reply) == {"seconds", "peak_bytes"}
    assert reply["seconds"] >= 0
    # A bare Python, though the process that started it is far larger.
    assert 2**20 < reply["peak_bytes"] < 2**27
    child.close()


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"prepare": {"fails": True}}, "ValueError: no such net"),
        ({"run": 1}, "AssertionError: prepare comes first"),
    ],
)
def test_a_worker_that_dies_says_why_in_one_line(side, question, said):
    child = process.Worker("kd_jax")
    with pytest.raises(UsageError, match=f"ended with status 1: {said}"):
        child.ask(question)
    child.close()


def test_peak_memory_grows_with_what_is_held():
    before = worker.peak_bytes()
    held = np.ones(before + 2**24, np.uint8)
    assert worker.peak_bytes() >= held.nbytes


class Scripted:
    """A worker whose steps take a known time. Tells in which order workers were asked."""

    asked: list

    def __init__(self, framework, torch_python=""):
        self.name = framework
        self.per_step = {"kd_jax": 0.5, "torch": 1.0}[framework]

    def ask(self, question):
        if "prepare" in question:
            return {}
        if "facts" in question:
            return {"parameters": {"student": 5}, "macs": {"student": 9}}
        self.asked.append((self.name, question["run"]))
        first = 3.0 if len(self.asked) == 1 else 0.0
        return {"seconds": first + self.per_step * question["run"], "peak_bytes": 2**20}

    def close(self):
        self.asked.append((self.name, "closed"))


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(Scripted, "asked", [], raising=False)
    monkeypatch.setattr(measure, "Worker", Scripted)
    monkeypatch.setattr(measure, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(measure, "busy", lambda: 0.04)
    monkeypatch.setattr(measure, "require_torch", lambda python: None)
    return Scripted


def test_rows_take_turns(scripted):
    options = Options(against="torch", rounds=3, steps=2)
    (found,) = measure.run(["lenet_300_100"], options)
    up_to_speed = [("torch", 1), ("torch", 2), ("kd_jax", 1), ("kd_jax", 2)]
    turns = [("torch", 2), ("kd_jax", 2)] * 3
    assert scripted.asked == [*up_to_speed, *turns, ("torch", "closed"), ("kd_jax", "closed")]
    theirs, ours = found.rows
    assert (theirs.seconds, ours.seconds) == ([1.0] * 3, [0.5] * 3)
    assert (theirs.compile, ours.compile) == (3.0, 0.0)
    assert ours.examples_per_second.tolist() == [256.0] * 3
    assert [c.ratios for c in found.compared] == [[2.0] * 3]


def test_steps_are_chosen_so_that_a_block_lasts_long_enough(scripted, monkeypatch):
    monkeypatch.setattr(measure, "BLOCK_SECONDS", 20.0)
    (found,) = measure.run(["lenet_300_100"], Options(rounds=1))
    assert found.rows[0].steps == 40
    assert [row.framework for row in found.rows] == ["kd_jax"]  # nothing to compare with
    assert found.compared == []


def test_two_sides_with_different_nets_are_not_compared(scripted, monkeypatch):
    ask = Scripted.ask

    def other(self, question):
        reply = ask(self, question)
        return {**reply, "macs": {"student": len(self.name)}} if "macs" in reply else reply

    monkeypatch.setattr(Scripted, "ask", other)
    with pytest.raises(AssertionError, match=r"macs: kd_jax .* PyTorch"):
        measure.run(["lenet_300_100"], Options(against="torch", rounds=1, steps=1))
    assert scripted.asked[-2:] == [("torch", "closed"), ("kd_jax", "closed")]


# Tables --------------------------------------------------------------------------------------


def result(busy=0.0):
    rows = [measured("PyTorch", [0.2, 0.3, 0.4]), measured("kd_jax", [0.1, 0.1, 0.1])]
    compared = compare(case(Ratio("r", "kd_jax", "PyTorch"), labels=("PyTorch", "kd_jax")), rows)
    return measure.Result(case="tiny", about="a net", busy=busy, rows=rows, compared=compared)


def test_cells():
    row, compared = result().rows[0], result().compared[0]
    assert report.row_cells(row) == (
        *("PyTorch", "10", "33.3", "300 ms", "220 – 380 ms", "2.50 s", "4.00 s", "300 MB"),
    )
    assert report.ratio_cells(compared) == ("r", "3.00", "2.20 – 3.80", "2.00")
    mixed = report.row_cells(dataclasses.replace(row, seconds=[0.5e-3, 2.5e-3]))
    assert mixed[4] == "700 µs – 2.30 ms"


@pytest.mark.parametrize("busy", [None, 0.05, 0.6])
def test_a_busy_machine_is_warned_of(busy):
    said = report.warning(result(busy))
    assert ("60 % of the cores" in said) == (busy == 0.6)
    assert bool(said) == (busy == 0.6)


def test_tables_show_every_number_on_a_narrow_screen_too(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report.show(result(busy=0.6), Console())
    words = " ".join(capsys.readouterr().out.split())
    for text in ("tiny: a net", "PyTorch", "kd_jax", "33.3", "300 ms", "300 MB", "3.00", "60 %"):
        assert text in words
    assert "…" not in words


def test_files_hold_numbers_versions_and_what_they_mean(tmp_path):
    row = dataclasses.replace(result().rows[0], versions={"torch": "2.x"})
    found = dataclasses.replace(result(busy=0.6), rows=[row])
    report.write(tmp_path, [found], "python run.py bench tiny")
    text = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "| tiny | PyTorch | 10 | 33.3 | 300 ms |" in text
    assert "| tiny | r | 3.00 | 2.20 – 3.80 | 2.00 |" in text
    for words in ("`python run.py bench tiny`", "torch 2.x", "jax ", "VmHWM", "warning: tiny"):
        assert words in text
    data = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert data["results"][0]["rows"][0]["seconds"] == [0.2, 0.3, 0.4]
    assert data["environment"]["jax"]


# The verb ------------------------------------------------------------------------------------


def call(capsys, *arguments):
    status = cli.main(["bench", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_help_names_every_case_and_flag(capsys):
    status, out, error = call(capsys, "--help")
    assert (status, error) == (0, "")
    flags = ("--against torch", "--torch-python", "--batch", "--rounds", "--steps", "--out")
    for text in (*CASES, *flags):
        assert text in out
    assert cli.main(["--help"]) == 0
    assert "bench [CASE ...]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("r56r20", "unknown case 'r56r20'. Did you mean 'r56_r20'?"),
        ("digits --round 3", "unknown flag --round. Did you mean '--rounds'?"),
        ("digits --rounds 0", "--rounds 0 must be in [1, 1000000]"),
        ("digits --rounds two", "--rounds 'two': it must be a whole number"),
        ("digits --steps -1", "--steps -1 must be in [0, 1000000]"),
        ("digits --batch -1", "--batch -1 must be in [0, 1000000]"),
        ("digits --against jax", "--against jax: there is only torch to compare with"),
        ("digits --torch-python x", "--torch-python without --against torch: add it"),
        ("digits --against torch --torch-python /no/python", "--torch-python /no/python: can't be"),
        ("digits --out /proc/x", "--out /proc/x: can't write there"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(measure, "result_of", None)
    status, out, error = call(capsys, *arguments.split())
    assert (status, out) == (2, "")
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1


def test_without_pytorch_its_extra_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "result_of", None)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    _, _, error = call(capsys, "digits", "--against", "torch", "--torch-python", python)
    assert f"--torch-python {python} has no PyTorch" in error
    assert 'pip install -e ".[torch]"' in error
    monkeypatch.setattr(sys, "executable", str(python))
    status, _, error = call(capsys, "digits", "--against", "torch")
    assert status == 2
    assert f"this Python ({python}) has no PyTorch" in error


def test_a_tiny_case_from_its_command_to_its_files(capsys, tmp_path, monkeypatch):
    soft = dataclasses.replace(SOFT, batch=4)
    work = {"data": "digits", "student": MLP(widths=(4,)), "teacher": MLP(widths=(8,))}
    works = (Work(label="collected", stage=soft, collected=True, **work),)
    tiny = Case("a tiny net", works, (Ratio("itself", "collected", "collected"),), (4,))
    monkeypatch.setitem(CASES, "tiny", tiny)
    flags = ["--rounds", "2", "--steps", "3", "--out", tmp_path]
    status, out, error = call(capsys, "tiny", *flags)
    assert (status, error) == (0, "")
    assert "tiny: a tiny net" in out
    (found,) = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["results"]
    (row,) = found["rows"]
    assert row["parameters"] == {"student": 64 * 4 + 4 + 50, "teacher": 64 * 8 + 8 + 90}
    assert len(row["seconds"]) == 2
    assert min(row["seconds"]) > 0
    assert row["first_step"] > row["compile"] > 0
    assert found["compared"][0]["ratios"] == [1.0, 1.0]
    assert to_data(work["student"])["class"] == "MLP"
