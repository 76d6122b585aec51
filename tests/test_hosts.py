"""Two hosts, for real: two processes of two devices each, which train one model."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs

from kd_jax import hosts
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.state import rest

HERE = Path(__file__).resolve().parent


def both(folder, what, devices=2, stage="PRUNE"):
    """What the two hosts print, of so many devices each, in a stage of `tiny_runs`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONPATH": path}
    running = [
        subprocess.Popen(
            [sys.executable, "two_hosts.py", address, index, folder, what, str(devices), stage],
            cwd=HERE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in ("0", "1")
    ]
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    return [text.strip().splitlines()[-1] for text, _ in said]


@pytest.mark.slow  # the other tests hold each part of it
def test_two_hosts_stop_and_go_on_and_end_like_one(tmp_path):
    stopped = both(tmp_path, "stop")
    assert stopped == ["True 2 4 [('', 12, 0)]"] * 2
    assert Store(tmp_path).facts() is None
    assert both(tmp_path, "go_on") == ["True 2 4 [('', 12, 5)]"] * 2
    store = Store(tmp_path)
    assert [record["epoch"] for record in store.history()] == [1, 2, 3]
    alone = rest(tiny_runs.fit(tiny_runs.PRUNE, devices=4)[0])
    for a, b in zip(jax.tree.leaves(store.load()), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_both_save_when_one_is_told_to_stop_and_end_like_one_bit_for_bit(tmp_path):
    """A sum of two numbers has no order; of more devices, hosts sum in another one."""
    first, second = both(tmp_path, "tell", devices=1, stage="QUIET")
    assert first == second
    assert first.startswith("143 : saved at step ")
    step = int(first.split()[5])
    assert step >= 6
    assert Store(tmp_path).facts() is None
    went_on = both(tmp_path, "go_on", devices=1, stage="QUIET")
    assert went_on == [f"True 2 2 [('', 12, {step})]"] * 2
    store = Store(tmp_path)
    assert [record["epoch"] for record in store.history()] == [1, 2, 3]
    alone = rest(tiny_runs.fit(tiny_runs.QUIET, devices=2)[0])
    found, known = (dict(x.variables) | {"masks": x.masks} for x in (store.load(), alone))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(known), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_both_save_and_end_when_one_is_told_to_stop(tmp_path):
    first, second = both(tmp_path, "tell")
    assert first == second
    assert first.startswith("143 : saved at step ")
    step = int(first.split()[5])
    assert step >= 6
    assert both(tmp_path, "go_on") == [f"True 2 4 [('', 12, {step})]"] * 2


@pytest.mark.parametrize("value", ["here", "a:1,2", "a:1,2,2", "a,2,0", ""])
def test_what_is_no_host_is_refused(value):
    with pytest.raises(UsageError, match=r"--hosts .*: must be auto, or ADDRESS:PORT,COUNT,INDEX"):
        hosts.join(["run", "digits", f"--hosts={value}"])


def test_without_the_flag_nothing_is_joined():
    assert hosts.join(["run", "digits", "--seeds", "2"]) == ["run", "digits", "--seeds", "2"]
    assert not hosts.several()
    assert hosts.first()
