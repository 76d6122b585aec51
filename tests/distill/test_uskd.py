"""Self-distillation from customised soft labels."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_lessons import lesson, own

from kd_jax.distill import USKD
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs


def made(dtype=np.float32):
    """Logits of the student and of the weak head [4, 6], labels."""
    k = np.arange(24.0).reshape(4, 6)
    logits, weak = 3 * np.sin(0.7 * k + 0.3), 4 * np.cos(0.9 * k + 0.1)
    return jnp.asarray(logits, dtype), jnp.asarray(weak, dtype), [1, 0, 3, 5]


def by_loops(logits, weak, labels, form):
    """Mean over the batch at α = 2, β = 3, μ = 5."""
    softmax = lambda z: np.exp(z) / np.sum(np.exp(z))  # noqa: E731
    mean_square = np.mean([softmax(z)[y] ** 2 for z, y in zip(logits, labels, strict=True)])
    total = 0.0
    for z, v, y in zip(logits, weak, labels, strict=True):
        p, w = softmax(z), softmax(v)
        s = np.log(p) if form == "code" else p
        total -= 2 * (p[y] ** 2 + 1 - mean_square) * np.log(p[y])
        score = w / (1 - w[y] + 1e-6) + s / (1 - s[y] + 1e-6)
        first = sorted(range(6), key=lambda k: -score[k])
        zipf = np.array([0 if k == y else 1 / (first.index(k) + 1) for k in range(6)])
        without = np.array([0 if k == y else p[k] for k in range(6)])
        without = np.where(without > 0, without / without.sum(), 1)
        total -= 3 * np.sum(zipf / zipf.sum() * np.log(without))
        total -= 5 * np.sum((0.9 * np.eye(6)[y] + 0.1 / 6) * np.log(w))
    return total / len(labels)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_value_is_that_of_loops_over_examples_and_classes(form):
    with jax.enable_x64(True):
        logits, weak, labels = made(np.float64)
        term = USKD(alpha=2.0, beta=3.0, mu=5.0, form=form)
        value = jnp.mean(term(logits, weak, jnp.eye(6)[np.array(labels)]))
        expected = by_loops(np.asarray(logits), np.asarray(weak), labels, form)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_two_forms_rank_classes_differently():
    logits, weak, labels = made()
    zipf = [
        USKD(form=f).zipf(logits, weak, jnp.eye(6)[np.array(labels)] > 0) for f in ("code", "paper")
    ]
    assert jnp.any(jnp.abs(zipf[0] - zipf[1]) > 0.1)


def test_what_it_makes_of_its_own_words_has_no_gradient():
    logits, weak, labels = made()
    targets = jnp.eye(6)[np.array(labels)]
    p, y = jax.nn.softmax(logits), targets > 0
    square = jnp.sum(targets * p, axis=-1) ** 2
    P = square + 1 - jnp.mean(square)
    without = jax.nn.softmax(jnp.where(y, -jnp.inf, logits))
    zipf = USKD().zipf(logits, weak, y)
    f = lambda z, w: jnp.sum(USKD(alpha=1.0, beta=1.0, mu=1.0)(z, w, targets))  # noqa: E731
    by_logits, by_weak = jax.grad(f, argnums=(0, 1))(logits, weak)
    expected = P[:, None] * (p - targets) + without - zipf
    np.testing.assert_allclose(by_logits, expected, rtol=1e-4, atol=1e-5)
    lesson = jax.nn.softmax(weak) - (0.9 * targets + 0.1 / 6)
    np.testing.assert_allclose(by_weak, lesson, rtol=1e-4, atol=1e-5)


def test_the_weak_head_reads_the_last_stage_but_one_or_what_it_is_told_to():
    given = lesson()
    assert USKD().reads(given.student, None) == (["stage2"], [])
    assert own(USKD(), given).params["weak"]["kernel"].shape == (5, 6)
    told = USKD(student_taps=("pooled",))
    assert own(told, given).params["weak"]["kernel"].shape == (6, 6)
    assert not USKD.taught

    def loss(features):
        student = dataclasses.replace(given.student, features=features)
        given_now = dataclasses.replace(given, student=student, teacher=None)
        return jnp.mean(told.evaluate(own(told, given), given_now)[0])

    gradients = jax.grad(loss)(given.student.features)
    assert jnp.any(gradients["pooled"] != 0)
    assert not jnp.any(gradients["stage2"] != 0)


def test_two_classes_and_sure_students_stay_finite():
    targets = jnp.array([[1.0, 0], [0, 1]])
    for z in (jnp.array([[1e4, -1e4], [1e4, -1e4]]), jnp.zeros((2, 2))):
        f = jax.value_and_grad(lambda z, w: jnp.sum(USKD()(z, w, targets)), argnums=(0, 1))
        chex.assert_tree_all_finite(f(z, -z))


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ((), "student-taps are none: the weak head reads one feature"),
        (("stem", "pooled"), "student-taps stem pooled: the weak head reads one feature"),
        (("pooles",), "student-taps pooles: the student has no such feature .* 'pooled'"),
    ],
)
def test_a_feature_that_is_not_there_is_refused(taps, message):
    said = Outputs(jnp.zeros((2, 3)), {name: jnp.zeros((2, 4)) for name in ("stem", "pooled")})
    with pytest.raises(UsageError, match=message):
        USKD(student_taps=taps).reads(said, None)
