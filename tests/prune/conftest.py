"""Criteria, masks and cuts are compiled many times and run on a handful of examples."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick(quick):
    """XLA optimises little: compiling is most of what these tests take."""
