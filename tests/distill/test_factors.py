"""Factor transfer, and the paraphraser that is trained before it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import F_S, F_T, QUICK, agrees
from made_lessons import lesson, own

from kd_jax.distill import FT
from kd_jax.distill.factors import reconstruction
from kd_jax.errors import UsageError

TERM = FT(paraphrase=2.0)


def test_factors_are_those_of_the_reference():
    agrees(lambda s: FT()([(s, F_T)], {}), [F_S], 0.11496652328039969, 0.039732163000931714)


def test_the_form_of_the_paper_by_hand():
    s, t = (x.reshape(4, -1) for x in (F_S, F_T))
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    pair = (jnp.asarray(F_S, jnp.float32), jnp.asarray(F_T, jnp.float32))
    value = FT(form="paper")([pair], {})
    np.testing.assert_allclose(value, np.abs(s - t).sum(axis=1), rtol=1e-5)


@jax.jit
def evaluate(term, carried, given):
    def loss(student, params):
        told = dataclasses.replace(given, student=student)
        values, state = term.evaluate(dataclasses.replace(carried, params=params), told)
        return jnp.mean(values), state

    gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    return gradient(given.student, carried.params)


@pytest.fixture(scope="module")
def begun():
    """What is carried after the parameters have moved from where they began."""
    carried = jax.jit(own, compiler_options=QUICK)(TERM, lesson())
    return dataclasses.replace(carried, params=jax.tree.map(lambda x: 1.5 * x, carried.params))


def largest(tree):
    return max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(tree))


@pytest.mark.slow
def test_first_the_paraphraser_learns_alone_with_weight_one(begun):
    (value, state), (by_student, by_params) = evaluate(TERM, begun, lesson(epoch=1.9))
    pairs = TERM.pairs(lesson().student, lesson().teacher)
    rebuilt = jnp.mean(reconstruction(pairs, begun.params))
    np.testing.assert_allclose(TERM.weight * value, rebuilt, rtol=1e-5)
    assert largest(by_student) == largest(by_params["translator0"]) == 0
    assert largest(by_params["paraphraser0"]) > 0
    assert largest(by_params["decoder0"]) > 0
    np.testing.assert_array_equal(
        state["paraphraser0"]["conv0"]["kernel"], begun.params["paraphraser0"]["conv0"]["kernel"]
    )


def test_then_it_stays_as_it_was_and_the_student_learns(begun):
    (value, state), (by_student, by_params) = evaluate(TERM, begun, lesson(epoch=2.0))
    jax.tree.map(np.testing.assert_array_equal, state, begun.state)
    assert largest(by_student) > 0
    assert largest(by_params["translator0"]) > 0
    assert largest(by_params["paraphraser0"]) == largest(by_params["decoder0"]) == 0
    # Of the copy, whatever has become of what it was copied from.
    pairs = TERM.pairs(lesson().student, lesson().teacher)
    expected = jnp.mean(TERM(pairs, {**begun.params, **begun.state}))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert not np.isclose(value, jnp.mean(TERM(pairs, begun.params)), rtol=1e-3)


def test_it_is_counted_from_the_start_of_the_term(begun):
    late = dataclasses.replace(TERM, start=5.0)
    _, (by_student, _) = evaluate(late, begun, lesson(epoch=6.9))
    assert largest(by_student) == 0
    _, (by_student, _) = evaluate(late, begun, lesson(epoch=7.0))
    assert largest(by_student) > 0


def test_a_weight_of_zero_stays_finite(begun):
    (value, _), _ = evaluate(dataclasses.replace(TERM, weight=0.0), begun, lesson(epoch=0.0))
    assert jnp.isfinite(value)


def test_factors_have_at_least_one_channel():
    with pytest.raises(UsageError, match=r"^reduction 9: between 1 and the teacher's 3 channels"):
        FT(reduction=9).connectors(jax.random.key(0), [(F_S, F_T)])
