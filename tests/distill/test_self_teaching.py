"""A network whose own output teaches exits that leave it earlier."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from made_lessons import lesson, own

from kd_jax import stages
from kd_jax.distill import BYOT
from kd_jax.distill.self_teaching import embed
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs, from_linen


def wave(function, step, *shape):
    return function(step * np.arange(np.prod(shape)).reshape(shape) + 0.2)


EXITS = [3 * wave(np.sin, 0.7, 4, 6), 2 * wave(np.cos, 0.3, 4, 6)]
HINTS = [wave(np.sin, 0.5, 4, 5), wave(np.cos, 0.4, 4, 5)]
LOGITS, F = 4 * wave(np.cos, 0.9, 4, 6), wave(np.sin, 0.8, 4, 5)
TARGETS = np.eye(6)[[1, 0, 3, 5]]


def loss(term, exits=EXITS, hints=HINTS, logits=LOGITS, f=F):
    return jnp.mean(term(*jax.tree.map(jnp.asarray, (exits, hints, logits, f, TARGETS))))


def by_loops(alpha, temperature, beta):
    def log_p(z):
        return z - np.log(np.sum(np.exp(z)))

    total = 0.0
    for z, f_i in zip(EXITS, HINTS, strict=True):
        for b in range(4):
            hard = -np.sum(TARGETS[b] * log_p(z[b]))
            p = np.exp(log_p(LOGITS[b] / temperature))
            soft = -np.sum(p * log_p(z[b] / temperature))
            total += ((1 - alpha) * hard + alpha * temperature**2 * soft) / 4
        total += beta * np.sum((f_i - F) ** 2)
    return total


@pytest.mark.parametrize("numbers", [(0.1, 3.0, 1e-6), (0.7, 2.0, 0.5), (0.0, 1.0, 0.0)])
def test_value_is_that_of_loops_over_exits_and_examples(numbers):
    term = BYOT(**dict(zip(("alpha", "temperature", "beta"), numbers, strict=True)))
    with jax.enable_x64(True):
        np.testing.assert_allclose(loss(term), by_loops(*numbers), rtol=1e-9)


def test_who_teaches_has_no_gradient_and_who_learns_has_that_of_the_formula():
    term = BYOT(alpha=0.3, temperature=2.0, beta=0.5)
    given = [jax.tree.map(jnp.float32, x) for x in (EXITS, HINTS, LOGITS, F)]
    by = jax.grad(lambda *x: loss(term, *x), argnums=(0, 1, 2, 3))(*given)
    assert not jnp.any(by[2] != 0)
    assert not jnp.any(by[3] != 0)
    for i in range(2):
        soft = jax.nn.softmax(given[0][i] / 2) - jax.nn.softmax(given[2] / 2)
        hard = jax.nn.softmax(given[0][i]) - TARGETS
        np.testing.assert_allclose(by[0][i], (0.7 * hard + 0.3 * 2 * soft) / 4, atol=1e-6)
        np.testing.assert_allclose(by[1][i], given[1][i] - given[3], atol=1e-6)


def test_heads_are_made_from_the_shapes():
    shapes = {"stage1": (32, 32, 16), "stage2": (16, 16, 32), "stage3": (8, 8, 64), "pooled": (64,)}
    said = Outputs(
        jax.ShapeDtypeStruct((2, 10), jnp.float32),
        {name: jax.ShapeDtypeStruct((2, *s), jnp.float32) for name, s in shapes.items()},
    )
    heads = jax.eval_shape(lambda key: BYOT().init(key, said, None, None), jax.random.key(0)).params
    assert heads.keys() == {"exit0", "exit1"}
    shape = lambda i, part: heads[f"exit{i}"][part]["conv"]["kernel"].shape  # noqa: E731
    assert [shape(0, part) for part in ("narrow", "shrink", "widen")] == [
        *((1, 1, 16, 16), (4, 4, 16, 16), (1, 1, 16, 64)),
    ]
    assert shape(1, "shrink") == (2, 2, 16, 16)
    assert heads["exit1"]["classifier"]["kernel"].shape == (64, 10)


@pytest.mark.slow
def test_a_head_is_three_convolutions_and_a_mean_over_places():
    given = lesson()
    head = own(BYOT(), given).params["exit0"]
    x = np.asarray(given.student.features["stage1"])

    def normed(x):
        mean, var = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        return np.maximum((x - mean) / np.sqrt(var + 1e-5), 0)

    x = normed(x @ np.asarray(head["narrow"]["conv"]["kernel"])[0, 0])
    patches = x.reshape(8, 2, 4, 2, 4, -1)
    x = normed(np.einsum("bhiwjc,ijcd->bhwd", patches, head["shrink"]["conv"]["kernel"]))
    x = normed(x @ np.asarray(head["widen"]["conv"]["kernel"])[0, 0]).mean((1, 2))
    np.testing.assert_allclose(embed(head, given.student.features["stage1"]), x, atol=1e-4)


def test_exits_leave_all_stages_but_the_last_or_where_they_are_told_to():
    given = lesson()
    assert BYOT().reads(given.student, None) == (["stage1", "stage2", "pooled"], [])
    told = BYOT(student_taps=("stage2", "stage3"))
    assert told.reads(given.student, None) == (["stage2", "stage3"], [])
    carried = own(told, given)
    assert carried.params["exit0"]["widen"]["conv"]["kernel"].shape == (1, 1, 1, 6)
    assert not BYOT.taught

    def value(features):
        student = dataclasses.replace(given.student, features=features)
        now = dataclasses.replace(given, student=student, teacher=None)
        return jnp.mean(told.evaluate(carried, now)[0])

    gradients = jax.grad(value)(given.student.features)
    assert {name for name, g in gradients.items() if jnp.any(g != 0)} == {"stage2"}


def test_vectors_and_tokens_have_exits_too():
    shapes = {"stage1": (8, 12, 5), "stage2": (8, 12, 7), "pooled": (8, 7)}
    said = Outputs(
        jnp.zeros((8, 6)), {n: jnp.asarray(wave(np.sin, 0.3, *s)) for n, s in shapes.items()}
    )
    given = dataclasses.replace(lesson(), student=said, teacher=None)
    values, _ = BYOT().evaluate(own(BYOT(), given), given)
    assert values.shape == (8,)
    hidden = BYOT(student_taps=("pooled", "pooled"))
    assert jnp.all(jnp.isfinite(hidden.evaluate(own(hidden, given), given)[0]))


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ((), "student-taps are none: name the features that exits leave from and, last, what the"),
        (("stem",), "student-taps stem: name the features that exits leave from"),
        (("stem", "pooles"), "student-taps pooles: the student has no such feature.*'pooled'"),
    ],
)
def test_features_that_are_not_there_are_refused(taps, message):
    said = Outputs(jnp.zeros((2, 3)), {name: jnp.zeros((2, 4)) for name in ("stem", "pooled")})
    with pytest.raises(UsageError, match=message):
        BYOT(student_taps=taps).reads(said, None)


class Staged(nn.Module):
    """Two stages of maps."""

    @nn.compact
    def __call__(self, x, train=False):
        features = {}
        for i in (1, 2):
            conv = nn.Conv(4, (3, 3), strides=i, kernel_init=tiny.sines, name=f"conv{i}")
            features[f"stage{i}"] = x = nn.relu(conv(x))
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(10, kernel_init=tiny.sines, name="classifier")(x), features


@pytest.mark.slow
def test_a_stage_trains_the_exits_and_hands_on_the_network_alone():
    model = from_linen(Staged())
    alone = {"teacher": "", "hard_weight": 0.9, "epochs": 3, "terms": {"byot": BYOT()}}
    stage = dataclasses.replace(tiny_runs.DISTILL, **alone)
    state, diary = tiny_runs.fit(stage, model, teacher=None)
    heads = state.extra["terms"]["byot"].params
    assert heads["exit0"]["shrink"]["conv"]["kernel"].shape == (2, 2, 2, 1, 1)
    said = [np.mean(record["train"]["byot"]) for record in diary.records]
    assert said[-1] < said[0]
    assert set(stages.state_lib.rest(state).params) == {"conv1", "conv2", "classifier"}
