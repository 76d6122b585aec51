"""A run that is killed at any moment, any number of times, ends like one that nobody touched: all
that was trained, to the bit, and all that is told of it."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
LONGEST = 3.0  # seconds of training before a kill, at most
EARLY = 0.2  # of the kills, which come before: while a process starts, and reads where it was
# What no two runs have in common: how long things took.
TIMES = {"seconds", "latency", "step_ms", "sparse", "gating", "environment"}
TIMES |= {"checksum"}  # of these too


def start(folder, which, programs):
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    # Programs are compiled once for all processes: otherwise nothing else would be killed.
    variables |= {"JAX_COMPILATION_CACHE_DIR": str(programs), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    variables |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "killed_run.py", str(folder), which]
    return subprocess.Popen(
        words, cwd=HERE, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def timeless(found):
    if isinstance(found, dict):
        return {name: timeless(x) for name, x in found.items() if name not in TIMES}
    return [timeless(x) for x in found] if isinstance(found, list) else found


def left(folder):
    """What a run leaves, by file: networks and states as checksums, histories, results."""
    found = {}
    for path in sorted((folder / "run").rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("done.json", "state.json", "results.json", "histories.json"):
            found[name] = timeless(json.loads(path.read_text()))
        if path.name == "history.jsonl":
            found[name] = path.read_text()
        if path.suffix == ".kdz":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run_killed(folder, which, programs, kills, rng):
    """How many kills it took until the run had ended, at most so many; and when they came."""
    done, starting = [], 3.0
    while True:
        with start(folder, which, programs) as process:
            assert process.stdout is not None
            early, began = len(done) < kills and rng.random() < EARLY, time.monotonic()
            if not early:
                process.stdout.readline()  # "go", or nothing at its end
                starting = time.monotonic() - began
            if len(done) < kills:
                wait = rng.uniform(0, starting if early else LONGEST)
                until = time.monotonic() + wait
                while process.poll() is None and time.monotonic() < until:
                    time.sleep(0.001)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    done.append(round(wait, 2))
            _, said = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), said
        if process.returncode == 0:
            return done


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


def check(tmp_path, which, programs, kills, seed):
    """Kills one run after another until there were enough; each must end like one that nobody
    touched."""
    assert run_killed(tmp_path / "whole", which, programs, 0, random.Random(0)) == []
    whole = left(tmp_path / "whole")
    rng, when, runs = random.Random(seed), [], 0
    while len(when) < kills:
        folder = tmp_path / str(runs)
        when += run_killed(folder, which, programs, kills - len(when), rng)
        found = left(folder)
        assert found.keys() == whole.keys()
        for name, expected in whole.items():
            assert found[name] == expected, name
        runs += 1
    print(f"{len(when)} kills of {runs} runs, after {min(when)} to {max(when)} s")
    return whole


def states(whole):
    return [name for name in whole if name.endswith("state.json")]


def test_a_run_killed_a_few_times_ends_like_one_that_nobody_touched(tmp_path, programs):
    whole = check(tmp_path, "few", programs, 3, seed=1)
    kinds = {Path(name).name for name in whole}
    assert {"done.json", "state.json", "history.jsonl", "results.json"} <= kinds
    assert len(states(whole)) == 3


@pytest.mark.slow
def test_a_hundred_kills_over_all_stages_change_nothing(tmp_path, programs):
    whole = check(tmp_path, "all", programs, 100, seed=2)
    assert len(states(whole)) == 20  # 10 stages that leave a state, 2 seeds
    assert [name for name in whole if name.endswith(".kdz")] == ["run/encoded/coarse-seed-0.kdz"]
    assert whole["run/results.json"]["delivered"]["file"] == "encoded/coarse-seed-0.kdz"


@pytest.mark.slow
def test_kills_of_seeds_and_settings_in_one_program_change_nothing(tmp_path, programs):
    assert len(states(check(tmp_path, "together", programs, 40, seed=3))) == 3


@pytest.mark.slow
def test_kills_while_data_are_read_on_the_way_change_nothing(tmp_path, programs):
    assert len(states(check(tmp_path, "streamed", programs, 30, seed=4))) == 3
