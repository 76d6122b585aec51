"""What every distillation term must do, whatever it reads. A new one joins by its line in TERMS."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from made_lessons import lesson, own

from kd_jax.distill import TERMS

each_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS.keys())
# What needs a program of its own: each term is held to one of these by the fast tests, in turn, and
# to all of them by the slow ones.
EAGER, HALF, SPREAD, SEEDS, VALUE = range(5)


def in_turn(which):
    """The terms, of which those are fast whose turn it is."""
    turns = enumerate(TERMS.items())
    return pytest.mark.parametrize(
        "term",
        [
            pytest.param(term, id=name, marks=[pytest.mark.slow] * (i % 5 != which))
            for i, (name, term) in turns
        ],
    )


EPOCHS = (0.5, 99.5)  # some of a term may be trained before the rest


def value(term, carried, given):
    """Its mean over the batch."""
    return jnp.mean(term.evaluate(carried, given)[0])


def with_student(given, student):
    return dataclasses.replace(given, student=student)


def gradient(term, carried, given):
    """(value, gradients by the student's outputs and by what the term trains)."""

    def loss(student, params):
        return value(
            term, dataclasses.replace(carried, params=params), with_student(given, student)
        )

    return jax.value_and_grad(loss, argnums=(0, 1))(given.student, carried.params)


# One program for many tests, compiled without optimising: that is most of what they take.
QUICK = {"xla_backend_optimization_level": 0}
compiled = jax.jit(gradient, compiler_options=QUICK)


begun = jax.jit(own, compiler_options=QUICK)


@functools.cache
def carried_by(term, seed=0):
    return begun(term, lesson(), seed)


def close(found, expected):
    """What cancels in a gradient is known to a share of the loss, which may be a large sum."""
    atol = 1e-6 * max(1, abs(float(expected[0])))
    chex.assert_trees_all_close(found, expected, rtol=2e-4, atol=atol)


@in_turn(VALUE)
def test_a_value_an_example_or_one_for_the_batch_in_float32(term):
    given, carried = lesson(), carried_by(term)
    values, state = jax.eval_shape(term.evaluate, carried, given)
    assert values.shape in ((), (given.labels.size,))
    assert values.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(state, carried.state)


@each_term
def test_the_student_and_what_the_term_trains_learn_from_it(term):
    found = [compiled(term, carried_by(term), lesson(epoch=epoch)) for epoch in EPOCHS]
    chex.assert_tree_all_finite(found)
    largest = jax.tree.map(lambda *gs: max(float(jnp.max(jnp.abs(g))) for g in gs), *found)
    by_student, by_params = largest[1]
    assert max(jax.tree.leaves(by_student)) > 0
    assert min(jax.tree.leaves(by_params), default=1) > 0


@in_turn(EAGER)
def test_jit_computes_the_same(term):
    given, carried = lesson(), carried_by(term)
    np.testing.assert_allclose(
        compiled(term, carried, given)[0], value(term, carried, given), rtol=2e-4, atol=1e-6
    )


@in_turn(HALF)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_half_precision_stays_finite(term, dtype):
    loss, gradients = compiled(term, carried_by(term), lesson(dtype))
    assert loss.dtype == jnp.float32
    chex.assert_tree_all_finite((loss, gradients))
    whole = compiled(term, carried_by(term), lesson())[0]
    np.testing.assert_allclose(loss, whole, rtol=0.1, atol=0.02)


@each_term
@pytest.mark.parametrize("scale", [0.0, 1e-6, 3e3])
def test_extremes_stay_finite(term, scale):
    for epoch in EPOCHS:
        given = lesson(scale=scale, epoch=epoch)
        chex.assert_tree_all_finite(compiled(term, carried_by(term), given))


@each_term
def test_equal_networks_stay_finite(term):
    given = lesson()
    if not term.logits_alone:
        pytest.skip("the two differ in width")
    said = dataclasses.replace(given.teacher, logits=given.student.logits)
    same = dataclasses.replace(given, teacher=said)
    chex.assert_tree_all_finite(compiled(term, carried_by(term), same))


@in_turn(SPREAD)
def test_one_device_and_eight_compute_the_same(term):
    given, carried = lesson(), carried_by(term)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    rows = lambda x: split if x.ndim and x.shape[0] == given.labels.size else whole  # noqa: E731
    spread = jax.tree.map(lambda x: jax.device_put(x, rows(x)), given)
    together = compiled(term, jax.device_put(carried, whole), spread)
    close(together, compiled(term, carried, given))


@in_turn(SEEDS)
def test_seeds_run_in_one_program(term):
    given = [lesson(), lesson(scale=0.5)]
    carried = [carried_by(term, seed) for seed in (0, 1)]
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    seeds = jax.jit(jax.vmap(value, in_axes=(None, 0, 0)), compiler_options=QUICK)
    together = seeds(term, stack(carried), stack(given))
    alone = [compiled(term, *each)[0] for each in zip(carried, given, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=2e-4)


@each_term
def test_its_weight_follows_its_schedule(term):
    timed = dataclasses.replace(term, start=1.0, warmup=2.0, stop=6.0, cooldown=2.0)
    epochs = jnp.array([0.0, 0.9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0])
    expected = [0, 0, 0, 0.5, 1, 1, 0.5, 0, 0]
    np.testing.assert_allclose(jax.vmap(timed.factor)(epochs), expected)
    always = dataclasses.replace(term, warmup=0.0)  # some are published with one
    np.testing.assert_allclose(jax.vmap(always.factor)(epochs), 1)
