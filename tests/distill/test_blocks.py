"""Losses of hidden states, attention and values of Transformers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.distill import TERMS, Lesson, MiniLM, Own, TinyBERTAttention, TinyBERTHidden
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs

BATCH, HEADS, TOKENS = 2, 2, 3


def wave(step, phase, *shape):
    return 2 * np.sin(step * np.arange(math.prod(shape)) + phase).reshape(shape)


def transformer(depth, width, phase=0.0, heads=HEADS, tokens=TOKENS):
    """What a Transformer shows, all of it different."""
    features = {"stem": wave(0.37, phase, BATCH, tokens, width)}
    for i in range(1, depth + 1):
        features[f"stage{i}"] = wave(0.41, phase + i, BATCH, tokens, width)
        features[f"attention{i}_scores"] = wave(0.53, phase + i, BATCH, heads, tokens, tokens)
        each = BATCH, heads, tokens, width // heads
        features[f"attention{i}_values"] = wave(0.61, phase + i, *each)
    return Outputs(jnp.zeros((BATCH, 4)), features)


STUDENT, TEACHER = transformer(2, 4), transformer(4, 6, 0.7)


def lesson(student, teacher):
    nothing = jnp.zeros(BATCH, jnp.int32)
    key = jax.random.key(0)
    return Lesson(student, teacher, jnp.eye(4)[:BATCH], nothing, nothing, jnp.float32(0), key)


def checked(term, student=STUDENT, teacher=TEACHER, params=None):
    """The value [B] in float64, whose derivative, when the student's features grow in proportion,
    is that of differences."""
    with jax.enable_x64(True):
        student, teacher = jax.tree.map(jnp.asarray, (student, teacher))
        own = Own(params=jax.tree.map(jnp.asarray, params or {}))

        def f(scale):
            features = jax.tree.map(lambda x: x * scale, student.features)
            said = dataclasses.replace(student, features=features)
            return term.evaluate(own, lesson(said, teacher))[0]

        value, slope = jax.jvp(f, (jnp.float64(1),), (jnp.float64(1),))
        differences = (f(1 + 1e-5) - f(1 - 1e-5)) / 2e-5
        np.testing.assert_allclose(slope, differences, rtol=1e-6)
        return value


def test_hidden_states_by_hand():
    # Depths 2 and 4: embeddings and blocks 1, 2 learn from embeddings and blocks 2, 4.
    kernel, bias = wave(0.3, 0.2, 4, 6), wave(0.9, 0.1, 6)
    expected = np.zeros(BATCH)
    for ours, theirs in (("stem", "stem"), ("stage1", "stage2"), ("stage2", "stage4")):
        for b, n in np.ndindex(BATCH, TOKENS):
            mapped = STUDENT.features[ours][b, n] @ kernel + bias
            square = np.sum((mapped - TEACHER.features[theirs][b, n]) ** 2)
            expected[b] += square / (TOKENS * 6)
    found = checked(TinyBERTHidden(), params={"4_to_6": {"kernel": kernel, "bias": bias}})
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_papers_embeddings_have_a_map_of_their_own():
    maps = {"embeddings_4_to_6": wave(0.3, 0.2, 4, 6), "4_to_6": wave(0.4, 0.8, 4, 6)}
    expected = np.zeros(BATCH)
    for ours, theirs in (("stem", "stem"), ("stage1", "stage2"), ("stage2", "stage4")):
        kernel = maps["embeddings_4_to_6" if ours == "stem" else "4_to_6"]
        difference = STUDENT.features[ours] @ kernel - TEACHER.features[theirs]
        expected += np.mean(difference**2, axis=(1, 2))
    params = {name: {"kernel": kernel} for name, kernel in maps.items()}
    found = checked(TinyBERTHidden(form="paper"), params=params)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def begin(term, student=STUDENT, teacher=TEACHER):
    return term.init(jax.random.key(0), student, teacher, jnp.zeros(0, jnp.int32)).params


def test_maps_are_shared_where_widths_are_the_same():
    code, paper = (
        jax.tree.map(jnp.shape, begin(term))
        for term in (TinyBERTHidden(), TinyBERTHidden(form="paper"))
    )
    assert code == {"4_to_6": {"kernel": (4, 6), "bias": (6,)}}
    assert paper == {"embeddings_4_to_6": {"kernel": (4, 6)}, "4_to_6": {"kernel": (4, 6)}}
    wider = dict(STUDENT.features, stage2=np.zeros((BATCH, TOKENS, 8)))
    assert begin(TinyBERTHidden(), Outputs(STUDENT.logits, wider)).keys() == {"4_to_6", "8_to_6"}


def test_attention_scores_by_hand():
    # One of the student's and one of the teacher's are masked; they count as 0, without a gradient.
    student, teacher = transformer(1, 4), transformer(3, 6, 0.7)
    student.features["attention1_scores"][1, 0, 2, 1] = -1e4
    teacher.features["attention3_scores"][0, 1, 0, 0] = -100
    expected = np.zeros(BATCH)
    for b in range(BATCH):
        for place in np.ndindex(HEADS, TOKENS, TOKENS):
            a_s = student.features["attention1_scores"][b][place]
            a_t = teacher.features["attention3_scores"][b][place]  # block 1 learns from block 1·3
            a_s, a_t = (0 if a <= -100 else a for a in (a_s, a_t))
            expected[b] += (a_s - a_t) ** 2 / (HEADS * TOKENS * TOKENS)
    found = checked(TinyBERTAttention(), student, teacher)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_minilm_by_hand():
    softmax = lambda x: np.exp(x) / np.sum(np.exp(x))  # noqa: E731
    divergence = lambda p, q: np.sum(p * np.log(p / q))  # noqa: E731
    expected = np.zeros(BATCH)
    for b, h, n in np.ndindex(BATCH, HEADS, TOKENS):
        said = []
        for features, last, width in ((STUDENT.features, 2, 4), (TEACHER.features, 4, 6)):
            values = features[f"attention{last}_values"][b, h]
            relation = values @ values[n] / np.sqrt(width / HEADS)
            scores = features[f"attention{last}_scores"][b, h, n]
            said.append((softmax(scores), softmax(relation)))
        (a_s, r_s), (a_t, r_t) = said
        expected[b] += (divergence(a_t, a_s) + divergence(r_t, r_s)) / (HEADS * TOKENS)
    np.testing.assert_allclose(checked(MiniLM()), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["tinybert_attention", "minilm"])
def test_nothing_is_left_to_learn_from_an_equal(name):
    teacher = jax.tree.map(jnp.float32, TEACHER)
    value = lambda said: TERMS[name].evaluate(Own(), lesson(said, teacher))[0].sum()  # noqa: E731
    found, gradient = jax.value_and_grad(value)(teacher)
    assert abs(found) < 1e-6
    assert max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(gradient)) < 1e-6


def test_minilm_hears_relations_alone():
    """Adding to all the scores of a token, or turning all values of a head, changes nothing."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    features = dict(STUDENT.features)
    features["attention2_scores"] = features["attention2_scores"] + wave(1.0, 0.0, 2, 2, 3, 1)
    features["attention2_values"] = features["attention2_values"] @ turn
    turned = Outputs(STUDENT.logits, features)
    with jax.enable_x64(True):
        values = [MiniLM().evaluate(Own(), lesson(said, TEACHER))[0] for said in (turned, STUDENT)]
    np.testing.assert_allclose(*values, rtol=1e-10)


