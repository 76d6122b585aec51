"""Scores do not depend on how many devices there are."""

import dataclasses

import pytest
import tiny_runs
from test_contracts import agree

from kd_jax.prune import CRITERIA, OneShot

pytestmark = pytest.mark.usefixtures("optimised")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["taylor", *(pytest.param(n, marks=pytest.mark.slow) for n in ("random", "fisher"))]
)
def test_devices_score_like_one(name):
    changes = {
        "epochs": 1,
        "gradient_norms": False,
        "criterion": CRITERIA[name],
        "schedule": OneShot(at=0.5),
    }
    stage = dataclasses.replace(tiny_runs.PRUNE, **changes)
    one, many = (tiny_runs.fit(stage, devices=n) for n in (1, 4))
    agree(one, many)
