"""Being told to stop: what is trained is saved at once, and the run goes on from there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import tiny_runs

from kd_jax import loop, pieces, stopping
from kd_jax.checkpoint import Store

ROOT = Path(__file__).resolve().parent.parent
STAGE = tiny_runs.PRUNE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_loses_no_step(tmp_path, number):
    straight, _ = tiny_runs.fit(STAGE)
    store, report = Store(tmp_path), tiny_runs.Told(5, number)
    with stopping.listening(), pytest.raises(stopping.Stop) as caught:
        tiny_runs.fit(STAGE, store=store, report=report, save_seconds=1e9, name="prune")
    last = report.steps[-1]
    assert 5 <= last < 12
    assert caught.value.number == number
    assert caught.value.saved == f"prune: saved at step {last} of 12"
    state, diary = tiny_runs.fit(STAGE, store=Store(tmp_path))
    assert diary.began == [("", 12, last)]
    assert not tiny.differences(state, straight)


class Asked(pieces.Runner):
    """Hears a signal just after it was asked for one, at the last step."""

    def agreed(self, due):
        found = super().agreed(due)
        if self.last:
            tell()
        return found

    def piece(self, step, carry):
        found = super().piece(step, carry)
        self.last = found[0] == self.job.program.steps
        return found


class Finishing(Store):
    """Hears a signal while the network is saved."""

    def finish(self, snapshot, facts):
        tell()
        super().finish(snapshot, facts)


@pytest.mark.parametrize(
    ("runner", "store"), [(Asked, Store), (pieces.Runner, Finishing)], ids=["before", "amid"]
)
def test_a_signal_at_a_stages_end_lets_it_be_saved_and_no_other_begin(
    tmp_path, monkeypatch, runner, store
):
    monkeypatch.setattr(loop, "Runner", runner)
    with stopping.listening(), pytest.raises(stopping.Stop) as caught:
        tiny_runs.fit(STAGE, store=store(tmp_path), save_seconds=1e9, name="prune")
    assert (caught.value.number, caught.value.saved) == (signal.SIGTERM, "prune: done")
    assert Store(tmp_path).facts() is not None


def test_what_was_not_saved_for_a_mistake_makes_no_later_signal_wait():
    stopping.unsaved()
    with stopping.listening(), pytest.raises(stopping.Stop):
        tell()


def tell():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)


def test_a_signal_ends_what_has_nothing_to_save_at_once():
    with stopping.listening(), pytest.raises(stopping.Stop) as caught:
        tell()
    assert (caught.value.status, caught.value.saved) == (143, "")


def test_the_second_signal_does_not_wait():
    with stopping.listening():
        stopping.unsaved()
        tell()
        assert stopping.told() == signal.SIGTERM
        with pytest.raises(stopping.Stop):
            tell()
    assert not stopping.told()


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with stopping.listening():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_the_command_saves_and_says_how_to_go_on(tmp_path):
    words = ["run.py", "run", "digits", "--only", "train", "--seeds", "1", "--out", str(tmp_path)]
    words += ["--train.epochs", "5000"]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "first steps done" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    said = said.strip().splitlines()[-1]
    assert said.startswith("told to stop; train (seed 0): saved at step ")
    assert said.endswith("; the same command goes on from the last checkpoint")
    step = int(said.split("saved at step ")[1].split()[0])
    (folder,) = tmp_path.iterdir()
    saved = {int(path.name) for path in folder.glob("train/*/steps/*") if path.name.isdigit()}
    assert step in saved
    assert json.loads((folder / "lock").read_text())["process"] == process.pid
