"""Strictness for all tests: no silent broadcasting of ranks, warnings are errors, 8 CPU devices."""

import gc
import os

import kept_programs

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What one test compiled serves others, in this run and in later ones: nothing is left in the user's
# cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(kept_programs.FOLDER))
# The smallest too: a lone addition takes 25 ms to compile, and 5 ms to be read.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Compiling is most of what tests take, and optimising most of that.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

import chex
import jax
import numpy as np
import pytest

chex.set_n_cpu_devices(8)

# Little of what tracing makes is garbage: looking for it as often as Python does takes up to a
# tenth of the time.
gc.freeze()
gc.set_threshold(50_000, 20, 100)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # for workers, the one who starts them has done it
        kept_programs.prune()


@pytest.fixture(autouse=True, scope="session")
def _strict():
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def _hasty():
    """How fast networks are is measured in every report, and no test hangs on it."""
    from kd_jax import latency

    latency.SECONDS = 0.01


@pytest.fixture
def unmeasured(monkeypatch):
    """Reports without latencies of their own and without the likeness of features: programs of each
    network, for tests that read neither."""
    from kd_jax import cka, latency, sparse

    once = latency.Latency(median_ms=1.0, low_ms=1.0, high_ms=1.0, runs=1)

    def measure(networks, inputs, seconds=None):
        return {name: {str(size): once for size in inputs} for name in networks}

    monkeypatch.setattr(latency, "measure", measure)
    monkeypatch.setattr(sparse, "measure", lambda *_: {})
    monkeypatch.setattr(cka, "places", lambda count: np.zeros((0, 0), np.int32))


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
