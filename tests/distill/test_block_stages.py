"""Losses of Transformers in whole stages, between ViTs and between other people's networks."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax.distill import (
    TERMS,
    DeiTHard,
    DeiTSoft,
    Lesson,
    Own,
    TinyBERTHidden,
)
from kd_jax.distill.members import adaptive, mean_of_losses
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs, from_linen
from kd_jax.models import ViT
from kd_jax.optim import Optim


def vit(**fields):
    return from_linen(dataclasses.replace(ViT().tiny(), **fields).build(10, jnp.float32))


def teaching(model):
    """A network of some weights, as the teacher of two seeds."""
    inputs = jax.ShapeDtypeStruct((1, *tiny.digits().spec.shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
    wave = lambda x: np.sin(1.7 * np.arange(x.size)).reshape(x.shape)  # noqa: E731
    params = jax.tree.map(lambda x: jnp.asarray(np.stack([wave(x)] * 2), jnp.float32), params)
    return model, tiny_runs.Snapshot(params, {}, jax.tree.map(lambda _: None, params))


def means(diary, name):
    return [float(np.mean(record["train"][name])) for record in diary.records]


STAGE = dataclasses.replace(
    tiny_runs.DISTILL,
    epochs=6,
    hard_weight=0.0,
    optim=Optim(name="adam", learning_rate=0.02),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        # Those of which none holds another back, in one training.
        ("tinybert_hidden", "tinybert_attention", "deit_hard", "deit_soft"),
        *(
            pytest.param(names, marks=pytest.mark.slow)
            for names in (
                ("tinybert_hidden", "deit_hard"),
                ("tinybert_attention", "soft_cross_entropy"),
                ("minilm", "deit_soft"),
            )
        ),
    ],
)
def test_a_shallow_vit_learns_what_a_deep_one_does(names):
    stage = dataclasses.replace(STAGE, terms={name: TERMS[name] for name in names})
    teacher = teaching(vit(depth=3, width=12, distill_token=True))
    state, diary = tiny_runs.fit(stage, vit(depth=1, distill_token=True), teacher=teacher)
    for name in names:
        assert means(diary, name)[-1] < 0.98 * means(diary, name)[0], name
    if "tinybert_hidden" in names:
        kernel = state.extra["terms"]["tinybert_hidden"].params["8_to_12"]["kernel"]
        assert kernel.shape == (2, 8, 12)
        # Nobody taught the first head, neither labels nor a teacher: its bias is as it began.
        assert jnp.all(state.params["classifier"]["bias"] == 0)
        assert jnp.all(state.params["classifier_distill"]["bias"] != 0)


@pytest.mark.parametrize("term", [DeiTHard(), DeiTSoft()])
def test_deit_reads_the_second_head_where_there_is_one(term):
    logits, second, teacher = (jnp.sin(jnp.arange(12.0) + p).reshape(2, 6) for p in (0, 1, 2))
    taught = lambda said: term.evaluate(Own(), lesson(said, Outputs(teacher)))[0]  # noqa: E731
    found = taught(Outputs(logits, {"distill_logits": second}))
    np.testing.assert_array_equal(found, taught(Outputs(second)))
    np.testing.assert_array_equal(found, term(second, teacher, jnp.eye(6)[:2]))
    assert jnp.all(found != taught(Outputs(logits)))
    # And so it does where several teach.
    several = {"members": jnp.stack([teacher, teacher]), "member_weights": jnp.array([0.5, 0.5])}
    given = lesson(Outputs(logits, {"distill_logits": second}), None)
    given = dataclasses.replace(given, **several)
    for combined in (mean_of_losses, adaptive):
        np.testing.assert_allclose(combined(term, given), found, rtol=1e-6)


def lesson(student, teacher):
    nobody = jnp.zeros(2, jnp.int32)
    targets = jnp.eye(6)[:2]
    return Lesson(student, teacher, targets, nobody, nobody, jnp.float32(0), jax.random.key(0))


class Foreign(nn.Module):
    """Somebody's network on patches of 2x2, which shows nothing."""

    depth: int
    width: int

    @nn.compact
    def __call__(self, x, deterministic=True):
        size = (2, 2)
        x = nn.Conv(self.width, size, strides=size, kernel_init=tiny.sines, name="patches")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        for i in range(self.depth):
            y = nn.MultiHeadDotProductAttention(2, kernel_init=tiny.sines, name=f"attend{i}")(x)
            x = nn.LayerNorm(name=f"norm{i}")(x + y)
        return nn.Dense(10, kernel_init=tiny.sines, name="classifier")(jnp.mean(x, axis=1))


@pytest.mark.slow
def test_anybodys_transformers_are_read_by_their_modules():
    taps = {"student_taps": ("attend0", "norm0"), "teacher_taps": ("attend1", "norm1")}
    stage = dataclasses.replace(STAGE, terms={"hidden": TinyBERTHidden(**taps)})
    teacher = teaching(from_linen(Foreign(2, 6)))
    state, diary = tiny_runs.fit(stage, from_linen(Foreign(1, 4)), teacher=teacher)
    assert means(diary, "hidden")[-1] < 0.9 * means(diary, "hidden")[0]
    assert state.extra["terms"]["hidden"].params.keys() == {"4_to_6"}


@pytest.mark.slow
def test_depths_that_do_not_suit_are_refused_before_training():
    stage = dataclasses.replace(STAGE, terms={"it": TinyBERTHidden()})
    with pytest.raises(UsageError, match=r"^terms\.it\.student-taps: the student's 2 blocks"):
        tiny_runs.fit(stage, vit(), teacher=teaching(vit(depth=3)))
