"""Widths of networks that are no finite numbers."""

import dataclasses

import pytest

from kd_jax.errors import UsageError
from kd_jax.models import MODELS


@pytest.mark.parametrize("width", ["inf", "nan", "1e39"])
def test_what_is_no_finite_number_is_no_width(width):
    having = [model for model in MODELS.values() if hasattr(model, "width")]
    assert len(having) > 3
    for model in having:
        with pytest.raises(UsageError, match="width"):
            dataclasses.replace(model, width=float(width))
