"""Marks of cases that a test is tried with."""

import pytest


def slow_but(fast, values):
    """Cases of which all but the fast ones are slow: where each needs programs of its own, the fast
    tests try a few."""
    return [pytest.param(v, marks=[pytest.mark.slow] * (v not in fast)) for v in values]
