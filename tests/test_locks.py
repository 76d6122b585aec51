"""One process at a time in a run's folder."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from calls import refused

from kd_jax import cli, locks, pipeline
from kd_jax.config import smoke
from kd_jax.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
HOLD = "import sys, time; from pathlib import Path; from kd_jax import locks\n"
HOLD += "with locks.held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)\n"


@contextmanager
def holding(folder):
    """Another process, that holds a folder."""
    words = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def holder(tmp_path):
    with holding(tmp_path) as process:
        yield process


def take(folder):
    with locks.held(folder):
        return (folder / locks.FILE).read_text()


def test_the_second_is_told_who_the_first_is(tmp_path, holder):
    with pytest.raises(UsageError, match=rf"^{tmp_path} is in use by process {holder.pid} on "):
        take(tmp_path)


def test_no_lock_outlives_its_process(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert f'"process": {os.getpid()},' in take(tmp_path)
    assert take(tmp_path)  # and once more


def test_a_lock_that_is_just_being_written(tmp_path, holder):
    (tmp_path / locks.FILE).write_text("{")
    with pytest.raises(UsageError, match="is in use by another process: wait for it or stop it"):
        take(tmp_path)


def test_two_commands_do_not_train_in_one_folder(call, tmp_path):
    experiment = smoke(cli.preset("digits"))
    words = ("run", "digits", "--smoke", "--out", tmp_path)
    folder = tmp_path / pipeline.folder_of(experiment).name
    folder.mkdir()
    with holding(folder) as process:
        found = refused(call, *words)
    assert found.startswith(f"{folder} is in use by process {process.pid} on ")
    assert not list(folder.glob("train"))
