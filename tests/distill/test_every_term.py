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


@each_term
def test_a_value_an_example_or_one_for_the_batch_in_float32(term):
    given = lesson()
    values, state = term.evaluate(own(term, given), given)
    assert values.shape in ((), (given.labels.size,))
    assert values.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(state, own(term, given).state)


@each_term
def test_the_student_and_what_the_term_trains_learn_from_it(term):
    given = lesson()
    loss, (by_student, by_params) = gradient(term, own(term, given), given)
    chex.assert_tree_all_finite((loss, by_student, by_params))
    assert max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(by_student)) > 0
    for leaf in jax.tree.leaves(by_params):
        assert jnp.any(leaf != 0)


@each_term
def test_jit_computes_the_same(term):
    given = lesson()
    eager = gradient(term, own(term, given), given)
    compiled = jax.jit(functools.partial(gradient, term))(own(term, given), given)
    chex.assert_trees_all_close(compiled, eager, rtol=2e-4, atol=1e-6)


@each_term
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_finite(term, dtype):
    given = lesson(dtype)
    loss, gradients = gradient(term, own(term, lesson()), given)
    assert loss.dtype == jnp.float32
    chex.assert_tree_all_finite((loss, gradients))
    np.testing.assert_allclose(
        loss, value(term, own(term, lesson()), lesson()), rtol=0.1, atol=0.02
    )


@each_term
@pytest.mark.parametrize("scale", [0.0, 1e-6, 3e3])
def test_extremes_stay_finite(term, scale):
    given = lesson(scale=scale)
    chex.assert_tree_all_finite(gradient(term, own(term, lesson()), given))


@each_term
def test_equal_networks_stay_finite(term):
    given = lesson()
    if not term.logits_alone:
        pytest.skip("the two differ in width")
    same = dataclasses.replace(given, teacher=given.student)
    chex.assert_tree_all_finite(gradient(term, own(term, given), same))


@each_term
def test_one_device_and_eight_compute_the_same(term):
    given = lesson()
    carried = own(term, given)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    rows = lambda x: split if x.ndim and x.shape[0] == given.labels.size else whole  # noqa: E731
    spread = jax.tree.map(lambda x: jax.device_put(x, rows(x)), given)
    compiled = jax.jit(functools.partial(gradient, term))
    together = compiled(jax.device_put(carried, whole), spread)
    chex.assert_trees_all_close(together, compiled(carried, given), rtol=2e-4, atol=1e-6)


@each_term
def test_seeds_run_in_one_program(term):
    given = [lesson(), lesson(scale=0.5)]
    carried = [own(term, lesson(), seed) for seed in (0, 1)]
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731
    together = jax.vmap(functools.partial(value, term))(stack(carried), stack(given))
    alone = [value(term, *each) for each in zip(carried, given, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=2e-4)


@each_term
def test_its_weight_follows_its_schedule(term):
    timed = dataclasses.replace(term, start=1.0, warmup=2.0, stop=6.0, cooldown=2.0)
    epochs = jnp.array([0.0, 0.9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0])
    expected = [0, 0, 0, 0.5, 1, 1, 0.5, 0, 0]
    np.testing.assert_allclose(jax.vmap(timed.factor)(epochs), expected)
    always = dataclasses.replace(term, warmup=0.0)  # some are published with one
    np.testing.assert_allclose(jax.vmap(always.factor)(epochs), 1)
