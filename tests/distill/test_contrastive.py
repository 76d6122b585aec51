"""Contrastive distillation: the loss, its memory, and its negatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import E_S, E_T, QUICK, agrees, wave
from made_lessons import LABELS, lesson, own

from kd_jax.distill import CRD
from kd_jax.distill.contrastive import by_class, other_classes, shared_negatives
from kd_jax.distill.norms import unit
from kd_jax.errors import UsageError

# As the reference implementation was asked: no embedding, 10 examples, 5 negatives.
IDS = np.array([0, 3, 5, 7])
ROWS = np.array([[1, 2, 4, 6, 8], [9, 8, 7, 6, 5], [0, 1, 2, 3, 4], [9, 1, 3, 5, 2]])
KEPT = np.ones((4, 5), bool)
TERM = CRD(negatives=5, dim=8)


def directions(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


BANKS = {
    "student": directions(wave(np.sin, 0.11, 0.7, 10, 8)),
    "teacher": directions(wave(np.cos, 0.13, 0.2, 10, 8)),
}


def state(**parts):
    made = {
        **BANKS,
        "begun": np.zeros((), bool),
        "log_z": np.zeros(2),
        "classes": {"count": np.array([4, 6])},
    }
    return jax.tree.map(jnp.asarray, made | parts)


def contrast(e_s, rows=ROWS, kept=KEPT, **parts):
    return TERM(
        unit(e_s), jnp.asarray(directions(E_T)), state(**parts), IDS, jnp.asarray(rows), kept
    )


def test_it_is_that_of_the_reference():
    agrees(lambda e: contrast(e)[0], [E_S], 19.966514282759785, 3.0770126540965057)


def test_constants_and_memory_are_those_of_the_reference():
    with jax.enable_x64(True):
        _, log_z = contrast(jnp.asarray(E_S))
        np.testing.assert_allclose(np.exp(log_z), [65952.73759631054, 45468.04540003986], rtol=1e-6)
        student = TERM.move(jnp.asarray(BANKS["student"]), IDS, jnp.asarray(directions(E_S)))
        teacher = TERM.move(jnp.asarray(BANKS["teacher"]), IDS, jnp.asarray(directions(E_T)))
        np.testing.assert_allclose(
            [student[0, 0], teacher[0, 0]], [0.2505166266420556, 0.5386227608993708], rtol=1e-9
        )
    others = np.array([1, 2, 4, 6, 8, 9])
    np.testing.assert_array_equal(student[others], BANKS["student"][others])


def test_a_constant_stays_that_of_the_first_batch():
    with jax.enable_x64(True):
        kept = {"begun": np.ones((), bool), "log_z": np.array([9.0, 10.0])}
        values, log_z = contrast(jnp.asarray(E_S), **kept)
        np.testing.assert_array_equal(log_z, [9, 10])
        assert not np.allclose(values, contrast(jnp.asarray(E_S))[0], rtol=1e-2)


def test_one_set_of_negatives_for_all_is_the_same_set_for_each():
    e, rows = jnp.asarray(E_S, jnp.float32), ROWS[0]
    each = contrast(e, np.broadcast_to(rows, (4, 5)))
    for ours, theirs in zip(contrast(e, rows), each, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_negatives_that_are_left_out_are_made_up_for_by_the_others():
    e, log_z = jnp.asarray(E_S, jnp.float32), {"begun": np.ones((), bool), "log_z": np.full(2, 9.0)}
    part = contrast(e, ROWS[0], KEPT & (np.arange(5) < 2)[None], **log_z)[0]
    twice = contrast(e, np.array([1, 2, 1, 2, 1]), **log_z)[0]
    other = contrast(e, np.array([1, 2, 1, 2, 2]), **log_z)[0]
    np.testing.assert_allclose(part, (twice + other) / 2, rtol=1e-5)


HELD = np.array([2, -1, 0, 1, 0, -1, 1, 1, 2, -1, 1, 0])  # labels by id; some ids nobody has


@pytest.mark.parametrize("label", [0, 1, 2])
def test_negatives_are_drawn_evenly_from_all_other_classes(label):
    classes = by_class(jnp.asarray(HELD), 3)
    np.testing.assert_array_equal(classes["count"], [3, 4, 2])
    draw = jax.jit(lambda key: other_classes(key, classes, jnp.array([label, 0]), 6000))
    rows, kept = draw(jax.random.key(0))
    assert jnp.all(kept)
    others = np.flatnonzero((HELD >= 0) & (label != HELD))
    found, counts = np.unique(rows[0], return_counts=True)
    np.testing.assert_array_equal(found, others)
    expected = 6000 / others.size
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_shared_negatives_are_drawn_from_all_and_leave_out_the_own_class():
    classes = by_class(jnp.asarray(HELD), 3)
    rows, kept = shared_negatives(jax.random.key(0), classes, jnp.array([0, 1, 2]), 6000)
    found, counts = np.unique(rows, return_counts=True)
    np.testing.assert_array_equal(found, np.flatnonzero(HELD >= 0))
    assert np.all(np.abs(counts - 6000 / 9) < 5 * np.sqrt(6000 / 9))
    np.testing.assert_array_equal(kept, HELD[rows][None] != np.arange(3)[:, None])


@pytest.mark.parametrize("shared", [False, True])
def test_a_single_class_has_nothing_to_contrast_with_and_stays_finite(shared):
    given = dataclasses.replace(lesson(), labels=jnp.zeros(8, jnp.int32))
    term = CRD(dim=4, negatives=8, shared=shared)
    labels = jnp.where(LABELS < 0, -1, 0)
    carried = term.init(jax.random.key(0), given.student, given.teacher, labels)
    values, _ = jax.jit(term.evaluate, compiler_options=QUICK)(carried, given)
    assert jnp.all(jnp.isfinite(values))


@pytest.mark.parametrize("shared", [False, True])
def test_a_step_moves_the_memory_of_its_examples_alone(shared):
    given, term = lesson(), CRD(dim=4, negatives=32, shared=shared)
    carried = own(term, given)
    evaluate = jax.jit(term.evaluate, compiler_options=QUICK)
    first, after = evaluate(carried, given)
    rest = np.setdiff1d(np.arange(24), given.ids)
    for who in ("student", "teacher"):
        np.testing.assert_array_equal(after[who][rest], carried.state[who][rest])
        np.testing.assert_allclose(jnp.linalg.norm(after[who][given.ids], axis=1), 1, rtol=1e-5)
        assert jnp.all(jnp.any(after[who][given.ids] != carried.state[who][given.ids], axis=1))
    assert after["begun"]
    # What each has said of an example is nearer to it the next time.
    second, later = evaluate(dataclasses.replace(carried, state=after), given)
    np.testing.assert_array_equal(later["log_z"], after["log_z"])
    assert jnp.mean(second) < jnp.mean(first)


def test_shared_negatives_estimate_the_same_loss():
    given, means = lesson(), []
    for shared in (False, True):
        term = CRD(dim=4, negatives=2**16, shared=shared)
        carried = own(term, given)
        carried.state["begun"], carried.state["log_z"] = jnp.ones((), bool), jnp.full((2,), 5.0)
        means.append(jax.jit(term.evaluate, compiler_options=QUICK)(carried, given)[0])
    np.testing.assert_allclose(*means, rtol=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0.0}, r"CRD\.temperature is 0"),
        ({"momentum": 1.5}, r"CRD\.momentum is 1.5"),
        ({"negatives": 0}, r"CRD\.negatives is 0"),
        ({"dim": 0}, r"CRD\.dim is 0"),
    ],
)
def test_a_bad_value_is_refused_by_name(fields, message):
    with pytest.raises(UsageError, match=message):
        CRD(**fields)