def test_masked_tokens_of_both_stay_finite():
    """Scores of −∞ are what a mask leaves of tokens that nobody attends to."""
    masked = []
    for said in (STUDENT, TEACHER):
        features = {
            name: np.where(np.arange(TOKENS) == 1, -np.inf, x) if name.endswith("scores") else x
            for name, x in said.features.items()
        }
        masked.append(jax.tree.map(jnp.float32, Outputs(said.logits, features)))
    for term in (MiniLM(), TinyBERTAttention()):
        value = lambda said, t=term: t.evaluate(Own(), lesson(said, masked[1]))[0].sum()  # noqa: E731
        found, gradient = jax.value_and_grad(value)(masked[0])
        assert jnp.isfinite(found)
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradient.features))


def scores(*blocks):
    return [f"attention{i}_scores" for i in blocks]


def hidden(*blocks):
    return ["stem", *(f"stage{i}" for i in blocks)]


NAMED = TinyBERTHidden(student_taps=("stage2",), teacher_taps=("stage4",))
LAST = {depth: [f"attention{depth}_scores", f"attention{depth}_values"] for depth in (2, 5)}


@pytest.mark.parametrize(
    ("term", "depths", "of_student", "of_teacher"),
    [
        (TinyBERTHidden(), (2, 6), hidden(1, 2), hidden(3, 6)),
        (TinyBERTHidden(), (3, 3), hidden(1, 2, 3), hidden(1, 2, 3)),
        (TinyBERTAttention(), (2, 6), scores(1, 2), scores(3, 6)),
        (MiniLM(), (2, 5), LAST[2], LAST[5]),
        # Named ones win, also where the depths would not suit.
        (NAMED, (2, 5), ["stage2"], ["stage4"]),
        (TinyBERTAttention(teacher_taps=tuple(scores(1, 2))), (2, 5), scores(1, 2), scores(1, 2)),
    ],
)
def test_which_blocks_learn_from_which(term, depths, of_student, of_teacher):
    names = term.reads(transformer(depths[0], 4), transformer(depths[1], 6))
    assert names == (of_student, of_teacher)


