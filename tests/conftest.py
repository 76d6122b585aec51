"""Strictness for all tests: no silent broadcasting of ranks, warnings are errors, 4 CPU devices."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests count compilations, and leave nothing in the user's cache of programs.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import chex
import jax
import pytest

chex.set_n_cpu_devices(4)


@pytest.fixture(autouse=True, scope="session")
def _strict():
    jax.config.update("jax_numpy_rank_promotion", "raise")
