"""Smoothed labels, the virtual teacher, the same network as a teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.config import Distill
from kd_jax.distill import KD, LabelSmoothing, TfKDSelf, TfKDVirtual, cross_entropy
from kd_jax.distill.teacher_free import spread
from kd_jax.errors import UsageError

# (term, mean over the batch, norm of its gradient) at the inputs of `made`, worked out with NumPy.
REFERENCE = [
    (LabelSmoothing(), 4.482306748571528, 0.5276588573971519),
    (LabelSmoothing(over="others"), 4.450500403827383, 0.5196988561072782),
    (TfKDVirtual(), 0.21212417509587878, 0.04367175235441863),
]


def made(dtype=np.float32):
    """Logits [4, 6], one-hot targets [4, 6]."""
    k = np.arange(24.0).reshape(4, 6)
    return jnp.asarray(3 * np.sin(0.7 * k + 0.3), dtype), jnp.asarray(np.eye(6)[[1, 0, 3, 5]])


@pytest.mark.parametrize(("term", "value", "norm"), REFERENCE)
def test_value_and_gradient_by_numpy(term, value, norm):
    with jax.enable_x64(True):
        logits, targets = made(np.float64)
        found, gradient = jax.value_and_grad(lambda z: jnp.mean(term(z, targets)))(logits)
        np.testing.assert_allclose(found, value, rtol=1e-6)
        np.testing.assert_allclose(jnp.linalg.norm(gradient), norm, rtol=1e-6)


def test_the_two_conventions_of_smoothing_differ_in_epsilon_alone():
    logits, targets = made()
    over_all = LabelSmoothing(epsilon=0.3)(logits, targets)
    over_others = LabelSmoothing(epsilon=0.3 * 5 / 6, over="others")(logits, targets)
    np.testing.assert_allclose(over_all, over_others, rtol=1e-6)


@pytest.mark.parametrize("over", ["all", "others"])
def test_without_an_epsilon_it_is_the_cross_entropy(over):
    logits, targets = made()
    plain = cross_entropy(logits, targets)
    np.testing.assert_allclose(LabelSmoothing(epsilon=0.0, over=over)(logits, targets), plain)


def test_what_is_spread_of_mixed_labels_is_a_distribution():
    mixed = jnp.array([[0.3, 0.7, 0.0], [1.0, 0.0, 0.0]])
    expected = [[0.27 + 0.035, 0.63 + 0.015, 0.05], [0.9, 0.05, 0.05]]
    np.testing.assert_allclose(spread(mixed, 0.1), expected, rtol=1e-6)


def test_the_virtual_teacher_is_right_and_hardly_surer_than_chance():
    # Its softmax of probabilities: e^0.99/20 against e^0.0025/20, so the student that says it wins.
    target = jnp.array([[1.0, 0, 0, 0, 0]])
    u = jnp.array([[0.99, 0.0025, 0.0025, 0.0025, 0.0025]]) / 20
    np.testing.assert_allclose(TfKDVirtual()(u, target), 0, atol=1e-7)
    assert TfKDVirtual()(10 * target, target)[0] > 0.5


def test_from_itself_it_is_kd_over_the_number_of_classes():
    student, targets = made()
    whole = KD(temperature=6.0)(student, student[::-1], targets)
    np.testing.assert_allclose(TfKDSelf()(student, student[::-1], targets), whole / 6, rtol=1e-6)


def test_no_teacher_is_needed_but_its_own_labels_are():
    virtual, smoothed = {"v": TfKDVirtual()}, {"s": LabelSmoothing()}
    assert Distill(teacher="", terms=virtual).taught == ()
    Distill(teacher="", terms=smoothed, hard_weight=0.0)
    with pytest.raises(UsageError, match="the term s, which holds the hard labels itself"):
        Distill(teacher="", terms=smoothed, hard_weight=0.1)
    with pytest.raises(UsageError, match="the terms t need one"):
        Distill(teacher="", terms={"t": TfKDSelf()})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LabelSmoothing(epsilon=1.2), r"LabelSmoothing\.epsilon is 1\.2"),
        (lambda: TfKDVirtual(correct=-0.1), r"TfKDVirtual\.correct is -0\.1"),
        (lambda: TfKDVirtual(temperature=0.0), r"TfKDVirtual\.temperature is 0"),
    ],
)
def test_a_bad_value_is_refused_by_name(build, message):
    with pytest.raises(UsageError, match=message):
        build()
