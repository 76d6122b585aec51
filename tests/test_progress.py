import io

import pytest
from rich.console import Console

from kd_jax import progress
from kd_jax.progress import Screen

SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture(autouse=True)
def _not_the_first(monkeypatch):
    monkeypatch.setattr(Screen, "stepped", True)


def screen(terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    return Screen(console), file.getvalue


def record(step, epoch, **more):
    return {"step": step, "epoch": epoch, "train": {"loss": [1.0, 3.0]}, **more}


def test_without_a_terminal_there_are_plain_lines():
    shown, text = screen(terminal=False)
    shown.begin("train (seed 0)", 100, 0)
    shown.advance(50, 1234.0)  # too soon after the last line
    shown.epoch(record(50, 1))  # likewise
    shown.advance(100, 2000.0)
    shown.epoch(record(100, 2, validation_accuracy=[0.5, 0.75], sparsity=[0.5, 0.5]))
    shown.end("train (seed 0)", 12.34)
    assert text().splitlines() == [
        "train (seed 0): 100 steps, compiling ...",
        "  epoch 2: loss 2.0000, validation accuracy 62.50 %, sparsity 50.0 %",
        "train (seed 0): done in 12.3 s (0.0 s compiling), 2,000 examples/s",
    ]


def test_a_long_stage_shows_life_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown, text = screen(terminal=False)
    shown.begin("prune", 1000, 400)
    for step in (500, 510):
        now[0] += progress.LINE_SECONDS + 5
        shown.advance(step, 64.0)
    shown.advance(520, 64.0)
    now[0] += progress.LINE_SECONDS + 1
    shown.epoch(record(520, 3))
    assert text().splitlines() == [
        "prune: 1000 steps from step 400, compiling ...",
        "prune: step 500 of 1000, 64 examples/s, 125 s left",  # 100 steps took 25 s, 500 are left
        "prune: step 510 of 1000, 64 examples/s, 223 s left",
        "  epoch 3: loss 2.0000",
    ]


def test_a_terminal_shows_a_bar_with_speed_and_steps():
    shown, text = screen(terminal=True)
    shown.begin("train", 100, 20)
    shown.advance(30, 0.0)
    shown._bar.refresh()
    assert "30/100" in text()
    assert "compiling" in text()
    shown.advance(60, 1234.0)
    shown.note("the teacher's validation accuracy: 98.00 %")
    shown._bar.refresh()
    assert "60/100" in text()
    assert "1,234 examples/s" in text()
    shown.end("train", 3.0)
    assert "the teacher's validation accuracy: 98.00 %" in text()
    assert "train: done in 3.0 s (0.0 s compiling), 1,234 examples/s" in text()
    assert text().rindex(SHOW_CURSOR) > text().rindex("60/100")


def test_an_interrupted_bar_gives_the_terminal_back():
    shown, text = screen(terminal=True)
    shown.begin("train", 100, 0)
    assert SHOW_CURSOR not in text()
    shown.close()
    assert text().endswith(SHOW_CURSOR) or SHOW_CURSOR in text()
    shown.close()  # once more does no harm


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "text", ["prune.exclude: [] -> ['[/x]']", "[bold]", "a :smile: b", "x" * 300]
)
def test_text_is_printed_as_it_is(terminal, text):
    shown, said = screen(terminal)
    shown.note(text)
    assert said() == f"  {text}\n"


def test_stages_follow_one_another_on_one_screen():
    shown, text = screen(terminal=True)
    for name in ("train", "distill"):
        shown.begin(name, 10, 0)
        shown.advance(10, 5.0)
        shown.end(name, 1.0)
    assert text().count("done in 1.0 s (") == 2


def test_how_long_compiling_and_the_first_steps_took(monkeypatch):
    monkeypatch.setattr(Screen, "stepped", False)
    compiled = iter([1.0, 3.5])
    monkeypatch.setattr(progress, "compile_seconds", lambda: next(compiled))
    monkeypatch.setattr(progress, "since_start", lambda: 4.2)
    shown, text = screen(terminal=False)
    shown.begin("train", 100, 0)
    shown.advance(4, 0.0)
    shown.advance(8, 100.0)
    shown.end("train", 9.0)
    assert text().splitlines() == [
        "train: 100 steps, compiling ...",
        "  first steps done 4.2 s after the command",
        "train: done in 9.0 s (2.5 s compiling), 100 examples/s",
    ]
