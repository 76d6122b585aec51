"""Strictness for all tests: no silent broadcasting of ranks, warnings are errors, 8 CPU devices."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What one test compiled serves others, in this run: it leaves nothing in the user's cache.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="kd_jax_programs_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
# Compiling is most of what tests take, and optimising most of that.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

import chex
import jax
import pytest

chex.set_n_cpu_devices(8)


@pytest.fixture(autouse=True, scope="session")
def _strict():
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def _hasty():
    """How fast networks are is measured in every report, and no test hangs on it."""
    from kd_jax import latency

    latency.SECONDS = 0.01


@pytest.fixture(autouse=True, scope="module")
def _forgetful():
    """What a file's tests compiled goes with them: in one process all of it would be more memory
    maps than there may be."""
    from kd_jax import compiled

    yield
    compiled.forget()


@pytest.fixture
def call(capsys, monkeypatch):
    """Calls main as run.py does: (exit status, what it printed, what it complained of)."""
    from kd_jax import cli, pipeline  # here: few tests need them

    def train(*_):
        raise AssertionError("training has begun")

    monkeypatch.setattr(pipeline, "train", train)
    # Console() reads it; a narrow one breaks lines, which is no matter of these tests.
    monkeypatch.setenv("COLUMNS", "200")

    def main(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return main


@pytest.fixture
def unextended():
    """What a test adds to the package by files outside it is gone after the test."""
    from kd_jax import extensions, serialize

    tables = [*(table for table, _ in extensions.TABLES.values()), serialize.CLASSES]
    before = [dict(table) for table in tables]
    yield
    extensions._FILES.clear()
    serialize._SOURCES.clear()
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture(scope="module")
def optimised():
    """XLA optimises, for tests that compare programs whose rounding differs more without."""
    option = "jax_disable_most_optimizations"
    before = jax.config.read(option)
    jax.config.update(option, False)
    yield
    jax.config.update(option, before)
