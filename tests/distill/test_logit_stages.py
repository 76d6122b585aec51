"""Terms that train something of their own from logits, or need no teacher, in whole stages."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs

from kd_jax.distill import CTKD, USKD, TfKDVirtual


def test_a_temperature_is_trained_in_a_stage():
    stage = dataclasses.replace(tiny_runs.DISTILL, terms={"ctkd": CTKD(curriculum=1.0)})
    theta = tiny_runs.fit(stage)[0].extra["terms"]["ctkd"].params["theta"]
    assert theta.shape == (2,)
    assert jnp.all(theta != 1)


@pytest.mark.slow
def test_a_student_learns_alone_where_no_term_needs_a_teacher():
    terms = {"self": USKD(student_taps=("hidden",)), "virtual": TfKDVirtual()}
    alone = {"teacher": "", "hard_weight": 0.9, "epochs": 3}
    stage = dataclasses.replace(tiny_runs.DISTILL, terms=terms, **alone)
    state, diary = tiny_runs.fit(stage, teacher=None)
    assert state.extra["terms"]["self"].params["weak"]["kernel"].shape == (2, 8, 10)
    for name in terms:
        said = [np.mean(record["train"][name]) for record in diary.records]
        assert said[-1] < said[0]
