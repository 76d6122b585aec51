"""How a run goes, on the screen: a bar with speed and time left, a line an epoch now and then."""

import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kd_jax.startup import compile_seconds, since_start

LINE_SECONDS = 20.0  # without a terminal, a line at least so often, so that a log shows life


class Screen:
    """A loop.Reporter that draws with rich; plain lines where there is no terminal."""

    stepped = False  # has this process made a step?

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar: Progress | None = None
        self._stage, self._steps, self._said, self._speed = "", 0, 0.0, 0.0

    def begin(self, stage: str, steps: int, done: int) -> None:
        self._compiled = compile_seconds()
        self._stage, self._steps, self._said = stage, steps, time.monotonic()
        self._began = time.monotonic()
        self._first = done
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description:>10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(stage, total=steps, completed=done, facts="compiling")
            self._bar.start()
        else:
            resumed = f" from step {done}" if done else ""
            self.line(f"{stage}: {steps} steps{resumed}, compiling ...")

    def advance(self, step: int, examples_per_second: float) -> None:
        self._speed = examples_per_second
        if not Screen.stepped:
            Screen.stepped = True
            self.note(f"first steps done {since_start():.1f} s after the command")
        if self._bar is not None:
            facts = f"{examples_per_second:,.0f} examples/s" if examples_per_second else "compiling"
            self._bar.update(self._task, completed=step, facts=facts)
        elif time.monotonic() - self._said > LINE_SECONDS:
            left = self._left(step)
            self.line(
                f"{self._stage}: step {step} of {self._steps}, "
                f"{examples_per_second:,.0f} examples/s, {left:.0f} s left"
            )
            self._said = time.monotonic()

    def _left(self, step: int) -> float:
        done = max(step - self._first, 1)
        return (time.monotonic() - self._began) / done * (self._steps - step)

    def epoch(self, record: dict[str, Any]) -> None:
        last = record["step"] == self._steps
        if not last and time.monotonic() - self._said < LINE_SECONDS:
            return
        self._said = time.monotonic()
        parts = [f"loss {np.mean(record['train']['loss']):.4f}"]
        if "validation_accuracy" in record:
            accuracy = np.mean(record["validation_accuracy"])
            parts.append(f"validation accuracy {100 * accuracy:.2f} %")
        if "sparsity" in record:
            parts.append(f"sparsity {100 * np.mean(record['sparsity']):.1f} %")
        self.note(f"epoch {record['epoch']}: {', '.join(parts)}")

    def end(self, stage: str, seconds: float) -> None:
        self.close()
        compiling = compile_seconds() - self._compiled
        speed = f", {self._speed:,.0f} examples/s" if self._speed else ""
        self.line(f"{stage}: done in {seconds:.1f} s ({compiling:.1f} s compiling){speed}")

    def note(self, text: str) -> None:
        self.line(f"  {text}")

    def line(self, text: str) -> None:
        """Prints a text as it is: brackets are no markup, and paths are not broken in two."""
        self.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def close(self) -> None:
        """Gives the terminal back, its cursor shown, if a stage was interrupted."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
