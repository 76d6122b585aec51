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


def test_means_are_no_way_to_the_teacher():
    # Of a student whose embeddings are the longer ones, the loss reads the teacher in means alone.
    given = told(9 * E_S, E_T)

    def loss(e_t):
        teacher = dataclasses.replace(given.teacher, features={"pooled": e_t})
        now = dataclasses.replace(given, teacher=teacher)
        return jnp.mean(ND().evaluate(own(ND(), given), now)[0])

    np.testing.assert_array_equal(jax.grad(loss)(given.teacher.features["pooled"]), 0)


def test_the_projector_by_hand():
    given, term = lesson(), ND(dropout=0.0)
    carried = own(term, given)
    e_s, e_t = (np.asarray(said.features["pooled"]) for said in (given.student, given.teacher))
    normed = (e_s - e_s.mean(0)) / np.sqrt(e_s.var(0) + 1e-5)
    dense = jax.tree.map(np.asarray, carried.params["dense"])
    labels = np.asarray(given.labels)
    centers = np.stack([e_t[labels == y].mean(0) for y in labels])
    expected = term(*map(jnp.asarray, (normed @ dense["kernel"] + dense["bias"], e_t, centers)))
    np.testing.assert_allclose(term.evaluate(carried, given)[0], expected, rtol=1e-4, atol=1e-6)


def test_dropout_keeps_the_mean_of_what_the_projector_is_given():
    # Of embeddings of ones and minus ones, batch norm leaves what they are.
    ones = np.where(np.arange(4096).reshape(8, 512) % 1024 < 512, 1.0, -1.0)
    said = [
        Outputs(jnp.zeros((8, 6)), {"pooled": jnp.asarray(e, jnp.float32)})
        for e in (ones, np.ones((8, 1)))
    ]
    given = dataclasses.replace(lesson(), student=said[0], teacher=said[1])
    params = {
        "norm": {"scale": jnp.ones(512), "bias": jnp.zeros(512)},
        "dense": {"kernel": jnp.full((512, 1), 1 / 512), "bias": jnp.zeros(1)},
    }
    carried = dataclasses.replace(own(ND(), given), params=params)
    # 1 − e·1 / max(|e|, 1): e is ±1 but for what is drawn, and there are as many of either.
    values, _ = ND(dropout=0.2).evaluate(carried, given)
    np.testing.assert_allclose(values, np.tile([0, 2], 4), atol=0.1)


def test_there_is_one_embedding():
    with pytest.raises(UsageError, match=r"^student-taps: 2 features; name the embedding"):
        ND().connectors(jax.random.key(0), [(F_S, F_S)] * 2)