SCORES = ("attention2_scores", "attention2_values")
BARE = Outputs(STUDENT.logits, {"stage1": STUDENT.features["stage1"]})


@pytest.mark.parametrize(
    ("term", "student", "message"),
    [
        (TinyBERTHidden(), transformer(3, 4), "student-taps: the student's 3 blocks .* 4: take a"),
        (TinyBERTAttention(), transformer(8, 4), "student-taps: the student's 8 blocks can't be s"),
        (
            TinyBERTHidden(),
            transformer(2, 4, tokens=4),
            "student-taps stem: it has 4 tokens, and the teacher's stem 3: both must .*patch",
        ),
        (
            TinyBERTAttention(),
            transformer(2, 4, heads=4),
            "student-taps attention1_scores: it has 4 heads, and the teacher's attention2_scores 2:"
            " give the student as many heads",
        ),
        (TinyBERTHidden(), BARE, "student-taps: the student has no feature that is the stem and"),
        (TinyBERTAttention(), BARE, "student-taps: the student has no .* a block's attention sco"),
        (
            MiniLM(),
            BARE,
            "student-taps: .* is the last block's attention scores and its values; na",
        ),
        (
            MiniLM(student_taps=("stage1", "stage2"), teacher_taps=SCORES),
            STUDENT,
            r"student-taps stage1: it is of shape \(2, 3, 4\), and this loss needs \[batch, heads",
        ),
        (
            MiniLM(student_taps=SCORES[::-1], teacher_taps=SCORES),
            STUDENT,
            "student-taps attention2_values: it is of shape .* needs attention scores",
        ),
        (
            MiniLM(student_taps=SCORES[:1], teacher_taps=SCORES[:1]),
            STUDENT,
            "student-taps attention2_scores: name two of each network",
        ),
        (
            TinyBERTAttention(student_taps=SCORES[:1], teacher_taps=SCORES[1:]),
            STUDENT,
            "teacher-taps attention2_values: it is of shape .* needs attention scores",
        ),
    ],
)
def test_networks_that_do_not_suit_are_refused(term, student, message):
    teacher = transformer(4, 4)
    with pytest.raises(UsageError, match=f"^{message}"):
        begin(term, student, teacher)
