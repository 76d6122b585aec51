"""Norm and direction, towards the teacher's class means."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import E_S, E_T, F_S
from made_lessons import lesson, own

from kd_jax.distill import ND
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs

LABELS = np.array([0, 2, 0, 1])


def told(e_s, e_t, labels=LABELS):
    said = [Outputs(jnp.zeros((4, 3)), {"pooled": jnp.asarray(e, jnp.float32)}) for e in (e_s, e_t)]
    return dataclasses.replace(
        lesson(), student=said[0], teacher=said[1], labels=jnp.asarray(labels)
    )


def test_by_hand():
    given = told(E_S, E_T)
    values, _ = ND().evaluate(own(ND(), given), given)
    means = np.stack([E_T[[0, 2]].mean(0), E_T[3], E_T[1]])[LABELS]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    longer = np.maximum(np.linalg.norm(E_S, axis=1), np.linalg.norm(E_T, axis=1))
    np.testing.assert_allclose(values, 1 - np.sum(E_S * means, 1) / longer, rtol=1e-5)


def test_direction_and_at_least_the_teachers_norm_are_all_that_it_asks():
    centers = E_T[:, ::-1]
    long = centers / np.linalg.norm(centers, axis=1, keepdims=True) * 9
    e_s, e_t, centers = (jnp.asarray(x, jnp.float32) for x in (long, E_T, centers))
    np.testing.assert_allclose(ND()(e_s, e_t, centers), 0, atol=1e-6)
    short = ND()(e_s / 90, e_t, centers)
    np.testing.assert_allclose(short, 1 - 0.1 / np.linalg.norm(E_T, axis=1), rtol=1e-5)


def test_means_are_of_all_that_was_seen():
    first, second = told(E_S, E_T), told(E_S, E_T + 1, [1, 1, 0, 0])
    carried = own(ND(), first)
    for given in (first, second):
        _, state = ND().evaluate(carried, given)
        carried = dataclasses.replace(carried, state=state)
    np.testing.assert_allclose(state["count"], [4, 3, 1])
    of_one = np.mean([E_T[3], E_T[0] + 1, E_T[1] + 1], axis=0)
    np.testing.assert_allclose(state["sum"][1] / 3, of_one, rtol=1e-5)


def test_a_projector_with_dropout_where_widths_differ():
    given = lesson()
    assert own(ND(), told(E_S, E_T)).params == {}
    carried = own(ND(), given)
    assert carried.params["dense"]["kernel"].shape == (6, 8)
    values = [
        ND().evaluate(carried, dataclasses.replace(given, key=jax.random.key(key)))[0]
        for key in (1, 1, 2)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2], rtol=1e-3)


def test_there_is_one_embedding():
    with pytest.raises(UsageError, match=r"^student-taps: 2 features; name the embedding"):
        ND().connectors(jax.random.key(0), [(F_S, F_S)] * 2)
