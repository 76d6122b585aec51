"""Compiled programs outlive the process, and compiling is timed."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from kd_jax import startup

PROGRAM = """
from kd_jax import startup
startup.keep_programs()
import jax
jax.jit(lambda x: jax.lax.fori_loop(0, 9, lambda i, x: jax.numpy.sin(x @ x), x))(jax.numpy.eye(9))
print(jax.config.jax_compilation_cache_dir)
"""


def run(**environment):
    allowed = {n: v for n, v in os.environ.items() if n != "JAX_COMPILATION_CACHE_DIR"}
    allowed |= environment
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=allowed, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_programs_are_kept_in_the_users_cache(tmp_path):
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    folder = Path(run(XDG_CACHE_HOME=str(tmp_path), **always))
    assert folder == tmp_path / "kd_jax" / "programs"
    assert folder.is_dir()


def test_another_place_is_respected(tmp_path):
    elsewhere = str(tmp_path / "elsewhere")
    assert run(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=elsewhere) == elsewhere
    assert not (tmp_path / "kd_jax").exists()


def test_a_cache_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(XDG_CACHE_HOME=str(tmp_path / "file")) == "None"


def test_compiling_is_counted():
    before = startup.compile_seconds()
    jax.jit(lambda x: jnp.cos(x) + 17)(jnp.ones(3))
    assert startup.compile_seconds() > before
    assert startup.since_start() > 0


def test_what_takes_long_to_import_waits_until_it_is_needed():
    heavy = {
        "tensorboardX",
        "tensorflow_datasets",
        "matplotlib",
        "orbax.checkpoint",
        "scipy",
        "grain",
        "onnx",
    }
    # Also where a verb is chosen, and its flags are read.
    verbs = "cli_evaluate, cli_explain, cli_inspect, cli_reproduce, cli_run"
    for line in ("import kd_jax.cli", f"from kd_jax import {verbs}"):
        program = f"import sys; {line}; print(*sorted({heavy} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (done.returncode, done.stdout.strip()) == (0, ""), line
