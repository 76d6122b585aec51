"""The digits are scikit-learn's own, and neither it nor scipy.stats is imported for them."""

import importlib.machinery
import importlib.util
import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

from kd_jax import digits


def check(found):
    for array, expected, dtype in zip(found, load_digits(return_X_y=True), "Bi", strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == dtype


def test_they_are_those_of_scikit_learn():
    check(digits.stored())


def test_where_the_file_is_not_scikit_learn_is_asked(monkeypatch, tmp_path):
    elsewhere = importlib.machinery.ModuleSpec("sklearn", None, is_package=True)
    elsewhere.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: elsewhere)
    check(digits.stored())


HEAVY = """
import sys
from kd_jax import cli, digits
digits.stored()
print(*{"sklearn", "scipy.stats", "scipy.sparse"} & set(sys.modules))
"""


def test_what_starts_every_run_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
