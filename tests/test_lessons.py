"""Terms that read features and carry parameters of their own, in whole stages."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import pieces
from kd_jax.distill import AT, CRD, KD, OFD, SRRL, FitNet
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen


class Foreign(nn.Module):
    """Somebody's network, which returns logits alone."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(5, (3, 3), kernel_init=tiny.sines, name="first")(x))
        x = nn.relu(nn.Conv(4, (3, 3), strides=2, kernel_init=tiny.sines, name="second")(x))
        return nn.Dense(10, kernel_init=tiny.sines, name="classifier")(jnp.mean(x, axis=(1, 2)))


FOREIGN = from_linen(Foreign())
HINT = FitNet(student_taps=("conv",), teacher_taps=("second",))
STAGE = dataclasses.replace(tiny_runs.DISTILL, epochs=3, terms={"kd": KD(), "hint": HINT})


class Staged(nn.Module):
    """A network with stages that go by the usual names."""

    width: int

    @nn.compact
    def __call__(self, x, train=False):
        features = {}
        for i in (1, 2):
            conv = nn.Conv(self.width, (3, 3), strides=i, kernel_init=tiny.sines, name=f"conv{i}")
            features[f"stage{i}_pre"] = conv(x)
            features[f"stage{i}"] = x = nn.relu(features[f"stage{i}_pre"])
        features["pooled"] = jnp.mean(x, axis=(1, 2))
        dense = nn.Dense(10, kernel_init=tiny.sines, name="classifier")
        return dense(features["pooled"]), features


STAGED, WIDER = from_linen(Staged(4)), from_linen(Staged(6))


def foreign(seeds=2, model=FOREIGN):
    x = jnp.zeros((1, *tiny.digits().train.inputs.shape[1:]))
    params = model.init(jax.random.key(3), x)["params"]
    params = jax.tree.map(lambda x: jnp.stack([x] * seeds), params)
    return model, tiny_runs.Snapshot(params, {}, jax.tree.map(lambda _: None, params))


@pytest.mark.slow
def test_hints_between_modules_of_networks_that_return_no_features():
    state, diary = tiny_runs.fit(STAGE, tiny.convnet(), teacher=foreign())
    hints = [np.mean(record["train"]["hint"]) for record in diary.records]
    assert hints[-1] < 0.9 * hints[0]
    regressor = state.extra["terms"]["hint"].params["regressor0"]
    assert regressor["conv"]["kernel"].shape == (2, 3, 3, 6, 4)  # a map twice as large: stride 2
    assert jnp.all(jnp.max(jnp.abs(regressor["norm"]["bias"]), axis=-1) > 0)
    assert state.extra["terms"].keys() == {"hint"}  # nothing is carried for kd


@pytest.mark.slow
def test_what_a_term_carries_goes_on_where_a_run_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)
    given = {"model": tiny.convnet(), "teacher": foreign()}
    whole, _ = tiny_runs.fit(STAGE, **given)
    state, _, diary = tiny_runs.stop_and_go_on(tmp_path, 10, "quit", STAGE, **given)
    assert diary.began == [("", 12, 9)]
    assert not tiny.differences(state, whole)


@pytest.mark.slow
def test_pruning_leaves_what_terms_carry_alone():
    prune = dataclasses.replace(tiny_runs.PRUNE, ema=None, terms={"hint": HINT})
    state, _ = tiny_runs.fit(prune, tiny.convnet(), teacher=foreign())
    kernel = state.extra["terms"]["hint"].params["regressor0"]["conv"]["kernel"]
    assert jnp.all(kernel != 0)
    assert jnp.mean(state.params["conv"]["kernel"] == 0) > 0.5


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (FitNet(), "terms.it.student-taps: the student has no feature that is the end of the sec"),
        (
            AT(student_taps=("conv",), teacher_taps=("first", "second")),
            "teacher's first, second",
        ),
        (AT(student_taps=("cnv",), teacher_taps=("first",)), "student-taps cnv: the student has n"),
        (AT(student_taps=("conv",), teacher_taps=("x/y",)), "teacher-taps x/y: the teacher has ne"),
        (
            AT(student_taps=("classifier",), teacher_taps=("first",)),
            "student-taps classifier: it",
        ),
    ],
)
def test_features_that_do_not_suit_are_refused_before_training(term, message):
    stage = dataclasses.replace(STAGE, terms={"it": term})
    with pytest.raises(UsageError, match=message):
        tiny_runs.fit(stage, tiny.convnet(), teacher=foreign())


@pytest.mark.slow
def test_published_features_are_found_by_their_names_in_each_step():
    terms = {"hint": FitNet(), "ofd": OFD(), "crd": CRD(dim=4, negatives=16)}
    stage = dataclasses.replace(STAGE, epochs=1, terms=terms)
    state, diary = tiny_runs.fit(stage, STAGED, teacher=foreign(model=WIDER))
    assert all(np.all(np.isfinite(diary.records[-1]["train"][name])) for name in terms)
    carried = state.extra["terms"]
    assert carried["hint"].params["regressor0"]["conv"]["kernel"].shape == (2, 1, 1, 4, 6)
    assert jnp.all(carried["ofd"].state["negative1"]["count"] > 0)
    # Ids are rows of the memory: those of the training examples have moved, the others have not.
    ids = tiny.digits().train.ids
    lengths = jnp.linalg.norm(carried["crd"].state["student"][0], axis=-1)
    assert lengths.size == np.max(ids) + 1
    np.testing.assert_allclose(lengths[ids], 1, rtol=1e-5)
    rest = np.setdiff1d(np.arange(lengths.size), ids)
    assert not np.any(np.isclose(lengths[rest], 1, rtol=1e-5))


def test_what_the_networks_parameters_lack_is_told_by_the_terms_flag():
    stage = dataclasses.replace(STAGE, terms={"it": SRRL(teacher_classifier="head")})
    with pytest.raises(
        UsageError, match=r"^terms\.it\.teacher-classifier head: there is no linear"
    ):
        tiny_runs.fit(stage, STAGED, teacher=foreign(model=WIDER))


def test_features_can_not_be_replayed():
    with pytest.raises(UsageError, match="replay float16 keeps logits alone, and the terms hint"):
        dataclasses.replace(STAGE, replay="float16")


@pytest.mark.slow
def test_a_scheduled_term_teaches_nothing_before_it_begins():
    alone = dataclasses.replace(STAGE, terms={"kd": KD()})
    later = dataclasses.replace(
        STAGE, terms={"kd": KD(), "hint": dataclasses.replace(HINT, start=9)}
    )
    given = {"model": tiny.convnet(), "teacher": foreign()}
    first, second = (tiny_runs.fit(stage, **given)[0] for stage in (alone, later))
    for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
