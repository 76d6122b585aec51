"""Disks that fail amid training, for real: one line says so, and the run goes on afterwards."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# With a limit on the size of any file, what is too large fails to be written.
LIMITED = """
import resource, sys
from kd_jax import latency
from kd_jax.cli import main
latency.SECONDS = 0.01
if sys.argv[1] != "none":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""
RUN = ("run", "digits", "--only", "train", "--seeds", "1", "--checkpoint-seconds", "0.1")
SHORT = (*RUN, "--train.epochs", "10")
# Of 9,600 weights, and soon compiled.
SMALL = ("--teacher.widths", "128", "--teacher.dropout", "0", "--train.augment.shift", "0")


def command(*words, limit="none"):
    # Without coverage: it would write, and complain, too.
    variables = {name: x for name, x in os.environ.items() if not name.startswith("COV")}
    variables["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *map(str, words)],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def check_that_it_fails_in_one_line_and_goes_on(out, reason, repair, flags=(), limit="none"):
    words = (*SHORT, *flags, "--out", out)
    status, _, error = command(*words, limit=limit)
    assert status == 2, error
    (folder,) = out.iterdir()
    steps = folder / "train" / "seeds-0" / "steps"
    assert error.startswith(f"error: can't write to or read from {folder}/")
    assert error.endswith(f"({reason}): make it possible, or choose another folder\n")
    assert error.count("\n") == 1  # nothing of any library
    assert not list(steps.glob("[0-9]")), "what could not be written counts as written"
    repair()
    status, shown, error = command(*words)
    assert (status, error) == (0, "")
    assert "train (seed 0): done in " in shown


@pytest.mark.slow
def test_a_file_that_can_not_be_written_whole(tmp_path):
    check_that_it_fails_in_one_line_and_goes_on(
        tmp_path / "runs", "File too large", lambda: None, SMALL, limit=20_000
    )


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    words = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if mount is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("file systems can't be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow  # but for the reason, as where a file can't be written whole
def test_a_disk_that_is_full(small_disk):
    def repair():
        words = ["mount", "-o", "remount,size=50m", str(small_disk)]
        subprocess.run(words, check=True, capture_output=True)

    check_that_it_fails_in_one_line_and_goes_on(small_disk, "No space left on device", repair)


def fill(file):
    """Makes it as large as the disk allows."""
    with file.open("wb", 0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))


@pytest.mark.slow  # as above, but for what lies there already
def test_a_disk_that_fills_up_leaves_the_checkpoints_before(small_disk):
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    out, filler = small_disk / "runs", small_disk / "filler"
    words = (*RUN, *SMALL, "--train.epochs", "3000", "--out", out)
    with started(*words) as process:
        wait_for_two(process, out)
        good = max(steps_of(out))
        fill(filler)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error.startswith("error: ")
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert steps_of(out), "the good ones are gone"
    filler.unlink()
    said, _ = gone_on(words)
    assert int(said[-1].split("from step ")[1].split(",")[0]) >= good


def test_a_disk_that_can_only_be_read(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, capture_output=True)
    status, _, error = command(*RUN, "--out", small_disk)
    assert status == 2
    assert error.startswith(f"error: --out {small_disk}: can't write to {small_disk}/digits-")
    assert error.endswith("(Read-only file system): choose another folder\n")


def steps_of(out):
    """The checkpoints of the only stage."""
    return {int(path.name): path for path in out.glob("*/train/*/steps/*") if path.name.isdigit()}


def started(*words):
    return subprocess.Popen(
        [sys.executable, "-c", LIMITED, "none", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_two(process, out):
    """Until two checkpoints lie there."""
    while len(steps_of(out)) < 2:
        assert process.poll() is None
        time.sleep(0.01)


def gone_on(words):
    """(what the same command says until it has gone on from a checkpoint, and is killed; what it
    complains of)."""
    said = []
    with started(*words) as process:
        assert process.stdout is not None
        while not said or "from step" not in said[-1]:
            said.append(process.stdout.readline())
            assert said[-1], process.stderr and process.stderr.read()
        process.kill()
        _, error = process.communicate()
    return said, error


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_it_taken(tmp_path):
    words = (*RUN, *SMALL, "--train.epochs", "3000", "--out", tmp_path)
    with started(*words) as process:
        wait_for_two(process, tmp_path)
        process.kill()
        process.communicate()
    before, last = sorted(steps_of(tmp_path))[-2:]
    for path in steps_of(tmp_path)[last].rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    said, error = gone_on(words)
    assert f"  warning: the checkpoint of step {last} is damaged, and was deleted\n" in said
    assert said[-1].startswith(f"train (seed 0): 42000 steps from step {before}, ")
    assert not error
